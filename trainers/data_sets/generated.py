"""Scenes of the generated world as a data set: no file needed."""

from __future__ import annotations

from typing import Literal

import numpy as np
from PIL import Image

from ...processing.prompts_unirs import DEFAULT_INSTRUCTIONS, ERA_CLASSES
from ..rows import Row, conversation, image_items, video_item
from ..scene_tasks import HELD_OUT_SEED, clip_sample, pair_captions, pair_sample, single_sample
from .errors import DataError

ERA_NAMES = {name.lower(): name for name in ERA_CLASSES}


class Generated:
    """Generated scenes (scene_tasks.py), drawn from their seeds when they are asked for.

    - Source: made here; no terms.
    - Pictures: RGB, `size` pixels; one (single), two dates (pair) or `frames` of a moving camera (video).
    - Labels: three to six questions with answers (single), five captions (pair), one of 25 classes (video).
    - Splits: train = seeds from 0, held out = seeds from 1,000,000.

    Args:
        kind: "single", "pair" or "video".
        count: Samples.
        split: "train" or "test".
    """

    def __init__(
        self,
        kind: Literal["single", "pair", "video"],
        count: int = 1000,
        split: Literal["train", "test"] = "train",
        size: int = 256,
        frames: int = 8,
    ):
        if kind not in ("single", "pair", "video"):
            raise DataError(f"generated: there are single, pair and video scenes, not {kind!r}")
        if split not in ("train", "test"):
            raise DataError(f"generated: the splits are train and test, not {split!r}")
        if not 1 <= count <= HELD_OUT_SEED:
            raise DataError(f"generated: count is {count}; 1 to {HELD_OUT_SEED} are there")
        self.kind, self.count, self.size, self.frames = kind, count, size, frames
        self.first = HELD_OUT_SEED if split == "test" else 0
        self.name = f"generated_{kind}"

    def __len__(self) -> int:
        return self.count

    def row(self, index: int, repetition: int = 0) -> Row:
        """Sample `index`; pairs have another of their five captions at each repetition."""
        seed = self.first + index
        if self.kind == "video":
            sample = clip_sample(seed, self.size, self.frames)
            visuals = video_item(list(sample.images))
        else:
            sample = (single_sample if self.kind == "single" else pair_sample)(seed, self.size)
            visuals = image_items(sample.images)
        turns = [(one.question, one.answer) for one in sample.questions]
        if self.kind == "video":
            turns = [(DEFAULT_INSTRUCTIONS["video"], ERA_NAMES.get(sample.label, sample.label))]
        elif self.kind == "pair":
            caption = sample.questions[0]
            turns = [(caption.question, caption.references[repetition % len(caption.references)])]
        elif self.kind == "single":
            order = np.random.default_rng((seed, repetition)).permutation(len(turns))
            turns = [turns[place] for place in order]
        messages = conversation(visuals, turns)
        return {"id": f"{self.name}-{seed}", "task": self.kind, "messages": messages}

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
