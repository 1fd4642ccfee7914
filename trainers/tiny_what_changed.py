"""Whether one kind of thing was built, removed or planted, for the training of the embedded checkpoint.

A caption names the change that there is. People also ask for the one that they look for ("Was a road built?"), and a
model that has only been asked whether anything changed says yes to every one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .real_changes import BARE, BUILT
from .real_scenes import RealPair
from .scene_changes import CHANGE_KINDS
from .tiny_presence import NO, UNSURE, YES, even_odds

ONE = ("Was {a} built?", "Has {a} been built?", "Is there a new {thing}?", "Did {a} appear?", "Was {a} added?",
       "Was a new {thing} built?", "Do you see a new {thing}?", "Has {a} been added?",
       "Was {a} built between the two dates?")  # fmt: skip
ONE_HELD_OUT = ("Has a new {thing} appeared?", "Can you see a new {thing}?")
SEVERAL = ("Were {some} built?", "Were new {some} built?", "Have {some} been built?", "Are there new {some}?",
           "Did {some} appear?", "Any new {some}?", "Were any {some} built?", "Were {some} added?",
           "Do you see new {some}?", "Have any {some} been added?")  # fmt: skip
SEVERAL_HELD_OUT = ("Have new {some} appeared?", "Can you see any new {some}?")
REMOVED = ("Were {some} removed?", "Were any {some} removed?", "Have {some} been removed?", "Did {some} disappear?",
           "Have {some} disappeared?", "Are any {some} gone?", "Were {some} taken away?")  # fmt: skip
REMOVED_HELD_OUT = ("Did the area lose {some}?", "Are there fewer {some} now?")


@dataclass(frozen=True)
class Asked:
    """One thing that may have happened.

    Args:
        kinds: Of CHANGE_KINDS, those in which it did.
        names: One and several of the thing, by each of its names.
        unsure: Kinds in which it may have: trees give way to most of what is built.
        removed: Whether the thing is gone, not new.
        own, own_held_out: Sentences for it alone, trained on and kept to be tried.
    """

    kinds: tuple[str, ...]
    names: tuple[tuple[str, str], ...] = ()
    unsure: tuple[str, ...] = ()
    removed: bool = False
    own: tuple[str, ...] = ()
    own_held_out: tuple[str, ...] = ()


HOUSES = (("a house", "houses"), ("a building", "buildings"))
TREES_STAY = ("vegetation cleared", "houses removed", "trees planted")
ASKED = {
    "houses": Asked(("few houses", "many houses"), HOUSES),
    "houses removed": Asked(
        ("houses removed",), HOUSES, removed=True, own=("Were houses torn down?", "Was anything demolished?")
    ),
    "road": Asked(("road", "many houses"), (("a road", "roads"),)),
    "parking lot": Asked(("parking lot",), (("a parking lot", "parking lots"), ("a car park", "car parks"))),
    "pond": Asked(
        ("pond",),
        unsure=("flood",),
        own=("Was a pond made?", "Is there a new pond?", "Did a pond appear?", "Is there a new lake?",
             "Did a lake appear?", "Was a lake made?", "Was a pond dug?", "Do you see a new pond?"),
        own_held_out=("Has a new pond appeared?", "Can you see a new pond?", "Can you see a new lake?"),
    ),
    "sports field": Asked(("sports field",), (("a sports field", "sports fields"),)),
    "solar farm": Asked(("solar farm",), (("a solar farm", "solar farms"), ("a solar panel", "solar panels"))),
    "storage tanks": Asked(("storage tanks",), (("a storage tank", "storage tanks"),)),
    "flood": Asked(
        ("flood",),
        unsure=("pond",),
        own=("Is there a new flood?", "Did a flood come?", "Was the land flooded between the two dates?",
             "Has the land been flooded?"),
        own_held_out=("Has a flood come?", "Did the land become flooded?"),
    ),
    "trees planted": Asked(
        ("trees planted",),
        own=("Were trees planted?", "Have trees been planted?", "Are there new trees?", "Did trees appear?",
             "Were any trees planted?", "Did a wood grow?", "Is there a new wood?"),
        own_held_out=("Have new trees appeared?", "Can you see any new trees?"),
    ),
    "trees removed": Asked(
        ("vegetation cleared",),
        (("a tree", "trees"),),
        unsure=tuple(kind for kind in CHANGE_KINDS if kind not in TREES_STAY),
        removed=True,
        own=("Were trees cut down?", "Have trees been cut down?", "Was the forest cleared?", "Was forest lost?"),
    ),
}  # fmt: skip
OPEN = {"grassland", "a field", "a forest", BARE}  # land with next to nothing built on it
PAINTED = {*BUILT, BARE} - {"houses", "large buildings"}  # never cut from a scene


def changes_made(words: Sequence[dict[str, Any]]) -> np.ndarray:
    """YES, NO or UNSURE of each of ASKED in each generated pair, `(pairs, ASKED)`.

    Args:
        words: Of each pair its `label`, the kind of change, and its captions in `questions`, which may add houses.
    """
    rows = []
    for word in words:
        label, caption = word["label"], word["questions"][0]["references"][0]
        row = [YES if label in one.kinds else UNSURE if label in one.unsure else NO for one in ASKED.values()]
        if label in CHANGE_KINDS and label != "houses removed" and "house" in caption:
            row[list(ASKED).index("houses")] = YES
        rows.append(row)
    return np.array(rows).reshape(-1, len(ASKED))


def real_changes_made(pairs: Sequence[RealPair]) -> np.ndarray:
    """As `changes_made`, of pairs made from real pictures: less is sure, for a piece of a town has roads as well."""
    return np.array([[_really(name, pair) for name in ASKED] for pair in pairs]).reshape(-1, len(ASKED))


def _really(name: str, pair: RealPair) -> int:
    old, new = pair.old, pair.new
    if not new:
        return NO
    yes = no = False
    if name == "houses":
        yes, no = "house" in new or (new == "a residential area" and old in OPEN), new in OPEN
    elif name == "houses removed":
        yes, no = "house" in old or (old == "a residential area" and new in OPEN), old in OPEN
    elif name == "road":
        yes, no = "road" in new, new in OPEN or new in PAINTED
    elif name == "parking lot":
        yes, no = new == "a parking lot" and old not in BUILT, new in OPEN or new in PAINTED
    elif name == "trees planted":
        yes, no = new == "a forest" and old not in BUILT, new in PAINTED
    elif name == "trees removed":
        yes, no = old == "a forest", old in ("a field", BARE)
    return YES if yes else NO if no else UNSURE  # the others are asked of unchanged pairs alone


def change_odds(made: np.ndarray) -> np.ndarray:
    """How often to ask for each thing in each pair: of changed pairs "yes" is right as often as "no" if they allow it.

    Among all pairs would not do: the unchanged ones would have all of the "no", and "did anything change?" the answer.

    Args:
        made: Of `changes_made`.

    Returns:
        `(pairs, ASKED)`: as of `even_odds` for changed pairs; any thing alike where nothing happened.
    """
    odds, changed = np.zeros(made.shape), ~is_quiet(made)
    odds[changed] = even_odds(made[changed])
    asked = odds.any(0)
    odds[~changed] = asked / max(asked.sum(), 1)
    return odds


def is_quiet(made: np.ndarray) -> np.ndarray:
    """Of which pairs the answer is "no" whatever is asked, `(pairs,)`."""
    return (made == NO).all(1)


def change_turn(
    rng: np.random.Generator, made: np.ndarray, odds: np.ndarray, held_out: bool = False
) -> tuple[str, str]:
    """A question about one thing that may have happened between the dates of one pair, and its answer.

    Args:
        made, odds: Rows of `changes_made` and of `change_odds`, `(ASKED,)`; the odds sum to one.
        held_out: In words that are not trained on.
    """
    k = int(rng.choice(len(ASKED), p=odds))
    words = sentences(list(ASKED.values())[k], held_out)
    return words[int(rng.integers(len(words)))], "yes" if made[k] == YES else "no"


def sentences(asked: Asked, held_out: bool = False) -> list[str]:
    """All ways to ask for it."""
    forms: tuple[str, ...]
    if asked.removed:
        forms = REMOVED_HELD_OUT if held_out else REMOVED
    else:
        forms = (*ONE_HELD_OUT, *SEVERAL_HELD_OUT) if held_out else (*ONE, *SEVERAL)
    found = [form.format(a=a, some=some, thing=a.split(" ", 1)[1]) for a, some in asked.names for form in forms]
    return [*found, *(asked.own_held_out if held_out else asked.own)]
