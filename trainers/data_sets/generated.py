"""Scenes of RS-World, the generated world, as a data set: no file needed."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from PIL import Image

from ...processing.prompts_unirs import DEFAULT_INSTRUCTIONS, ERA_CLASSES
from ..rows import Row, conversation, image_items, task_of, video_item
from ..scene_questions import QuestionAnswer
from ..scene_tasks import (
    HELD_OUT_SEED,
    TEST_SEED,
    SceneSample,
    clip_sample,
    pair_captions,
    pair_sample,
    sequence_sample,
    single_sample,
)
from .errors import DataError
from .files import check_split

Kind = Literal["single", "pair", "video", "sequence"]
Split = Literal["train", "validation", "test"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FIRST_SEEDS: dict[Split, int] = {"train": 0, "validation": HELD_OUT_SEED, "test": TEST_SEED}
ERA_NAMES = {name.lower(): name for name in ERA_CLASSES}


def draw_sample(kind: Kind, seed: int, size: int, frames: int) -> SceneSample:
    if kind == "video":
        return clip_sample(seed, size, frames)
    return {"single": single_sample, "pair": pair_sample, "sequence": sequence_sample}[kind](seed, size)


def questions_of(sample: SceneSample) -> list[QuestionAnswer]:
    """All questions that a sample answers; a clip's class is asked and spelt as the paper does for ERA."""
    if sample.task != "video":
        return list(sample.questions)
    name = ERA_NAMES[sample.label]
    return [QuestionAnswer(DEFAULT_INSTRUCTIONS["video"], name, "clip_class", (name,))]


class Generated:
    """Generated scenes (docs/rs_world.md), drawn from their seeds when they are asked for.

    - Source: made here; no terms.
    - Pictures: RGB, `size` pixels; one (single), two dates (pair), four dates (sequence) or `frames` of a moving
      camera (video).
    - Labels: four to eight questions with answers (single), five captions and whether anything changed (pair), five
      captions and between which dates (sequence), one of 25 classes, of which ten occur (video).
    - Splits: train = seeds from 0; validation = from 1,000,000, drawn alike; test = from 2,000,000, where roads,
      parcels, water and woods lie as they never do in the others.

    Args:
        kind: "single", "pair", "video" or "sequence".
        count: Samples.
        split: "train", "validation" or "test".
    """

    def __init__(self, kind: Kind, count: int = 1000, split: Split = "train", size: int = 256, frames: int = 8):
        if kind not in KINDS:
            raise DataError(f"generated: there are {', '.join(KINDS)} scenes, not {kind!r}")
        check_split("generated", split, list(FIRST_SEEDS))
        if not 1 <= count <= HELD_OUT_SEED:
            raise DataError(f"generated: count is {count}; 1 to {HELD_OUT_SEED} are there")
        self.kind: Kind = kind
        self.count, self.size, self.frames = count, size, frames
        self.first = FIRST_SEEDS[split]
        self.name = f"generated_{kind}"

    def __len__(self) -> int:
        return self.count

    def row(self, index: int, repetition: int = 0) -> Row:
        """Sample `index` with all its questions: those of a single picture in another order at each repetition,
        captions with another of their five references."""
        seed = self.first + index
        sample = draw_sample(self.kind, seed, self.size, self.frames)
        visuals = video_item(list(sample.images)) if self.kind == "video" else image_items(sample.images)
        turns = [(one.question, one.references[repetition % len(one.references)]) for one in questions_of(sample)]
        if self.kind == "single":
            order = np.random.default_rng((seed, repetition)).permutation(len(turns))
            turns = [turns[place] for place in order]
        messages = conversation(visuals, turns)
        return {"id": f"{self.name}-{seed}", "task": task_of(messages), "messages": messages}

    def pair(self, index: int) -> tuple[Image.Image, Image.Image]:
        """Both dates of a pair."""
        before, after = pair_sample(self._pair_seed(index), self.size).images
        return before, after

    def captions(self, index: int) -> list[str]:
        """All five captions of a pair."""
        return list(pair_captions(self._pair_seed(index))[1])

    def changed(self, index: int) -> bool:
        return pair_captions(self._pair_seed(index))[0]

    def _pair_seed(self, index: int) -> int:
        if self.kind != "pair":
            raise DataError(f"{self.name}: has no pairs; only kind 'pair' has")
        return self.first + index
