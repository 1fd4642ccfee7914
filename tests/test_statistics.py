"""Intervals against closed forms and printed values."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unirs.evaluation.statistics import auc, bootstrap_mean, majority, wilson


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [
        (8, 10, 0.4902, 0.9433),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (50, 100, 0.4038, 0.5962),
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilson_gives_the_printed_values(right, count, low, high):
    assert wilson(right, count) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@given(st.integers(1, 10**5).flatmap(lambda count: st.tuples(st.integers(0, count), st.just(count))))
def test_ends_of_wilson_are_where_the_score_test_turns(case):
    """At both ends p the observed share lies 1.96 standard deviations of p away; that defines the interval."""
    right, count = case
    low, high = wilson(right, count)
    assert 0 <= low <= right / count <= high <= 1
    for end in (low, high):
        if 0 < end < 1:
            distance = abs(right / count - end) / math.sqrt(end * (1 - end) / count)
            assert distance == pytest.approx(1.959964, rel=1e-5)


def test_impossible_shares_are_refused():
    with pytest.raises(ValueError, match="11 right of 10"):
        wilson(11, 10)


def test_bootstrap_of_many_values_agrees_with_the_normal_interval_and_repeats():
    values = np.random.default_rng(1).exponential(size=4000)
    low, high = bootstrap_mean(values)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert (low, high) == (
        pytest.approx(values.mean() - half, abs=0.1 * half),
        pytest.approx(values.mean() + half, abs=0.1 * half),
    )
    assert bootstrap_mean(values) == (low, high)
    assert bootstrap_mean([3.0, 3.0]) == (3, 3)


def test_of_equally_common_answers_the_first_in_the_alphabet_is_the_majority():
    assert majority(["yes", "no", "no", "yes", "two"]) == ("no", 2)


def test_auc_counts_the_pairs_that_are_in_order():
    """By hand, and against all pairs one by one."""
    assert auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])) == 0.75
    assert auc(np.array([1, 1, 1.0]), np.array([True, False, False])) == 0.5
    rng = np.random.default_rng(0)
    scores, truth = rng.integers(0, 9, 200), rng.random(200) < 0.3
    above = scores[truth][:, None] - scores[~truth]
    assert auc(scores, truth) == pytest.approx(np.mean((above > 0) + 0.5 * (above == 0)))
    with pytest.raises(ValueError, match="both"):
        auc(scores, truth | True)
