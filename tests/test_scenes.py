"""The synthetic scenes: same seed, same bytes; fair answers; masks that say where the land changed."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from unirs.trainers import scene_clips, scene_tasks
from unirs.trainers.scene_builder import DoesNotFitError
from unirs.trainers.scene_changes import CHANGE_KINDS, NO_CHANGE_SENTENCES, draw_change
from unirs.trainers.scene_layout import build_layout
from unirs.trainers.scene_questions import PRESENCE_OBJECTS, QuestionAnswer
from unirs.trainers.scene_shapes import LAND_CLASSES, TEST_LAYOUTS, TRAINING_LAYOUTS, Layout, Plan
from unirs.trainers.scene_tasks import (
    CHANGE_INSTRUCTION,
    CLIP_CLASSES,
    CLIP_INSTRUCTION,
    HELD_OUT_SEED,
    TEST_SEED,
    SceneSample,
    clip_sample,
    pair_captions,
    pair_sample,
    sequence_sample,
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


def object_of(question: QuestionAnswer) -> str:
    """Which object a presence question asks for."""
    words = question.question.replace("?", " ")
    return next(name for name, phrase in PRESENCE_OBJECTS.items() if f" {phrase} " in words)


@pytest.mark.parametrize("make", [single_sample, pair_sample, clip_sample, sequence_sample])
def test_same_seed_gives_the_same_bytes_and_words(make):
    for seed in (3, HELD_OUT_SEED + 3, TEST_SEED + 3):
        first, again = make(seed, SIZE), make(seed, SIZE)
        assert [i.tobytes() for i in first.images] == [i.tobytes() for i in again.images]
        assert (first.questions, first.clue, first.label) == (again.questions, again.clue, again.label)


@pytest.mark.parametrize("make", [single_sample, pair_sample, clip_sample, sequence_sample])
def test_held_out_seeds_show_other_pictures(make):
    assert len({make(first + 5, SIZE).images[0].tobytes() for first in (0, HELD_OUT_SEED, TEST_SEED)}) == 3


def test_further_questions_for_training_are_true():
    """Checked by the layout that is painted, and by the question that they turn round."""
    kinds = Counter()
    for seed in range(40):
        ((layout, _),) = unpainted(lambda one: single_sample(one, 48), [seed])
        sample = single_sample(seed, 48)
        there = {"buildings": layout.buildings, "vehicles": layout.vehicles, "boats": layout.boats}
        there["water areas"] = layout.water
        asked = {one.question: one.answer for one in sample.questions}
        for one in sample.more:
            kinds[one.kind] += 1
            assert one.question not in asked
            if one.kind == "count":
                name = one.question.removeprefix("How many ").removesuffix(" are there?")
                assert one.answer == str(len(there[name]))
            if one.kind == "comparison":
                more, fewer = one.question.removeprefix("Are there more ").removesuffix("?").split(" than ")
                assert one.answer == ("yes" if len(there[more]) > len(there[fewer]) else "no")
                assert asked[f"Are there more {fewer} than {more}?"] != one.answer
    assert min(kinds[kind] for kind in ("count", "area", "comparison", "position")) > 0


@pytest.mark.parametrize("size", [64, 144, 200])
def test_size_and_number_of_images_are_honoured(size):
    assert [i.size for i in single_sample(1, size).images] == [(size, size)]
    pair = pair_sample(1, size)
    assert [i.size for i in pair.images] == [(size, size)] * 2
    assert pair.change_mask is not None
    assert pair.change_mask.shape == (size, size)
    assert [(i.size, i.mode) for i in clip_sample(1, size, frames=3).images] == [((size, size), "RGB")] * 3
    assert [(i.size, i.mode) for i in sequence_sample(1, size, dates=5).images] == [((size, size), "RGB")] * 5


# -- splits ----------------------------------------------------------------------------------------------------------
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


# -- single pictures -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("first", [0, TEST_SEED])
def test_each_presence_object_is_answered_yes_half_of_the_time(first):
    """A blind guesser must not gain from knowing which object is asked."""
    answers = defaultdict(list)
    for seed in QUESTION_SEEDS:
        for qa in single_questions(first + seed)[1]:
            if qa.kind == "presence":
                answers[object_of(qa)].append(qa.answer == "yes")
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


def test_a_plan_answers_two_to_six_questions():
    counts = Counter(len(single_questions(seed)[1]) for seed in QUESTION_SEEDS)
    assert set(counts) <= {2, 3, 4, 5, 6}
    assert counts[2] < 0.1 * len(QUESTION_SEEDS)


def _truth(plan: Plan, name: str) -> int:
    counts = {"road": plan.roads, "water": plan.water, "building": plan.buildings, "forest": plan.forest}
    counts |= {"vehicle": plan.vehicles, "boat": plan.boats, "parking lot": plan.lot, "crop field": plan.crops}
    counts |= {"sports field": plan.pitch, "solar farm": plan.solar, "storage tank": plan.tanks}
    return int(counts[name])


def test_answers_are_true_of_the_plan():
    plural = {"buildings": "building", "vehicles": "vehicle", "boats": "boat", "water areas": "water"}
    for seed in QUESTION_SEEDS:
        plan, questions = single_questions(seed)
        for qa in questions:
            if qa.kind == "presence":
                assert (qa.answer == "yes") == (_truth(plan, object_of(qa)) > 0), (seed, qa)
            if qa.kind == "comparison":
                more, fewer = qa.question.removeprefix("Are there more ").rstrip("?").split(" than ")
                difference = _truth(plan, plural[more]) - _truth(plan, plural[fewer])
                assert abs(difference) >= 2, (seed, qa, plan)
                assert (qa.answer == "yes") == (difference > 0), (seed, qa)
            if qa.kind == "count":
                assert int(qa.answer) == plan.buildings <= 6


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


@pytest.mark.parametrize("first", [0, TEST_SEED], ids=["training", "test"])
def test_main_cover_is_the_largest_class(first):
    names = {"forest": "tree", "cropland": "field", "water": "water", "grassland": "ground", "bare land": "ground"}
    seen = Counter()
    for seed in range(first, first + 200):
        sample = single_sample(seed, 64)
        if sample.label in names:
            shares = np.bincount(sample.land[0].ravel())
            assert LAND_CLASSES[shares.argmax()] == names[sample.label], (seed, sample.label, shares)
            seen[sample.label] += 1
    assert min(seen[name] for name in names) >= 4


@pytest.mark.parametrize("first", [0, TEST_SEED], ids=["training", "test"])
def test_area_answers_hold_on_a_finer_map(first):
    """The class is told from a map of 64 pixels a side; a map of 200 must agree, so no answer hangs on the size."""
    bounds = {"none": (0, 0.002), "less than 10%": (0.002, 0.1), "10% to 30%": (0.1, 0.3), "more than 30%": (0.3, 1)}
    names = {"water": "water", "trees": "tree", "crop fields": "field", "buildings": "building"}
    told = Counter()
    for seed in range(first, first + 50):
        (land,) = single_sample(seed, 200).land
        for one in single_sample(seed, 64).questions:
            if one.kind == "area":
                words = one.question.removeprefix("How much of the image is covered by ").rstrip("?")
                low, high = bounds[one.answer]
                assert low <= (land == LAND_CLASSES.index(names[words])).mean() <= high, (seed, one)
                told[one.answer] += 1
    assert set(told) == set(bounds)


@pytest.mark.parametrize("first", [0, TEST_SEED], ids=["training", "test"])
def test_position_answers_agree_with_where_the_object_is_seen(first):
    """From the painted map: the middle of all pixels of the object, in thirds of the picture."""
    names = {"parking lot": "parking lot", "sports field": "sports field", "solar farm": "solar panels"}
    names["building"] = "building"
    told = Counter()
    for seed in range(first, first + 150):
        sample = single_sample(seed, 64)
        for one in sample.questions:
            if one.kind == "position":
                name = one.question.removeprefix("Where in the image is the ").rstrip("?")
                rows, columns = np.nonzero(sample.land[0] == LAND_CLASSES.index(names[name]))
                row = ("top", "", "bottom")[int(rows.mean() / 64 * 3)]
                column = ("left", "", "right")[int(columns.mean() / 64 * 3)]
                assert one.answer == (f"{row} {column}".strip() or "middle"), (seed, one)
                told[one.answer] += 1
    assert len(told) == 9


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
    flags = [pair_captions(seed)[0] for seed in range(400)]
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
    assert set(kinds) == set(CHANGE_KINDS)
    assert len(kinds) == 12


def test_captions_without_painting_are_those_of_the_painted_pair(pairs):
    for seed, pair in enumerate(pairs):
        assert pair_captions(seed) == (pair.label != "no change", pair.questions[0].references)


def test_second_date_lies_at_most_two_pixels_and_a_degree_beside_the_first(monkeypatch):
    """Two bright spots in place of a scene: where they go to is the shift and the turn."""
    size, spots = 96, np.array([[14.0, 48.0], [82.0, 48.0]])

    def two_spots(layout, look, wide):
        y, x = np.mgrid[0:wide, 0:wide] + 0.5 - scene_tasks.BORDER
        light = sum(np.exp(-((x - u) ** 2 + (y - v) ** 2) / 8) for u, v in spots)
        return Image.fromarray((light * 255).astype(np.uint8)).convert("RGB")

    def found(image):
        light = np.asarray(image.convert("L"), float)
        y, x = np.mgrid[0:size, 0:size] + 0.5
        halves = [light * (x < 48), light * (x >= 48)]
        return np.array([[(half * axis).sum() / half.sum() for axis in (x, y)] for half in halves])

    monkeypatch.setattr(scene_tasks, "render", two_spots)
    shifts, turns = [], []
    for seed in range(60):
        first, second = (
            found(scene_tasks._photograph(np.random.default_rng(seed), Layout("grass", (0, 0)), size, moved))
            for moved in (False, True)
        )
        np.testing.assert_allclose(first, spots, atol=0.05)
        (along, down), shift = second[1] - second[0], (second - first).mean(axis=0)
        shifts.append(np.abs(shift).max())
        turns.append(abs(np.degrees(np.arctan2(down, along))))
    assert max(shifts) < 2.1
    assert max(turns) < 0.9
    assert np.median(shifts) > 0.8  # it does move
    assert np.median(turns) > 0.2


def test_unchanged_pairs_hold_one_land_and_traffic_is_no_change():
    moved = 0
    for seed in range(60):
        change = draw_change(np.random.default_rng(seed), changed=False)
        assert (land_map(change.before, 96) == land_map(change.after, 96)).all()
        moved += change.before.vehicles != change.after.vehicles
    assert moved > 15


def test_trees_go_only_where_something_new_stands():
    """Houses are tried at several places; trees at those where they did not fit must stay."""
    gone = 0
    for seed in range(150):
        change = draw_change(np.random.default_rng(seed), changed=True)
        if change.kind != "few houses":
            continue
        standing = {tuple(tree[:2]) for tree in change.after.trees}
        new = [part.mean(axis=0) for house in change.after.buildings for part in house.parts]
        for x, y, radius, _ in change.before.trees:
            if (x, y) not in standing:
                gone += 1
                assert min(np.hypot(*(middle - [x, y])) for middle in new) < 0.13 + radius
    assert gone > 10


# -- sequences -------------------------------------------------------------------------------------------------------
def test_land_changes_between_the_dates_named_and_nowhere_else(monkeypatch):
    """What is painted at each date, looked at beside what is said of it."""
    painted = []
    monkeypatch.setattr(scene_tasks, "render", lambda *given: (painted.append(given[0]), render(*given))[1])
    told, ratios = Counter(), []
    for seed in range(40):
        painted.clear()
        sample = sequence_sample(seed, SIZE)
        caption, when = sample.questions
        maps = [land_map(layout, SIZE) for layout in painted]
        masks = [a != b for a, b in pairwise(maps)]
        changes = [number for number, mask in enumerate(masks, 1) if mask.any()]
        assert when.answer == (
            f"between date {changes[0]} and date {changes[0] + 1}" if changes else "nothing has changed"
        )
        assert len(changes) <= 1
        told[when.answer] += 1
        assert len(set(caption.references)) == 5
        assert caption.answer in caption.references
        assert all(one.startswith(when.answer) for one in caption.references) or caption.references == (
            NO_CHANGE_SENTENCES
        )
        for number in changes:
            before, after = pixels(sample)[number - 1 : number + 1]
            mask, difference = masks[number - 1], after - before
            residue = np.abs(difference - np.median(difference[~mask], axis=0)).mean(axis=2)
            ratios.append(residue[mask].mean() / residue[~mask].mean())
    assert len(told) == 4
    assert np.median(ratios) > 1.5
    assert np.mean(np.array(ratios) > 1.1) > 0.8


def test_vehicles_do_not_tell_the_date_of_a_change(monkeypatch):
    """They differ from each date to the next, whether the land changes there or not."""
    painted = []
    monkeypatch.setattr(scene_tasks, "render", lambda *given: (painted.append(given[0]), render(*given))[1])
    steps: dict[bool, list[bool]] = {True: [], False: []}
    for seed in range(60):
        painted.clear()
        sequence_sample(seed, 48)
        for before, after in pairwise(painted):
            if (before.roads or before.lots) and (before.vehicles or after.vehicles) and not after.flood:
                changed = (land_map(before, 48) != land_map(after, 48)).any()
                steps[bool(changed)].append(before.vehicles != after.vehicles)
    assert len(steps[True]) > 5
    assert len(steps[False]) > 20
    assert np.mean(steps[True]) == np.mean(steps[False]) == 1


# -- clips -----------------------------------------------------------------------------------------------------------
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
