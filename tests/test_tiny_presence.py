"""What is asked for in a picture is there or not, as often the one as the other."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np
import pytest
from unirs.trainers import scene_tasks
from unirs.trainers.scene_questions import COVER_QUESTION, COVERS, MAX_COUNT_ASKED, PRESENCE_TEMPLATES, URBAN_QUESTION
from unirs.trainers.scene_shapes import LAND_CLASSES, Layout, Plan
from unirs.trainers.scene_tasks import OBJECTS, single_sample
from unirs.trainers.tiny_data import SIZE, make_scenes, patch_centres, patch_shares
from unirs.trainers.tiny_mixture import LAND_ASKED, MANY, Mixture
from unirs.trainers.tiny_presence import ANY_WATER, NO, THINGS, UNSURE, YES, even_odds, presence_turn, things_there
from unirs.trainers.unanswerable import UNKNOWN_ANSWER
from unirs.trainers.wordings import NAMES, WORDINGS, YES_NO, reworded

from tests.turns import words_of

SCENES = 120
PATCHES = 144


PRESENCE_WORDS = {
    thing: {template.format(a=thing) for template in PRESENCE_TEMPLATES}
    | {words.format(a=a, some=some) for words in WORDINGS[0].trained for a, some in NAMES[thing]}
    for thing in THINGS
}
PRESENCE_WORDS["a water area"] |= set(ANY_WATER)
# Which main land covers each question is rightly answered "yes" of.
COVER_OF = {"urban": ("built-up area",), "rural": COVERS}
LAND_WORDS = {
    words.format(it=it): COVER_OF.get(answer, (answer,))
    for one in YES_NO
    if one.pattern in (re.escape(URBAN_QUESTION), re.escape(COVER_QUESTION))
    for words in one.trained
    for answer, names in one.names.items()
    for it in names
}


def there_of(
    land: dict[str, float] | None = None, middles: tuple[str, ...] = (), clue: str = "", **words: Any
) -> dict[str, int]:
    """What is said of one picture with these shares of land, middles of things, clue and other words."""
    shares, centres = np.zeros((1, len(LAND_CLASSES), PATCHES)), np.zeros((1, len(OBJECTS), PATCHES), bool)
    for name, share in (land or {}).items():
        shares[0, LAND_CLASSES.index(name), : round(share * PATCHES)] = 1
    for name in middles:
        centres[0, OBJECTS.index(name), 7] = True
    words = {"clue": clue, "label": "grassland", "questions": [], **words}
    return dict(zip(THINGS, things_there(shares, centres, [words])[0], strict=True))


def test_nothing_is_there_in_a_picture_of_nothing():
    assert set(there_of(questions=[asked_for_forest("no")]).values()) == {NO}


def asked_for_forest(answer: str) -> dict[str, str]:
    return {"kind": "presence", "question": "Does the image show a forest?", "answer": answer}


@pytest.mark.parametrize(
    ("label", "questions", "answer"),
    [
        ("grassland", [], UNSURE),  # a few trees or a wood
        ("forest", [], YES),
        ("grassland", [asked_for_forest("yes")], YES),
        ("grassland", [asked_for_forest("no")], NO),
    ],
)
def test_a_forest_is_there_by_the_plan_not_by_its_trees(label, questions, answer):
    assert there_of({"tree": 0.2}, label=label, questions=questions)["a forest"] == answer


def test_land_is_there_by_its_share_and_things_by_their_middles():
    clue, questions = "An aerial view of grassland with a river.", [asked_for_forest("no")]
    there = there_of({"water": 0.1, "road": 0.05}, ("vehicle",), clue, questions=questions)
    assert {name for name, answer in there.items() if answer == YES} == {
        "a water area", "a road", "a vehicle", "a river",
    }  # fmt: skip
    assert there["a pond"] == NO
    assert UNSURE not in there.values()


def test_the_edge_of_a_building_from_next_door_is_neither_yes_nor_no():
    assert there_of({"building": 0.02})["a building"] == UNSURE
    assert there_of({"building": 0.02}, ("building",))["a building"] == YES


def test_which_kind_of_water_it_is_stays_open_where_the_clue_does_not_tell():
    there = there_of({"water": 0.3}, clue="An aerial view of grassland with a road.")
    assert (there["a water area"], there["a river"], there["a pond"]) == (YES, UNSURE, UNSURE)


@pytest.fixture(scope="module")
def built() -> list[tuple[Plan, Layout, dict[str, Any]]]:
    """Plan and layout from which scenes were painted, and what is said to be there, by numbers as shards hold them."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        plans: list[tuple[Plan, Layout]] = []
        build = scene_tasks.build_layout
        patch.setattr(
            scene_tasks,
            "build_layout",
            lambda rng, plan, unseen: plans.append((plan, build(rng, plan, unseen))) or plans[-1][1],
        )
        for seed in range(SCENES):
            sample = single_sample(seed, SIZE)
            land = patch_shares(np.stack([sample.land[0] == k for k in range(len(LAND_CLASSES))]).astype(np.float16))
            questions = [
                {"kind": one.kind, "question": one.question, "answer": one.answer} for one in sample.questions
            ]
            words = {"clue": sample.clue, "label": sample.label, "questions": questions}
            there = things_there(land[None], patch_centres(sample.centres)[None], [words])[0]
            found.append((*plans[-1], dict(zip(THINGS, there, strict=True))))
    return found


def test_what_is_there_is_in_the_plan_or_the_layout_and_what_is_not_is_in_neither(built):
    compared: Counter[tuple[str, int]] = Counter()
    for plan, layout, said in built:
        for name, answer in said.items():
            if answer != UNSURE:
                assert (answer == YES) == truth(plan, layout)[name], name
                compared[name, answer] += 1
    assert {name for name, answer in compared if answer == YES} == set(THINGS)
    assert {name for name, answer in compared if answer == NO} == set(THINGS)


def truth(plan: Plan, layout: Layout) -> dict[str, bool]:
    ponds = plan.water > 0 and not plan.river
    there = (layout.trees, layout.fields, layout.panels, layout.water, layout.roads, layout.lots, layout.buildings,
             layout.tanks, layout.pitches, layout.vehicles, layout.boats)  # fmt: skip
    names = ("a tree", "a crop field", "a solar farm", "a water area", "a road", "a parking lot", "a building",
             "a storage tank", "a sports field", "a vehicle", "a boat")  # fmt: skip
    return {name: len(things) > 0 for name, things in zip(names, there, strict=True)} | {
        "a river": plan.river, "a pond": ponds, "a forest": plan.forest or plan.cover == "forest",
    }  # fmt: skip


def test_what_is_rare_and_what_is_common_are_both_there_half_of_the_time():
    rng = np.random.default_rng(0)
    there = (rng.random((4000, len(THINGS))) < np.linspace(0.1, 0.85, len(THINGS))).astype(int)
    there[rng.random(there.shape) < 0.1] = UNSURE
    odds = even_odds(there)
    assert odds.sum(1) == pytest.approx(1)
    assert not odds[there == UNSURE].any()
    yes, no = ((odds * (there == answer)).sum(0) for answer in (YES, NO))
    assert yes == pytest.approx(4000 / 2 / len(THINGS), rel=0.01)
    assert no == pytest.approx(4000 / 2 / len(THINGS), rel=0.01)


def test_what_all_pictures_have_and_what_nobody_knows_is_not_asked_for():
    there = np.full((3, len(THINGS)), UNSURE)
    there[:, 0] = YES
    there[:2, 1] = YES, NO
    odds = even_odds(there)
    assert odds[:, 1] == pytest.approx([1, 1, 0])
    assert not np.delete(odds, 1, axis=1).any()


def test_each_thing_is_asked_for_where_it_is_as_often_as_where_it_is_not(built):
    there = np.array([list(said.values()) for *_, said in built])
    odds, rng = even_odds(there), np.random.default_rng(0)
    asked: dict[str, Counter[str]] = {name: Counter() for name in THINGS}
    for row in np.tile(np.flatnonzero(odds.any(1)), 100):
        question, answer = presence_turn(rng, there[row], odds[row])
        name = next(n for n in THINGS if question in PRESENCE_WORDS[n])
        assert answer == ("yes" if there[row, THINGS.index(name)] == YES else "no")
        asked[name][answer] += 1
    for name, answers in asked.items():
        assert answers.total() > 200, name
        assert answers["yes"] == pytest.approx(answers.total() / 2, rel=0.15), name


def test_all_that_is_asked_for_has_other_words():
    rng = np.random.default_rng(0)
    for name in THINGS:
        for template in PRESENCE_TEMPLATES:
            assert reworded(rng, template.format(a=name)) != template.format(a=name)


def test_words_for_water_are_not_those_that_are_kept_to_be_tried():
    held_out = {
        words.format(a="water", some="water")
        for words in WORDINGS[0].held_out  # of presence
    }
    assert "Do you see any water?" in held_out
    assert not set(ANY_WATER) & held_out


def test_a_conversation_asks_one_thing_of_its_picture_and_answers_rightly(tmp_path, built):
    make_scenes(tmp_path, {"single": 12}, 0, processes=1, quiet=True)
    mixture = Mixture(tmp_path, None, 0, tasks=("single",))
    rows = [row["row"] for row in mixture.rows() if row["kind"] == "there"]
    assert len(rows) == 24  # each scene, and each turned
    asked: Counter[str] = Counter()
    for row in rows * 25:
        talk = mixture.talk("there", row)
        assert (talk.messages[0]["content"][0]["image"] == mixture.pictures["single"][row, 0]).all()
        plan, layout, _ = built[row % 12]
        for user, said in zip(talk.messages[::2], talk.messages[1::2], strict=True):
            question, answer = words_of(user), words_of(said)
            if answer == UNKNOWN_ANSWER:
                continue
            thing = next((name for name in THINGS if question in PRESENCE_WORDS[name]), None)
            right = truth(plan, layout)[thing] if thing else plan.cover in LAND_WORDS[question]
            assert answer == ("yes" if right else "no"), question
            asked["thing" if thing else "land"] += 1
    assert asked.total() == len(rows) * 25
    assert asked["land"] == pytest.approx(LAND_ASKED * asked.total(), rel=0.2)


def test_ponds_are_counted_where_all_water_is_ponds(tmp_path, built):
    make_scenes(tmp_path, {"single": 12}, 0, processes=1, quiet=True)
    mixture = Mixture(tmp_path, None, 0, tasks=("single",))
    counted = {
        row: int(answer)
        for row, turns in mixture.alone.items()
        for question, answer in turns
        if question == "How many ponds are there?"
    }
    for row, number in counted.items():
        plan, layout, _ = built[row % 12]
        assert (number, plan.river) == (len(layout.water), False)
    assert len(counted) > 12
    assert len(set(counted.values())) > 2


def test_what_is_too_many_to_count_is_said_to_be_more_than_the_world_counts_to(tmp_path, built):
    make_scenes(tmp_path, {"single": 12}, 0, processes=1, quiet=True)
    mixture = Mixture(tmp_path, None, 0, tasks=("single",))
    crowded: Counter[tuple[str, bool, bool]] = Counter()
    for row in range(24):
        _, layout, _ = built[row % 12]
        asked = {question for question, answer in mixture.alone.get(row, []) if answer == MANY}
        for question, things in (("buildings", layout.buildings), ("vehicles", layout.vehicles)):
            many = f"How many {question} are there?" in asked
            assert len(things) > MAX_COUNT_ASKED or not many
            if question == "buildings":  # two cars may share a patch; buildings do not
                assert many == (len(things) > MAX_COUNT_ASKED)
            counted = any(words == f"How many {question} are there?" for words, _ in mixture.alone.get(row, []))
            crowded[question, many, counted] += 1
    for question in ("buildings", "vehicles"):  # so that "more than six" is not all that is ever said
        assert crowded[question, True, True] > 1
        assert crowded[question, False, True] > 1
