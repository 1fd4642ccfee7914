"""Synthetic clips: classes drawn evenly, frames that move, other places in the test."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from unirs.trainers import scene_clips, scene_tasks
from unirs.trainers.scene_tasks import CLIP_CLASSES, CLIP_INSTRUCTION, clip_sample

from tests.scene_samples import SIZE, pixels


def test_clip_classes_are_drawn_evenly(monkeypatch):
    monkeypatch.setattr(scene_tasks, "film", lambda *given: ((), ""))
    names = Counter(clip_sample(seed).label for seed in range(2000))
    assert set(names) == set(CLIP_CLASSES)
    assert min(names.values()) > 0.7 * 2000 / len(CLIP_CLASSES)


def test_clips_are_asked_for_their_class_by_name():
    for seed in range(6):
        clip = clip_sample(seed, 64, frames=2)
        (qa,) = clip.questions
        assert (qa.question, qa.answer, qa.kind) == (CLIP_INSTRUCTION, clip.label, "clip_class")


def test_frames_differ_by_more_than_sensor_noise():
    for seed in range(12):
        frames = pixels(clip_sample(seed, SIZE, frames=4))
        steps = [np.abs(b - a).mean() for a, b in pairwise(frames)]
        assert min(steps) > 1.0
        assert np.abs(frames[-1] - frames[0]).max() > 40


@pytest.mark.parametrize("name", [name for name in CLIP_CLASSES if name not in ("non-event", "fire")])
def test_clips_of_the_test_lie_otherwise(name):
    """The same draws give another picture; of a fire only the wood around it does, which has its own name."""
    for seed in range(3):
        familiar, unseen = (
            scene_clips.film(np.random.default_rng(seed), name, 64, 2, unseen=unseen)[0] for unseen in (False, True)
        )
        assert familiar[-1].tobytes() != unseen[-1].tobytes()
