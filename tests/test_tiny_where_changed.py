"""Where a pair changed is told by the middle of its mask, or by how far it reaches."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from unirs.trainers.tiny_data import GRID, SIZE, make_scenes, patch_shares
from unirs.trainers.tiny_mixture import PAIR_ALONE, TIMES, Mixture
from unirs.trainers.tiny_places import turned_place
from unirs.trainers.tiny_where_changed import EVERYWHERE, NOWHERE, SEVERAL, WHERE_CHANGED, changed_place
from unirs.trainers.wordings import FLAG_QUESTION, WORDINGS

from tests.turns import words_of


def marked(*boxes: tuple[float, float, float, float]) -> np.ndarray:
    """Shares of the patches of a mask of boxes: left, top, right, bottom, in shares of the side."""
    mask = np.zeros((SIZE, SIZE), np.float32)
    for box in boxes:
        left, top, right, bottom = (round(end * SIZE) for end in box)
        mask[top:bottom, left:right] = 1
    return patch_shares(mask).reshape(GRID, GRID)


@pytest.mark.parametrize(
    ("boxes", "place"),
    [
        ((), NOWHERE),
        (((0.0, 0.0, 1.0, 1.0),), EVERYWHERE),
        (((0.1, 0.1, 0.2, 0.2),), "top left"),
        (((0.8, 0.1, 0.9, 0.2),), "top right"),
        (((0.45, 0.8, 0.55, 0.9),), "bottom"),
        (((0.0, 0.4, 0.2, 0.6),), "left"),
        (((0.4, 0.4, 0.6, 0.6),), "middle"),
        (((0.42, 0.1, 0.48, 0.2), (0.54, 0.1, 0.6, 0.2)), "top"),  # two houses, side by side
        (((0.1, 0.1, 0.2, 0.2), (0.8, 0.8, 0.9, 0.9)), SEVERAL),
        (((0.1, 0.1, 0.4, 0.4), (0.8, 0.8, 0.9, 0.9)), ""),  # nearly all of it is at one place
        (((0.0, 0.45, 1.0, 0.52),), ""),  # a road across
        (((0.0, 0.46, 1.0, 0.5), (1 / 12, 1 / 12, 2 / 12, 2 / 12)), ""),  # and a house that fills its patch
        (((0.0, 0.0, 1.0, 0.6),), ""),
        (((0.25, 0.45, 0.4, 0.55),), ""),  # on the border of two ninths
        (((0.22, 0.45, 0.3, 0.55), (0.7, 0.45, 0.78, 0.55)), ""),  # its middle holds none of it
    ],
)
def test_a_change_is_where_its_middle_is_if_it_is_at_one_place(boxes, place):
    assert changed_place(marked(*boxes)) == place


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_turned_change_is_at_the_turned_place(quarters):
    rng = np.random.default_rng(0)
    for _ in range(50):
        x, y, wide = *rng.uniform(0, 0.8, 2), rng.uniform(0.05, 0.2)
        shares = marked((x, y, x + wide, y + wide))
        place, turned = changed_place(shares), changed_place(np.rot90(shares, quarters))
        assert turned == (turned_place(place, quarters, False) if place else "")


def test_conversations_ask_where_or_whether_and_say_what_the_masks_say(tmp_path):
    make_scenes(tmp_path, {"pair": 30}, 0, processes=1, quiet=True)
    mixture = Mixture(tmp_path, None, 0, tasks=("pair",))
    kind = next(kind for kind, pictures in PAIR_ALONE.items() if pictures == "pair")
    rows = Counter(row["row"] for row in mixture.rows() if row["kind"] == kind)
    assert rows == dict.fromkeys(range(30), TIMES[kind])
    labels = [word["label"] for word in mixture.words["pair"]]
    where, whether = (
        next(one for one in WORDINGS if re.fullmatch(one.pattern, asked)) for asked in (WHERE_CHANGED, FLAG_QUESTION)
    )
    asked = set()
    for row, label in enumerate(labels):
        place = mixture.where_changed["pair"][row]
        assert (place == NOWHERE) == (label == "no change")
        for _ in range(8):
            talk = mixture.talk(kind, row)
            pictures = [item["image"] for item in talk.messages[0]["content"] if item["type"] == "image"]
            assert (np.stack(pictures) == mixture.pictures["pair"][row]).all()
            turns = [words_of(turn) for turn in talk.messages]
            said = dict(zip(turns[::2], turns[1::2], strict=True))
            for question, answer in said.items():
                if answer == "I cannot tell.":
                    continue
                if question in {WHERE_CHANGED, *where.trained}:
                    assert answer == place
                    asked.add("where")
                elif question in {FLAG_QUESTION, *whether.trained}:
                    assert answer == ("no" if label == "no change" else "yes")
                    asked.add("whether" if question == FLAG_QUESTION else "whether in other words")
                else:  # by another answer's name
                    assert answer in ("yes", "no", "the same", "different")
    assert asked == {"where", "whether", "whether in other words"}
