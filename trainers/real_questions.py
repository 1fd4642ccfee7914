"""What is asked about a real picture: what its class, or the areas of a patchwork, tell for sure."""

from __future__ import annotations

import numpy as np

from .real_scenes import CLASSES, SceneClass
from .scene_questions import COVER_QUESTION, PRESENCE_TEMPLATES, URBAN_QUESTION

REAL_QUESTION = f"Which scene is this? Classes: {', '.join(CLASSES)}."
THINGS_ASKED = 2  # at most; the same may be drawn twice


def real_turns(rng: np.random.Generator, scene: SceneClass) -> list[tuple[str, str]]:
    """Questions and answers in any order, each about something else."""
    turns = [(REAL_QUESTION, scene.name)] if scene.name else []
    sides = [(names, answer) for names, answer in ((scene.shown, "yes"), (scene.hidden, "no")) if names]
    asked: dict[str, str] = {}
    for _ in range(THINGS_ASKED if sides else 0):
        names, answer = sides[int(rng.integers(len(sides)))]
        asked[names[int(rng.integers(len(names)))]] = answer
    for thing, answer in asked.items():
        template = PRESENCE_TEMPLATES[int(rng.integers(len(PRESENCE_TEMPLATES)))]
        turns.append((template.format(a=thing), answer))
    if scene.urban is not None:
        turns.append((URBAN_QUESTION, "urban" if scene.urban else "rural"))
    if scene.cover is not None:
        turns.append((COVER_QUESTION, scene.cover))
    return [turns[place] for place in rng.permutation(len(turns))]
