"""Whether each kind of thing is in a picture of the SYNTHETIC world, for the training of the embedded checkpoint.

RS-World asks for two of eleven kinds in each picture and builds the scene around their answers. What else lies there
is known as well, and people ask for it: a model that is never asked for the pond of a town says no to it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .scene_questions import PRESENCE_OBJECTS, PRESENCE_TEMPLATES
from .scene_shapes import LAND_CLASSES
from .scene_tasks import OBJECTS
from .tiny_places import SMALLEST

# What is asked for: land by its share of the picture, things that are no land by their middles.
LAND = {"tree": "a tree", "field": "a crop field", "solar panels": "a solar farm"}
LAND |= {name: PRESENCE_OBJECTS[name] for name in LAND_CLASSES if name in PRESENCE_OBJECTS}
THINGS = (
    *LAND.values(),
    *(PRESENCE_OBJECTS[name] for name in OBJECTS if name not in LAND),
    "a river",
    "a pond",
    "a forest",
)
# Water as a substance, with no article and no plural.
ANY_WATER = ("Is there any water?", "Can you see any water?", "Any water?", "Can you see water?",
             "Is any water visible?", "Does this picture show any water?",
             "Is there any water in this picture?")  # fmt: skip
YES, NO, UNSURE = 1, 0, -1
ROUNDS, TINY = 30, 1e-12  # of `even_odds`


def things_there(land: np.ndarray, centres: np.ndarray, words: Sequence[dict]) -> np.ndarray:
    """YES, NO or UNSURE of each of THINGS in each picture, `(pictures, THINGS)`.

    Args:
        land: Shares of each class, `(pictures, LAND_CLASSES, patches)`.
        centres: Which patches hold the middle of an object, `(pictures, OBJECTS, patches)`.
        words: Of each picture its `clue`, which may name a river or ponds, and its `questions`, which may be for a
            forest: a few trees are none.
    """
    shares, held = land.astype(np.float32).mean(-1), centres.max(-1)
    columns = []
    for name in LAND:
        share = shares[:, LAND_CLASSES.index(name)]
        seen = held[:, OBJECTS.index(name)] if name in OBJECTS else share > SMALLEST
        columns.append(np.where(seen, YES, np.where(share > 0, UNSURE, NO)))
    columns += [np.where(held[:, OBJECTS.index(name)], YES, NO) for name in OBJECTS if name not in LAND]
    water = columns[list(LAND).index("water")]
    rivers = np.array([_named(one, "river", "pond") for one in words])
    ponds = np.array([_named(one, "pond", "river") for one in words])
    columns += [np.where(water == NO, NO, named) for named in (rivers, ponds)]
    columns.append(np.array([_forest(one) for one in words]))
    return np.stack(columns, axis=1)


def _named(word: dict, kind: str, other: str) -> int:
    """A picture has ponds or one river; which, is only known where the clue, which names three things, does."""
    return YES if kind in word["clue"] else NO if other in word["clue"] else UNSURE


def _forest(word: dict) -> int:
    """Whether the plan has a forest: how many trees are one, the land map does not tell."""
    asked = [one["answer"] for one in word["questions"] if one["kind"] == "presence" and "forest" in one["question"]]
    if not asked:
        return YES if word["label"] == "forest" else UNSURE
    return YES if asked[0] == "yes" else NO


def even_odds(there: np.ndarray) -> np.ndarray:
    """How often to ask for each thing in each picture, so that over all pictures it is there as often as not.

    Args:
        there: Of `things_there`.

    Returns:
        `(pictures, THINGS)`: the odds of one picture sum to one, or are all zero where nothing can be asked. They are
        zero where it is not sure, and for things of which all pictures have or lack them.
    """
    answers = [there == YES, there == NO]
    asked = (answers[0] | answers[1]) & answers[0].any(0) & answers[1].any(0)
    odds = asked.astype(np.float64)
    for _ in range(ROUNDS):  # each answer to each thing as often as any other, then each picture, in turns
        for answer in answers:
            odds *= np.where(answer & asked, 1 / np.maximum((odds * answer).sum(0), TINY), 1)
        odds /= np.maximum(odds.sum(1, keepdims=True), TINY)
    return odds


def presence_turn(rng: np.random.Generator, there: np.ndarray, odds: np.ndarray) -> tuple[str, str]:
    """A question about one picture, and its answer.

    One alone: of two, the first answer would tell something of the second (a car needs a road), and the second would
    be drawn from what the odds had left.

    Args:
        there, odds: Rows of `things_there` and of `even_odds`, `(THINGS,)`; the odds sum to one.
    """
    k = int(rng.choice(len(THINGS), p=odds))
    return _question(rng, THINGS[k]), "yes" if there[k] == YES else "no"


def _question(rng: np.random.Generator, thing: str) -> str:
    if thing == LAND["water"] and rng.random() < 0.4:
        return ANY_WATER[int(rng.integers(len(ANY_WATER)))]
    return PRESENCE_TEMPLATES[int(rng.integers(len(PRESENCE_TEMPLATES)))].format(a=thing)
