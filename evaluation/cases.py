"""Single samples to look at: the worst and some at random."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from .captions import normalise
from .cider import CiderD
from .classes import letters, named_class
from .questions import is_right
from .samples import Benchmark, Sample

SEED = 0


@dataclass(frozen=True)
class Case:
    """A sample with its answer and its mark: 1 or 0, or for captions the CIDEr-D (times 100) of the pair."""

    sample: Sample
    answer: str
    mark: float


def worst_and_random(benchmark: Benchmark, answers: Sequence[str], count: int) -> tuple[list[Case], list[Case]]:
    """The worst samples (wrong ones, or captions with the lowest CIDEr-D) and others at random, the same at each call.

    Args:
        answers: One for each sample.
        count: How many of each, at most.
    """
    marks = _marks(benchmark, answers)
    cases = [Case(*one) for one in zip(benchmark.samples, answers, marks, strict=True)]
    shuffled = random.Random(SEED).sample(cases, len(cases))
    # The worst are often many with the same mark; among these chance decides.
    worst = sorted(shuffled, key=lambda case: case.mark)[:count]
    if benchmark.scoring != "captions":
        worst = [case for case in worst if not case.mark]
    chosen = {case.sample.id for case in worst}
    return worst, [case for case in shuffled if case.sample.id not in chosen][:count]


def _marks(benchmark: Benchmark, answers: Sequence[str]) -> list[float]:
    samples = benchmark.samples
    if benchmark.scoring == "captions":
        cider = CiderD([[normalise(caption) for caption in sample.references] for sample in samples])
        return cider.scores([normalise(answer) for answer in answers]).tolist()
    if benchmark.scoring == "vqa":
        return [
            float(any(is_right(answer, truth) for truth in sample.references))
            for sample, answer in zip(samples, answers, strict=True)
        ]
    names = [named_class(answer, benchmark.classes)[0] for answer in answers]
    return [
        float(name is not None and letters(name) == letters(sample.references[0]))
        for sample, name in zip(samples, names, strict=True)
    ]
