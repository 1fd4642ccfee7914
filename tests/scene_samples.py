"""Pixels and layouts of generated scenes, for tests."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from unirs.trainers import scene_clips, scene_tasks
from unirs.trainers.scene_questions import QuestionAnswer
from unirs.trainers.scene_shapes import Layout
from unirs.trainers.scene_tasks import SceneSample

SIZE = 96


def pixels(sample: SceneSample) -> list[np.ndarray]:
    return [np.asarray(image, np.float32) for image in sample.images]


Found = list[tuple[Layout, tuple[QuestionAnswer, ...]]]


def unpainted(make, seeds) -> Found:
    """Every layout that would be painted, with the questions of its sample; painting is most of the time."""
    found: Found = []
    painted: list[Layout] = []

    def note(layout, look, size):
        painted.append(layout)
        return Image.new("RGB", (size, size))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scene_tasks, "render", note)
        patch.setattr(scene_clips, "render", note)
        for seed in seeds:
            painted.clear()
            questions = make(seed).questions
            found += [(layout, questions) for layout in painted]
    return found
