"""The synthetic scenes: same seed, same bytes; fair answers; masks that say where the land changed."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from unirs.trainers.scene_changes import NO_CHANGE_SENTENCES, draw_change
from unirs.trainers.scene_layout import build_layout
from unirs.trainers.scene_shapes import Plan
from unirs.trainers.scene_tasks import (
    CHANGE_INSTRUCTION,
    CLIP_CLASSES,
    CLIP_INSTRUCTION,
    HELD_OUT_SEED,
    PRESENCE_OBJECTS,
    SceneSample,
    clip_sample,
    pair_sample,
    single_questions,
    single_sample,
)
from unirs.trainers.scenes import land_map, random_look, render

SIZE = 96
QUESTION_SEEDS = range(4000)


def pixels(sample: SceneSample) -> list[np.ndarray]:
    return [np.asarray(image, np.float32) for image in sample.images]


@pytest.fixture(scope="module")
def pairs() -> list[SceneSample]:
    return [pair_sample(seed, SIZE) for seed in range(60)]


@pytest.mark.parametrize("make", [single_sample, pair_sample, clip_sample])
def test_same_seed_gives_the_same_bytes_and_words(make):
    for seed in (3, HELD_OUT_SEED + 3):
        first, again = make(seed, SIZE), make(seed, SIZE)
        assert [i.tobytes() for i in first.images] == [i.tobytes() for i in again.images]
        assert (first.questions, first.clue, first.label) == (again.questions, again.clue, again.label)


@pytest.mark.parametrize("make", [single_sample, pair_sample, clip_sample])
def test_held_out_seeds_show_other_pictures(make):
    assert make(5, SIZE).images[0].tobytes() != make(HELD_OUT_SEED + 5, SIZE).images[0].tobytes()


@pytest.mark.parametrize("size", [64, 144, 200])
def test_size_and_number_of_images_are_honoured(size):
    assert [i.size for i in single_sample(1, size).images] == [(size, size)]
    pair = pair_sample(1, size)
    assert [i.size for i in pair.images] == [(size, size)] * 2
    assert pair.change_mask is not None
    assert pair.change_mask.shape == (size, size)
    assert [(i.size, i.mode) for i in clip_sample(1, size, frames=3).images] == [((size, size), "RGB")] * 3


# -- single pictures -------------------------------------------------------------------------------------------------
def test_each_presence_object_is_answered_yes_half_of_the_time():
    """A blind guesser must not gain from knowing which object is asked."""
    answers = defaultdict(list)
    for seed in QUESTION_SEEDS:
        for qa in single_questions(seed)[1]:
            if qa.kind == "presence":
                name = next(n for n, a in PRESENCE_OBJECTS.items() if f" {a} " in qa.question.replace("?", " "))
                answers[name].append(qa.answer == "yes")
    assert set(answers) == set(PRESENCE_OBJECTS)
    for name, given in answers.items():
        assert abs(np.mean(given) - 0.5) < 3 * 0.5 / np.sqrt(len(given)), name


def test_each_comparison_wording_is_answered_yes_half_of_the_time():
    answers = defaultdict(list)
    for seed in QUESTION_SEEDS:
        for qa in single_questions(seed)[1]:
            if qa.kind == "comparison":
                answers[qa.question].append(qa.answer == "yes")
    assert len(answers) == 12
    for question, given in answers.items():
        assert abs(np.mean(given) - 0.5) < 3.3 * 0.5 / np.sqrt(len(given)), question


def test_rural_and_urban_are_asked_equally_often():
    given = [q.answer for s in QUESTION_SEEDS for q in single_questions(s)[1] if q.kind == "rural_urban"]
    counts = Counter(given)
    assert set(counts) == {"rural", "urban"}
    assert abs(counts["urban"] / len(given) - 0.5) < 0.03


def test_a_picture_has_two_to_six_questions():
    counts = Counter(len(single_questions(seed)[1]) for seed in QUESTION_SEEDS)
    assert set(counts) <= {2, 3, 4, 5, 6}
    assert counts[2] < 0.1 * len(QUESTION_SEEDS)


def _truth(plan: Plan, name: str) -> int:
    counts = {"road": plan.roads, "water": plan.water, "building": plan.buildings, "forest": plan.forest}
    counts |= {"vehicle": plan.vehicles, "boat": plan.boats, "parking lot": plan.lot, "crop field": plan.crops}
    return int(counts[name])


def test_answers_are_true_of_the_plan():
    plural = {"buildings": "building", "vehicles": "vehicle", "boats": "boat", "water areas": "water"}
    for seed in QUESTION_SEEDS:
        plan, questions = single_questions(seed)
        for qa in questions:
            if qa.kind == "presence":
                name = next(n for n, a in PRESENCE_OBJECTS.items() if f" {a} " in qa.question.replace("?", " "))
                assert (qa.answer == "yes") == (_truth(plan, name) > 0), (seed, qa)
            if qa.kind == "comparison":
                more, fewer = qa.question.removeprefix("Are there more ").rstrip("?").split(" than ")
                difference = _truth(plan, plural[more]) - _truth(plan, plural[fewer])
                assert abs(difference) >= 2, (seed, qa, plan)
                assert (qa.answer == "yes") == (difference > 0), (seed, qa)
            if qa.kind == "count":
                assert int(qa.answer) == plan.buildings <= 10


def test_layout_holds_exactly_what_the_plan_says():
    for seed in range(150):
        plan, _ = single_questions(seed)
        layout = build_layout(np.random.default_rng(seed), plan)
        found = (len(layout.buildings), len(layout.vehicles), len(layout.boats), len(layout.water))
        assert found == (plan.buildings, plan.vehicles, plan.boats, plan.water)
        assert (len(layout.roads) > 0, len(layout.lots) > 0) == (plan.roads > 0, plan.lot)
        assert (len(layout.trees) >= 30, len(layout.fields) > 0) == (plan.forest, plan.crops)
        centres = np.array([b.parts[0].mean(axis=0) for b in layout.buildings]).reshape(-1, 2)
        assert ((centres > 0.04) & (centres < 0.96)).all()


def test_main_cover_is_the_largest_class():
    names = {"forest": 3, "cropland": 2, "water": 4}
    for seed in range(150):
        plan, _ = single_questions(seed)
        if plan.cover in names:
            shares = np.bincount(land_map(build_layout(np.random.default_rng(seed), plan), 128).ravel(), minlength=9)
            assert shares.argmax() == names[plan.cover], (seed, plan, shares)


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


# -- pairs -----------------------------------------------------------------------------------------------------------
def test_half_of_the_pairs_show_no_change(pairs):
    seeds = range(400)
    flags = [np.random.default_rng((seed, 1)).random() < 0.5 for seed in seeds]
    assert [p.label != "no change" for p in pairs] == flags[: len(pairs)]
    assert abs(np.mean(flags) - 0.5) < 0.075


def test_change_captions_have_five_distinct_lower_case_references(pairs):
    for pair in pairs:
        caption, flag = pair.questions
        assert caption.question == CHANGE_INSTRUCTION
        assert len(set(caption.references)) == 5
        assert caption.answer in caption.references
        for text in caption.references:
            assert text == text.lower().strip().rstrip(".")
            assert "{" not in text
            assert "  " not in text
        assert flag.answer == ("no" if pair.label == "no change" else "yes")


def test_unchanged_pairs_keep_the_five_sentences_and_an_empty_mask(pairs):
    still = [p for p in pairs if p.label == "no change"]
    assert still
    for pair in still:
        assert pair.questions[0].references == NO_CHANGE_SENTENCES
        assert pair.change_mask is not None
        assert not pair.change_mask.any()


def test_unchanged_pairs_still_differ_in_light_and_season(pairs):
    for pair in pairs:
        before, after = pixels(pair)
        assert np.abs(before - after).mean() > 3


def test_real_changes_differ_inside_the_mask_more_than_outside(pairs):
    """Light and season shift everything alike: what is left after removing the mean shift lies in the mask."""
    ratios = []
    for pair in pairs:
        if pair.label == "no change":
            continue
        assert pair.change_mask is not None
        assert 0.004 < pair.change_mask.mean() < 0.8, pair.label
        before, after = pixels(pair)
        difference = after - before
        residue = np.abs(difference - np.median(difference[~pair.change_mask], axis=0)).mean(axis=2)
        ratios.append(residue[pair.change_mask].mean() / residue[~pair.change_mask].mean())
    assert np.median(ratios) > 1.5
    assert np.mean(np.array(ratios) > 1.1) > 0.85


def test_all_kinds_of_change_occur_and_position_words_are_true():
    kinds = Counter()
    for seed in range(150):
        change = draw_change(np.random.default_rng(seed), changed=True)
        kinds[change.kind] += 1
        if change.kind == "houses removed":
            assert len(change.before.buildings) > len(change.after.buildings)
        if change.kind in ("few houses", "many houses"):
            old = {id(b) for b in change.before.buildings}
            new = np.array([b.parts[0].mean(axis=0) for b in change.after.buildings if id(b) not in old])
            assert len(new) >= 1
            for text in change.captions:
                if "left" in text and change.kind == "few houses" and "is left" not in text:
                    assert new[:, 0].mean() < 0.4
                if "at the top" in text and change.kind == "few houses":
                    assert new[:, 1].mean() < 0.4
    assert len(kinds) == 7


# -- clips -----------------------------------------------------------------------------------------------------------
def test_clip_classes_are_drawn_evenly_and_asked_by_name():
    names = [CLIP_CLASSES[int(np.random.default_rng((s, 2)).integers(len(CLIP_CLASSES)))] for s in range(2000)]
    assert min(Counter(names).values()) > 0.7 * 2000 / len(CLIP_CLASSES)
    for seed in range(6):
        clip = clip_sample(seed, 64, frames=2)
        (qa,) = clip.questions
        assert (qa.question, qa.answer, qa.kind) == (CLIP_INSTRUCTION, names[seed], "clip_class")
        assert clip.label == names[seed]


def test_frames_differ_by_more_than_sensor_noise():
    for seed in range(12):
        frames = pixels(clip_sample(seed, SIZE, frames=4))
        steps = [np.abs(b - a).mean() for a, b in pairwise(frames)]
        assert min(steps) > 1.0
        assert np.abs(frames[-1] - frames[0]).max() > 40
