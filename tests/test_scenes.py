"""The synthetic scenes: same seed, same bytes; layouts as planned, other ones for the test."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from unirs.trainers.scene_builder import DoesNotFitError
from unirs.trainers.scene_layout import build_layout
from unirs.trainers.scene_look import random_look
from unirs.trainers.scene_shapes import TEST_LAYOUTS, TRAINING_LAYOUTS, Plan
from unirs.trainers.scene_tasks import (
    HELD_OUT_SEED,
    TEST_SEED,
    clip_sample,
    pair_sample,
    sequence_sample,
    single_questions,
    single_sample,
)
from unirs.trainers.scenes import render

from tests.scene_samples import SIZE, Found, unpainted


@pytest.mark.parametrize("make", [single_sample, pair_sample, clip_sample, sequence_sample])
def test_same_seed_gives_the_same_bytes_and_words(make):
    for seed in (3, HELD_OUT_SEED + 3, TEST_SEED + 3):
        first, again = make(seed, SIZE), make(seed, SIZE)
        assert [i.tobytes() for i in first.images] == [i.tobytes() for i in again.images]
        assert (first.questions, first.clue, first.label) == (again.questions, again.clue, again.label)


@pytest.mark.parametrize("make", [single_sample, pair_sample, clip_sample, sequence_sample])
def test_held_out_seeds_show_other_pictures(make):
    assert len({make(first + 5, SIZE).images[0].tobytes() for first in (0, HELD_OUT_SEED, TEST_SEED)}) == 3


@pytest.mark.parametrize("size", [64, 144, 200])
def test_size_and_number_of_images_are_honoured(size):
    assert [i.size for i in single_sample(1, size).images] == [(size, size)]
    pair = pair_sample(1, size)
    assert [i.size for i in pair.images] == [(size, size)] * 2
    assert pair.change_mask is not None
    assert pair.change_mask.shape == (size, size)
    assert [(i.size, i.mode) for i in clip_sample(1, size, frames=3).images] == [((size, size), "RGB")] * 3
    assert [(i.size, i.mode) for i in sequence_sample(1, size, dates=5).images] == [((size, size), "RGB")] * 5


@pytest.fixture(scope="module")
def training_singles() -> Found:
    return unpainted(lambda seed: single_sample(seed, 96), range(200))


@pytest.fixture(scope="module")
def test_singles() -> Found:
    return unpainted(lambda seed: single_sample(seed, 96), range(TEST_SEED, TEST_SEED + 300))


def kinds_of(found: Found) -> set[str]:
    return set().union(*(layout.kinds for layout, _ in found))


def test_no_layout_of_a_test_scene_occurs_in_training_or_validation(training_singles, test_singles):
    assert not set(TRAINING_LAYOUTS) & set(TEST_LAYOUTS)
    assert kinds_of(training_singles) == set(TRAINING_LAYOUTS)
    assert kinds_of(test_singles) == set(TEST_LAYOUTS)
    assert np.mean([bool(layout.kinds) for layout, _ in test_singles]) > 0.9


@pytest.mark.parametrize(
    ("make", "count"), [(pair_sample, 60), (sequence_sample, 30), (lambda seed, size: clip_sample(seed, size, 1), 60)]
)
def test_pairs_clips_and_sequences_keep_the_splits_layouts_too(make, count):
    for first, own in ((0, TRAINING_LAYOUTS), (HELD_OUT_SEED, TRAINING_LAYOUTS), (TEST_SEED, TEST_LAYOUTS)):
        kinds = kinds_of(unpainted(lambda seed: make(seed, 48), range(first, first + count)))
        assert kinds
        assert kinds <= set(own)


def test_all_kinds_of_question_occur_in_training_and_test(training_singles, test_singles):
    expected = {"presence", "comparison", "rural_urban", "count", "scene", "area", "position"}
    for found in (training_singles, test_singles):
        assert {one.kind for _, questions in found for one in questions} == expected
        assert {len(questions) for _, questions in found} <= set(range(4, 9))


def test_few_test_plans_are_drawn_again_for_want_of_room(test_singles):
    """A plan that does not fit gives way to the next: were it often, answers would no longer be fair coins."""
    planned = [single_questions(TEST_SEED + number)[1] for number in range(len(test_singles))]
    kept = [found[: len(plan)] == plan for (_, found), plan in zip(test_singles, planned, strict=True)]
    assert np.mean(kept) > 0.92
    given = [one.answer for _, questions in test_singles for one in questions if one.kind == "presence"]
    assert abs(np.mean([answer == "yes" for answer in given]) - 0.5) < 3 * 0.5 / np.sqrt(len(given))


@pytest.mark.parametrize("unseen", [False, True], ids=["training", "test"])
def test_layout_holds_exactly_what_the_plan_says(unseen):
    crowded = 0
    for seed in range(150):
        plan, _ = single_questions(seed)
        try:
            layout = build_layout(np.random.default_rng(seed), plan, unseen)
        except DoesNotFitError:  # a sample goes on to its next plan
            crowded += 1
            continue
        found = (len(layout.buildings), len(layout.vehicles), len(layout.boats), len(layout.water))
        assert found == (plan.buildings, plan.vehicles, plan.boats, plan.water)
        assert (len(layout.roads) > 0, len(layout.lots) > 0) == (plan.roads > 0, plan.lot)
        assert (len(layout.trees) >= 30, len(layout.fields) > 0) == (plan.forest, plan.crops)
        assert (len(layout.tanks), len(layout.panels), len(layout.pitches)) == (plan.tanks, plan.solar, plan.pitch)
        centres = np.array([b.parts[0].mean(axis=0) for b in layout.buildings]).reshape(-1, 2)
        assert ((centres > 0.04) & (centres < 0.96)).all()
    assert crowded <= 2


def test_buildings_and_vehicles_stand_out_at_144_pixels():
    """The tiny model sees 144 px; an object that vanishes there would make its answer unlearnable."""
    plan = Plan("grassland", roads=1, buildings=4, vehicles=6)
    layout = build_layout(np.random.default_rng(2), plan)
    bare = build_layout(np.random.default_rng(2), plan).__class__(layout.ground, layout.texture, roads=layout.roads)
    look = random_look(np.random.default_rng(2))
    small = [
        np.asarray(render(place, look, 256).resize((144, 144), Image.Resampling.BOX), np.float32)
        for place in (layout, bare)
    ]
    difference = np.abs(small[0] - small[1]).max(axis=2)
    for building in layout.buildings:
        x, y = (building.parts[0].mean(axis=0) * 144).astype(int)
        assert np.median(difference[y - 3 : y + 4, x - 3 : x + 4]) > 10
    for vehicle in layout.vehicles:
        x, y = int(vehicle.x * 144), int(vehicle.y * 144)
        assert difference[y - 2 : y + 3, x - 2 : x + 3].max() > 25
