"""What is asked for in a picture is there or not, as often the one as the other."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from unirs.trainers.scene_questions import PRESENCE_OBJECTS, PRESENCE_TEMPLATES
from unirs.trainers.scene_shapes import LAND_CLASSES
from unirs.trainers.scene_tasks import OBJECTS, single_sample
from unirs.trainers.tiny_data import SIZE, load_scenes, make_scenes, patch_centres, patch_shares
from unirs.trainers.tiny_mixture import Mixture
from unirs.trainers.tiny_presence import (
    ANY_WATER,
    MOST,
    NO,
    THINGS,
    UNSURE,
    YES,
    even_odds,
    presence_turns,
    things_there,
)
from unirs.trainers.wordings import WORDINGS, reworded

PATCHES = 144


def there_of(land: dict[str, float] | None = None, middles: tuple[str, ...] = (), clue: str = "") -> dict[str, int]:
    """What is said of one picture with these shares of land, middles of things and clue."""
    shares, centres = np.zeros((1, len(LAND_CLASSES), PATCHES)), np.zeros((1, len(OBJECTS), PATCHES), bool)
    for name, share in (land or {}).items():
        shares[0, LAND_CLASSES.index(name), : round(share * PATCHES)] = 1
    for name in middles:
        centres[0, OBJECTS.index(name), 7] = True
    return dict(zip(THINGS, things_there(shares, centres, [{"label": "grassland", "clue": clue}])[0], strict=True))


def test_nothing_is_there_in_a_picture_of_nothing():
    assert set(there_of().values()) == {NO}


def test_land_is_there_by_its_share_and_things_by_their_middles():
    there = there_of({"water": 0.1, "road": 0.05}, ("vehicle",), "An aerial view of grassland with a river.")
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


def test_the_answers_are_those_that_the_scenes_were_built_for():
    compared = Counter()
    for seed in range(60):
        sample = single_sample(seed, SIZE)
        land = patch_shares(np.stack([sample.land[0] == k for k in range(len(LAND_CLASSES))]).astype(np.float32))
        word = {"label": sample.label, "clue": sample.clue}
        there = things_there(land[None], patch_centres(sample.centres)[None], [word])[0]
        for one in (one for one in sample.questions if one.kind == "presence"):
            name = next(name for name in PRESENCE_OBJECTS.values() if re.search(rf"\b{name}\b", one.question))
            if name in THINGS:
                assert there[THINGS.index(name)] == (YES if one.answer == "yes" else NO)
                compared[one.answer] += 1
    assert min(compared.values()) > 30


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


def test_questions_about_one_picture_are_true_and_about_different_things():
    rng = np.random.default_rng(0)
    there = np.array([YES, NO] * 7)[: len(THINGS)]
    asked, lengths = Counter(), Counter()
    for _ in range(2000):
        turns = presence_turns(rng, there, np.full(len(THINGS), 1 / len(THINGS)))
        names = []
        for question, answer in turns:
            if question in ANY_WATER:
                name = "a water area"
            else:
                name = next(n for n in THINGS if question in {t.format(a=n) for t in PRESENCE_TEMPLATES})
            assert answer == ("yes" if there[THINGS.index(name)] == YES else "no")
            names.append(name)
        asked.update(names)
        lengths[len(turns)] += 1
        assert len(set(names)) == len(names)
        assert sum(name in ("a water area", "a river", "a pond", "a boat") for name in names) <= 1
    assert set(asked) == set(THINGS)
    assert set(lengths) == set(range(1, MOST + 1))


def test_all_that_is_asked_for_has_other_words():
    rng = np.random.default_rng(0)
    for name in THINGS:
        for template in PRESENCE_TEMPLATES:
            assert reworded(rng, template.format(a=name)) != template.format(a=name)


def test_words_for_water_are_not_those_that_are_kept_to_be_tried():
    held_out = {words.format(a="water", some="water") for one in WORDINGS for words in one.held_out if "{a}" in words}
    assert not set(ANY_WATER) & held_out


def test_a_conversation_of_the_mixture_says_what_the_picture_holds(tmp_path):
    make_scenes(tmp_path, {"single": 12}, 0, processes=1, quiet=True)
    mixture = Mixture(tmp_path, None, 0, tasks=("single",))
    arrays, words = load_scenes(tmp_path, "single")
    there = things_there(arrays["land"][:, 0], arrays["centres"], words)
    rows = [row["row"] for row in mixture.rows() if row["kind"] == "there"]
    assert len(rows) == 24  # each scene, and each turned
    checked: Counter[str] = Counter()
    for row in rows * 20:
        talk = mixture.talk("there", row)
        assert (talk.messages[0]["content"][0]["image"] == mixture.pictures["single"][row, 0]).all()
        for user, said in zip(talk.messages[::2], talk.messages[1::2], strict=True):
            text = user["content"] if isinstance(user["content"], str) else user["content"][-1]["text"]
            names = {"road": "a road", "boat": "a boat", "solar farm": "a solar farm", "parking lot": "a parking lot"}
            name = next((name for word, name in names.items() if word in text), None)
            answer = said["content"] if isinstance(said["content"], str) else said["content"][-1]["text"]
            if name:
                assert answer == ("yes" if there[row % 12, THINGS.index(name)] == YES else "no")
                checked["thing"] += 1
            if "urban" in text:  # whether it is so, of the picture's own land
                assert answer == ("yes" if words[row % 12]["label"] == "built-up area" else "no")
                checked["land"] += 1
    assert min(checked["thing"], checked["land"]) > 20
