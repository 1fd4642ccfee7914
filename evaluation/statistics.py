"""How sure a score is, and what it is worth beside an answer that needs no picture."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import NormalDist

import numpy as np

CONFIDENCE = 0.95
RESAMPLES, SEED = 1000, 0


def wilson(right: int, count: int) -> tuple[float, float]:
    """95 % interval of a share by Wilson (1927): unlike share +- 1.96 sd it stays within 0..1 and is true for few.

    Of nothing, everything is possible: `(0, 1)`.
    """
    if not 0 <= right <= count:
        raise ValueError(f"{right} right of {count} is no share")
    if count == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    share, spread = right / count, z * z / count
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(share * (1 - share) * spread + spread * spread / 4) / (1 + spread)
    # At both ends the interval touches the share; rounding must not push it past.
    return (0.0 if right == 0 else middle - half), (1.0 if right == count else middle + half)


def bootstrap_mean(values: Sequence[float] | np.ndarray, resamples: int = RESAMPLES) -> tuple[float, float]:
    """95 % percentile interval of the mean under resampling of the samples; the same at every call.

    Args:
        values: One score for each sample, `(samples,)`.
    """
    values = np.asarray(values, float)
    if not len(values):
        raise ValueError("there is nothing to resample")
    rng = np.random.default_rng(SEED)
    # One resample at a time: all at once would be 800 MB for 100,000 questions.
    means = [values[rng.integers(len(values), size=len(values))].mean() for _ in range(resamples)]
    low, high = np.quantile(means, [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2])
    return float(low), float(high)


def bootstrap_ratio(
    points: Sequence[float] | np.ndarray, chances: Sequence[float] | np.ndarray, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """95 % percentile interval of sum(points) / sum(chances) under resampling of the samples; the same at every call.

    For samples that are asked several questions each: answers about one picture are no independent draws.

    Args:
        points: Right answers of each sample, `(samples,)`.
        chances: Questions of each sample, `(samples,)`, all above zero.
    """
    points, chances = np.asarray(points, float), np.asarray(chances, float)
    if not len(points):
        raise ValueError("there is nothing to resample")
    rng = np.random.default_rng(SEED)
    drawn = [rng.integers(len(points), size=len(points)) for _ in range(resamples)]
    shares = [points[rows].sum() / chances[rows].sum() for rows in drawn]
    low, high = np.quantile(shares, [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2])
    return float(low), float(high)


def auc(scores: np.ndarray, truth: np.ndarray) -> float:
    """Area under the ROC curve: the chance that what is true scores above what is not, ties counting half.

    Args:
        scores: `(samples,)`.
        truth: `(samples,)`, bool, of both kinds.
    """
    if truth.all() or not truth.any():
        raise ValueError("an AUC needs both what is true and what is not")
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2  # mean rank of each value
    many = int(truth.sum())
    return float((ranks[places][truth].sum() - many * (many + 1) / 2) / (many * (truth.size - many)))


def majority(answers: Iterable[str]) -> tuple[str, int]:
    """The commonest answer and how often it is given; of equally common ones the first in the alphabet."""
    counts = Counter(answers)
    if not counts:
        raise ValueError("there are no answers to count")
    return min(counts.items(), key=lambda item: (-item[1], item[0]))
