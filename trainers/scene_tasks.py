"""Questions, change captions and clip classes about scenes of the SYNTHETIC aerial world (scene_layout.py, scenes.py).

A sample is drawn from its seed alone: the answers are decided first, by fair coin for each asked object, and the scene
is then built to make them true. So a model that does not look gets half of the yes/no questions right, not more.
Seeds tell the splits apart: training below HELD_OUT_SEED; validation from there, drawn like training; test from
TEST_SEED, where roads, parcels, water and woods lie as they never do in training (`scene_shapes.TEST_LAYOUTS`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from PIL import Image

from .scene_builder import DoesNotFitError
from .scene_changes import Change, draw_change, with_traffic
from .scene_clips import CLIP_CLASSES, film
from .scene_layout import build_layout
from .scene_look import random_look
from .scene_questions import (
    QuestionAnswer,
    areas_of,
    counts_of,
    describe,
    join,
    plan_scene,
    positions_of,
    some,
    turned,
)
from .scene_shapes import Array, Layout, Plan
from .scenes import land_map, render

WORLD_VERSION = 3  # another number when any picture or word of a seed changes
HELD_OUT_SEED = 1_000_000  # validation
TEST_SEED = 2_000_000
MISREGISTRATION = 2  # pixels by which the second date may lie beside the first
TURN = 0.8  # degrees by which it may be turned
BORDER = 6  # pixels painted beyond the picture, so that a moved date has no empty edge
DATES = 4  # of a sequence
OBJECTS = ("building", "vehicle", "boat", "storage tank")  # whose middles are known
FLAG_QUESTION = "Has anything changed between the two images?"
CHANGE_INSTRUCTION = "Please identify whether there are obvious remote sensing image changes."
WHEN_QUESTION = "When did something change?"
SEQUENCE_INSTRUCTION = "Please describe what changes over these dates."
CLIP_INSTRUCTION = (
    "Classify the given video in one of the following classes. Classes: " + ", ".join(CLIP_CLASSES) + "."
)


@dataclass(frozen=True)
class SceneSample:
    """Pictures (1, 2 or `frames` RGB images of size x size) with all questions that they answer."""

    task: Literal["single", "pair", "video", "sequence"]
    images: tuple[Image.Image, ...]
    questions: tuple[QuestionAnswer, ...]
    clue: str
    label: str
    change_mask: Array | None  # pairs only: bool (size, size) on the first date, True where the land changed
    # singles: where objects of OBJECTS lie, (objects, 3) of kind, x, y in 0..1
    centres: Array = field(default_factory=lambda: np.zeros((0, 3)))
    land: tuple[Array, ...] = ()  # singles and pairs: LAND_CLASSES numbers (size, size) of each date, before any shift
    more: tuple[QuestionAnswer, ...] = ()  # singles: as true as `questions`, but not balanced; for training only


def single_sample(seed: int, size: int = 256) -> SceneSample:
    """One picture with four to eight questions."""
    rng = _generator(seed, "single")
    while True:
        plan, questions = plan_scene(rng)
        try:
            layout = build_layout(rng, plan, seed >= TEST_SEED)
            break
        except DoesNotFitError:  # a crowded plan: the same seed goes on to its next
            continue
    image, land = render(layout, random_look(rng), size), land_map(layout, size)
    areas, positions = areas_of(land), positions_of(layout)
    questions += (*_one_of(rng, areas), *_one_of(rng, positions))
    clue, more = describe(plan, rng), (*areas, *positions, *counts_of(layout), *turned(questions))
    more = tuple(one for one in more if one not in questions)
    return SceneSample("single", (image,), questions, clue, plan.cover, None, _centres(layout), (land,), more)


def single_questions(seed: int) -> tuple[Plan, tuple[QuestionAnswer, ...]]:
    """What `single_sample(seed)` plans and asks first, without painting it."""
    return plan_scene(_generator(seed, "single"))


def pair_sample(seed: int, size: int = 256) -> SceneSample:
    """Two dates of one place. Half of all pairs differ only in what is no change: season, light and shadows, haze,
    sensor noise and blur, traffic, a small shift and turn."""
    rng = _generator(seed, "pair")
    changed, change = _draw_pair(rng, seed >= TEST_SEED)
    before = _photograph(rng, change.before, size, moved=False)
    after = _photograph(rng, change.after, size, moved=True)
    maps = tuple(
        land_map(layout, size + 2 * BORDER)[BORDER:-BORDER, BORDER:-BORDER] for layout in (change.before, change.after)
    )
    mask = maps[0] != maps[1] if changed else np.zeros((size, size), bool)
    captions = change.captions
    flag = "yes" if changed else "no"
    questions = (
        QuestionAnswer(CHANGE_INSTRUCTION, str(rng.choice(captions)), "change_caption", captions),
        QuestionAnswer(FLAG_QUESTION, flag, "change_flag", (flag,)),
    )
    return SceneSample("pair", (before, after), questions, _pair_clue(change), change.kind, mask, land=maps)


def pair_captions(seed: int) -> tuple[bool, tuple[str, ...]]:
    """Whether `pair_sample(seed)` changes, and its five captions, without painting it."""
    changed, change = _draw_pair(_generator(seed, "pair"), seed >= TEST_SEED)
    return changed, change.captions


def clip_sample(seed: int, size: int = 256, frames: int = 8) -> SceneSample:
    """Short clip from a slowly moving camera; the class is drawn evenly."""
    rng = _generator(seed, "video")
    name = CLIP_CLASSES[int(rng.integers(len(CLIP_CLASSES)))]
    images, clue = film(rng, name, size, frames, seed >= TEST_SEED)
    question = QuestionAnswer(CLIP_INSTRUCTION, name, "clip_class", (name,))
    return SceneSample("video", images, (question,), clue, name, None)


def sequence_sample(seed: int, size: int = 256, dates: int = DATES) -> SceneSample:
    """Dated pictures of one place, oldest first; two of three change once, between two dates that follow."""
    rng = _generator(seed, "sequence")
    changed = bool(rng.random() < 2 / 3)
    change = draw_change(rng, changed, seed >= TEST_SEED)
    first = int(rng.integers(1, dates)) if changed else dates  # the last date that still shows the old state
    images = tuple(
        _photograph(rng, with_traffic(rng, change.before if date <= first else change.after), size, moved=date > 1)
        for date in range(1, dates + 1)
    )
    when = f"between date {first} and date {first + 1}" if changed else "nothing has changed"
    captions = tuple(f"{when} {one}" for one in change.captions) if changed else change.captions
    questions = (
        QuestionAnswer(SEQUENCE_INSTRUCTION, str(rng.choice(captions)), "sequence_caption", captions),
        QuestionAnswer(WHEN_QUESTION, when, "when", (when,)),
    )
    return SceneSample("sequence", images, questions, _pair_clue(change), change.kind, None)


def _generator(seed: int, task: str) -> np.random.Generator:
    return np.random.default_rng((seed, ("single", "pair", "video", "sequence").index(task)))


def _draw_pair(rng: np.random.Generator, unseen: bool) -> tuple[bool, Change]:
    changed = bool(rng.random() < 0.5)
    return changed, draw_change(rng, changed, unseen)


def _centres(layout: Layout) -> Array:
    groups = (
        [part.parts[0].mean(axis=0) for part in layout.buildings],
        [(one.x, one.y) for one in layout.vehicles],
        [(one.x, one.y) for one in layout.boats],
        list(layout.tanks[:, :2]),
    )
    return np.array([(kind, *at) for kind, group in enumerate(groups) for at in group]).reshape(-1, 3)


def _photograph(rng: np.random.Generator, layout: Layout, size: int, moved: bool) -> Image.Image:
    """The place on one date, in a light of its own; `moved` lays it a little beside the first date."""
    wide = render(layout, random_look(rng), size + 2 * BORDER)
    if not moved:
        return wide.crop((BORDER, BORDER, BORDER + size, BORDER + size))
    (x, y), angle = rng.uniform(-MISREGISTRATION, MISREGISTRATION, 2), np.deg2rad(rng.uniform(-TURN, TURN))
    cos, sin, middle = np.cos(angle), np.sin(angle), size / 2
    left, top = BORDER + middle - cos * middle + sin * middle + x, BORDER + middle - sin * middle - cos * middle + y
    matrix = (cos, -sin, left, sin, cos, top)
    return wide.transform((size, size), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)


def _one_of(rng: np.random.Generator, choices: tuple[QuestionAnswer, ...]) -> tuple[QuestionAnswer, ...]:
    return (choices[int(rng.integers(len(choices)))],) if choices else ()


def _pair_clue(change: Change) -> str:
    """What the second date shows, without naming the change: a captioner looks at pictures one by one."""
    layout = change.after
    things = [some(len(layout.buildings), "building") if len(layout.buildings) < 7 else "many buildings"]
    things = things if layout.buildings else []
    things += ["a road" if len(layout.roads) == 1 else "roads"] if layout.roads else []
    things += ["trees"] if len(layout.trees) > 12 else []
    things += ["water"] if layout.water or layout.flood else []
    things += ["a parking lot"] * bool(layout.lots) + ["a sports field"] * bool(layout.pitches)
    things += ["a solar farm"] * bool(layout.panels) + ["storage tanks"] * (len(layout.tanks) > 0)
    ground = "grassland" if layout.ground == "grass" else "bare land"
    return f"An aerial view of {ground}" + (" with " + join(things) if things else "") + "."
