"""Questions about the synthetic scenes: fair coins, and answers true of what is painted."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
from unirs.trainers.scene_questions import PRESENCE_OBJECTS, QuestionAnswer
from unirs.trainers.scene_shapes import LAND_CLASSES, Plan
from unirs.trainers.scene_tasks import TEST_SEED, single_questions, single_sample

from tests.scene_samples import unpainted

QUESTION_SEEDS = range(4000)


def object_of(question: QuestionAnswer) -> str:
    """Which object a presence question asks for."""
    words = question.question.replace("?", " ")
    return next(name for name, phrase in PRESENCE_OBJECTS.items() if f" {phrase} " in words)


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
