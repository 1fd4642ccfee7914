"""What version 3 of RS-World says and shows, beside a record of it.

Whoever must change the record raises WORLD_VERSION with it, unless numpy draws other numbers for a seed: scores,
trained weights and runs of `unirs reproduce` name the version that they belong to. The record is written anew by
`python tests/test_world_version.py`.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from unirs.trainers.scene_tasks import (
    HELD_OUT_SEED,
    TEST_SEED,
    WORLD_VERSION,
    SceneSample,
    clip_sample,
    pair_sample,
    sequence_sample,
    single_sample,
)
from unirs.trainers.tiny_data import FRAMES, SIZE

MAKERS = {
    "single": lambda seed: single_sample(seed, SIZE),
    "pair": lambda seed: pair_sample(seed, SIZE),
    "video": lambda seed: clip_sample(seed, SIZE, FRAMES),
    "sequence": lambda seed: sequence_sample(seed, SIZE),
}
SEEDS = [first + number for first in (0, HELD_OUT_SEED, TEST_SEED) for number in range(4)]
RECORD = Path(__file__).with_name(f"world_version_{WORLD_VERSION}.json")
CELLS = 6  # a side, whose mean greys are recorded
LEVELS = 1.5  # of 255, by which another processor's arithmetic may move such a mean


def words(sample: SceneSample) -> str:
    """The first digits of a SHA-256 of all that is said."""
    asked = [[one.question, one.answer, *one.references] for one in (*sample.questions, *sample.more)]
    return hashlib.sha256(json.dumps([sample.label, sample.clue, asked]).encode()).hexdigest()[:12]


def greys(sample: SceneSample) -> list[int]:
    """Mean greys of the cells of the first and the last picture."""
    shown = np.stack([np.asarray(sample.images[place], float).mean(-1) for place in (0, -1)])
    side = SIZE // CELLS
    return shown.reshape(2, CELLS, side, CELLS, side).mean((2, 4)).round().astype(int).ravel().tolist()


def changed(sample: SceneSample) -> int:
    """Changed pixels."""
    return 0 if sample.change_mask is None else int(np.asarray(sample.change_mask).sum())


def record(task: str) -> dict[str, dict[str, Any]]:
    samples = {seed: MAKERS[task](seed) for seed in SEEDS}
    return {
        str(seed): {"words": words(one), "changed": changed(one), "greys": greys(one)} for seed, one in samples.items()
    }


@pytest.mark.parametrize("task", MAKERS)
def test_words_changes_and_greys_are_those_recorded_of_this_version(task):
    recorded, found = json.loads(RECORD.read_text())[task], record(task)
    assert {seed: one["words"] for seed, one in found.items()} == {
        seed: one["words"] for seed, one in recorded.items()
    }
    for seed, one in found.items():
        assert one["changed"] == pytest.approx(recorded[seed]["changed"], rel=0.01)
        assert np.abs(np.subtract(one["greys"], recorded[seed]["greys"])).max() <= LEVELS


if __name__ == "__main__":
    RECORD.write_text(json.dumps({task: record(task) for task in MAKERS}) + "\n")
