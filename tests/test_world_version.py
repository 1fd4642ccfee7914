"""What version 3 of RS-World says and shows. Whoever must change these values must raise WORLD_VERSION with them:
scores, trained weights and runs of `unirs reproduce` name the version that they belong to."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from unirs.trainers.scene_tasks import (
    HELD_OUT_SEED,
    TEST_SEED,
    WORLD_VERSION,
    clip_sample,
    pair_sample,
    sequence_sample,
    single_sample,
)

from tests.scene_samples import SIZE

SEEDS = [first + number for first in (0, HELD_OUT_SEED, TEST_SEED) for number in range(4)]
LEVELS = 2  # of 255, by which another processor's arithmetic may move a mean
# SHA-256 of the words of SEEDS; mean colours of the quarters of the last picture of the test split's first seed.
RECORDED = {
    "single_sample": (
        "42c890be3e3a50d5b22737e63762d252b4ab56e4ad6bb46342214fea10094047",
        [114, 110, 87, 112, 110, 80, 108, 109, 79, 116, 106, 83],
    ),
    "pair_sample": (
        "a6863d21df45e135b767efa1e106766d1fd3fce7895b410bbf95751c69788eec",
        [101, 99, 90, 96, 95, 86, 116, 112, 108, 116, 112, 106],
    ),
    "clip_sample": (
        "829ecdf27648312c5a8d203ea6e2e21a9411407b4d0642fc7213257e9cefabd0",
        [97, 98, 80, 94, 96, 79, 99, 99, 80, 98, 99, 81],
    ),
    "sequence_sample": (
        "cc5b927f4d69549896bd8760ea694aecc1b194391a5c4a64470329863e028615",
        [118, 115, 106, 90, 90, 79, 140, 134, 125, 107, 102, 91],
    ),
}


@pytest.mark.parametrize(
    "make", [single_sample, pair_sample, clip_sample, sequence_sample], ids=lambda make: make.__name__
)
def test_words_and_colours_are_those_recorded_of_this_version(make):
    assert WORLD_VERSION == 3
    words, colours = RECORDED[make.__name__]
    samples = [make(seed, SIZE) for seed in SEEDS]
    told = [
        [sample.label, sample.clue, [[one.question, one.answer, list(one.references)] for one in sample.questions]]
        for sample in samples
    ]
    assert hashlib.sha256(json.dumps(told).encode()).hexdigest() == words
    shown = np.asarray(make(TEST_SEED, SIZE).images[-1], float)
    half = SIZE // 2
    quarters = shown.reshape(2, half, 2, half, 3).mean((1, 3)).reshape(-1)  # (rows, columns, channels)
    assert np.abs(quarters - colours).max() <= LEVELS
