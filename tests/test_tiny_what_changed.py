"""What is asked of a pair happened or did not, by the two layouts that its dates were painted from."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from unirs.trainers import scene_tasks
from unirs.trainers.real_scenes import RealPair
from unirs.trainers.scene_changes import Change
from unirs.trainers.scene_tasks import pair_sample
from unirs.trainers.tiny_data import make_scenes
from unirs.trainers.tiny_mixture import QUIET_PAIRS, Mixture
from unirs.trainers.tiny_presence import NO, UNSURE, YES
from unirs.trainers.tiny_what_changed import (
    ASKED,
    change_odds,
    change_turn,
    changes_made,
    is_quiet,
    real_changes_made,
    sentences,
)

from tests.turns import words_of

PAIRS = 300
KEYS = [name.replace(" ", "_") for name in ASKED]


@pytest.fixture(scope="module")
def painted() -> list[tuple[Change, dict[str, Any]]]:
    """The layouts of pairs, and their words as shards hold them."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        changes: list[Change] = []
        draw = scene_tasks.draw_change
        patch.setattr(scene_tasks, "draw_change", lambda *given: changes.append(draw(*given)) or changes[-1])
        for seed in range(PAIRS):
            sample = pair_sample(seed, 16)
            questions = [{"references": list(one.references)} for one in sample.questions]
            found.append((changes[-1], {"label": sample.label, "questions": questions}))
    return found


def happened(change: Change) -> dict[str, bool]:
    """More or fewer of each thing on the second date."""
    before, after = change.before, change.after
    more = {
        "houses": len(after.buildings) - len(before.buildings),
        "houses removed": len(before.buildings) - len(after.buildings),
        "road": len(after.roads) - len(before.roads),
        "parking lot": len(after.lots) - len(before.lots),
        "pond": len(after.water) - len(before.water),
        "sports field": len(after.pitches) - len(before.pitches),
        "solar farm": len(after.panels) - len(before.panels),
        "storage tanks": len(after.tanks) - len(before.tanks),
        "flood": len(after.flood) - len(before.flood),
        "trees planted": len(after.trees) - len(before.trees),
        "trees removed": len(before.trees) - len(after.trees),
    }
    return {name: number > 0 for name, number in more.items()}


def test_what_is_sure_to_have_happened_is_in_the_layouts_and_what_did_not_is_not(painted):
    made = changes_made([word for _, word in painted])
    compared: Counter[tuple[str, int]] = Counter()
    for (change, word), row in zip(painted, made, strict=True):
        truth = happened(change)
        for name, answer in zip(ASKED, row, strict=True):
            if answer != UNSURE:
                assert truth[name] == (answer == YES), (name, word["label"])
                compared[name, int(answer)] += 1
    assert len(compared) == 2 * len(ASKED)


def test_unchanged_pairs_and_no_others_are_quiet(painted):
    quiet = is_quiet(changes_made([word for _, word in painted]))
    assert quiet.tolist() == [word["label"] == "no change" for _, word in painted]


def test_among_changed_pairs_each_thing_happened_as_often_as_not(painted):
    made = changes_made([word for _, word in painted])
    odds, quiet = change_odds(made), is_quiet(made)
    assert odds.sum(1) == pytest.approx(1)
    assert not odds[made == UNSURE].any()
    yes, no = ((odds * (made == answer))[~quiet].sum(0) for answer in (YES, NO))
    assert yes == pytest.approx(no, rel=0.02)
    assert odds[quiet] == pytest.approx(1 / len(ASKED))


@pytest.mark.parametrize(
    ("old", "new", "yes", "no"),
    [
        ("", "", "", " ".join(KEYS)),
        ("a forest", "houses and a road", "houses road trees_removed", "houses_removed parking_lot trees_planted"),
        ("a forest", "houses", "houses trees_removed", "houses_removed"),  # a piece of a town, or painted
        ("a field", "a residential area", "houses", "houses_removed trees_removed"),
        ("grassland", "a large building", "", "houses_removed road parking_lot trees_planted"),
        ("grassland", "a parking lot", "parking_lot", "houses_removed"),
        ("a residential area", "houses", "houses", ""),
        ("a residential area", "water", "", ""),
        ("a residential area", "a field", "houses_removed", "houses road parking_lot"),
        # told backwards: the land shows again what it had
        ("houses", "a forest", "houses_removed", "houses road parking_lot"),
        ("houses", "a parking lot", "houses_removed", ""),
        ("bare land", "a forest", "trees_planted", "houses houses_removed road parking_lot trees_removed"),
    ],
)
def test_of_made_pairs_only_what_their_two_names_tell_is_sure(old, new, yes, no):
    pair = RealPair(np.zeros((2, 4, 4, 3), np.uint8), np.zeros((4, 4), bool), old, new, "a forest")
    said = dict(zip(KEYS, real_changes_made([pair])[0], strict=True))
    found = {answer: {name for name in KEYS if said[name] == answer} for answer in (YES, NO)}
    assert found == {YES: set(yes.split()), NO: set(no.split())}


def test_an_answer_is_that_of_the_thing_that_the_question_names(painted):
    made = changes_made([word for _, word in painted])
    odds, rng = change_odds(made), np.random.default_rng(0)
    for held_out in (False, True):
        things = {words: k for k, one in enumerate(ASKED.values()) for words in sentences(one, held_out)}
        assert len(things) == sum(len(sentences(one, held_out)) for one in ASKED.values())  # no question is of two
        asked: Counter[tuple[int, str]] = Counter()
        for row in range(PAIRS):
            for _ in range(4):
                question, answer = change_turn(rng, made[row], odds[row], held_out)
                assert answer == ("yes" if made[row, things[question]] == YES else "no")
                asked[things[question], answer] += 1
        assert len(asked) == 2 * len(ASKED)


def test_conversations_ask_one_thing_of_all_changed_pairs_and_of_some_unchanged(tmp_path, painted):
    make_scenes(tmp_path, {"pair": 40}, 0, processes=1, quiet=True)
    mixture = Mixture(tmp_path, None, 0, tasks=("pair",))
    rows = {row["row"] for row in mixture.rows() if row["kind"] == "pair_what"}
    changed = {row for row in range(40) if painted[row][1]["label"] != "no change"}
    assert changed < rows
    assert len(rows - changed) == -(-(40 - len(changed)) // QUIET_PAIRS)
    for row in rows:
        talk = mixture.talk("pair_what", row)
        pictures = [item["image"] for item in talk.messages[0]["content"] if item["type"] == "image"]
        assert (np.stack(pictures) == mixture.pictures["pair"][row]).all()
        question = talk.messages[0]["content"][-1]["text"]
        name = next(name for name, one in ASKED.items() if question in sentences(one))
        assert (talk.pixels, len(talk.messages)) == ("pixel_values_pairs", 2)
        assert words_of(talk.messages[1]) == ("yes" if happened(painted[row][0])[name] else "no")
