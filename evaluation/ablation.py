"""Which arm of the paper's ablation of clues a run is (table X): in training, at inference, in both, in none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from ..trainers import collator
from ..trainers.rows import items_of
from .samples import Benchmark

ARMS = {
    (False, False): "none",
    (False, True): "at inference only",
    (True, False): "in training only",
    (True, True): "in training and at inference",
}


def arm_of(model: str, at_inference: bool) -> str:
    """In words, by the `training.json` that `unirs train` leaves beside the weights."""
    try:
        trained = json.loads((Path(model) / "training.json").read_text(encoding="utf-8")).get("clues")
    except (OSError, ValueError, AttributeError):
        trained = None
    if not isinstance(trained, bool):
        return f"{'at inference' if at_inference else 'not at inference'}; of the training it is not known"
    return ARMS[trained, at_inference]


def without_clues(benchmark: Benchmark) -> Benchmark:
    """The same questions without the clues that rows carry."""
    samples = [replace(one, messages=collator.without_clues(one.messages)) for one in benchmark.samples]
    return replace(benchmark, samples=samples)


def all_have_clues(benchmark: Benchmark) -> bool:
    return all(items_of(one.messages, "clue") for one in benchmark.samples)
