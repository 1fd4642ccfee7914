"""Questions about every ninth of a picture of the SYNTHETIC aerial world, for the training of the embedded checkpoint.

RS-World asks where a thing is only if it is the only one of its kind, once in three pictures. That is too seldom for a
small language model to learn which of its visual tokens lies where; each picture can tell nine times what lies where,
and of several things where they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .scene_questions import COLUMNS, ROWS
from .scene_shapes import LAND_CLASSES
from .scene_tasks import OBJECTS
from .tiny_data import turned

# What each class of land is called in an answer, in the order of LAND_CLASSES.
NAMES = dict(zip(LAND_CLASSES, ("grassland", "bare land", "a crop field", "trees", "water", "a road", "a parking lot",
                                "buildings", "a flood", "storage tanks", "a solar farm", "a sports field"),
                 strict=True))  # fmt: skip
MAIN = 0.6  # share of a ninth from which one kind of land is what lies there
ALL = 0.97  # share of a kind of land from which it lies in one ninth; less may be the edge of a patch
SMALLEST = 0.004  # share of the picture: less is no more than half a patch
# Land that is asked for by its place, and how.
WHERE = {"tree": "are the trees", "field": "is the crop field", "water": "is the water",
         "parking lot": "is the parking lot", "sports field": "is the sports field",
         "solar panels": "is the solar farm"}  # fmt: skip
ASKED_WHERE = 0.7  # share of the things with a place that are asked for it; of the others it is asked what is there
MOST_WHERE = 3  # questions for a place in one conversation
PLACES = tuple(" ".join(word for word in (row, column) if word) or "middle" for row in ROWS for column in COLUMNS)


def turned_place(place: str, quarters: int, mirrored: bool) -> str:
    """Where something at `place` lies after `tiny_data.turned`."""
    places = turned(np.array(PLACES).reshape(3, 3), quarters, mirrored)
    return PLACES[list(places.ravel()).index(place)]


def ninths(patches: np.ndarray) -> np.ndarray:
    """Means over the ninths of a square grid of patches: `(kinds, side * side)` to `(kinds, 9)`, row by row."""
    side = round(patches.shape[-1] ** 0.5)
    return patches.astype(np.float32).reshape(-1, 3, side // 3, 3, side // 3).mean((2, 4)).reshape(-1, 9)


def where_turns(land: np.ndarray, centres: np.ndarray) -> list[tuple[str, str]]:
    """Where each thing lies that lies in one ninth, be it one or several of a kind; arrays as for `place_turns`."""
    turns = []
    for name, marks in zip(OBJECTS, ninths(centres), strict=True):
        if np.count_nonzero(marks) == 1:
            several = centres[OBJECTS.index(name)].sum() > 1
            thing = f"are the {name}s" if several else f"is the {name}"
            turns.append((f"Where in the image {thing}?", PLACES[marks.argmax()]))
    covered = ninths(land)
    for name, thing in WHERE.items():
        shares = covered[LAND_CLASSES.index(name)]
        if shares.mean() > SMALLEST and shares.max() > ALL * shares.sum():
            turns.append((f"Where in the image {thing}?", PLACES[shares.argmax()]))
    return turns


def place_turns(
    rng: np.random.Generator,
    land: np.ndarray,
    centres: np.ndarray,
    most: int = 7,
    known: Sequence[tuple[str, str]] = (),
) -> list[tuple[str, str]]:
    """Where things lie, then what lies in ninths, whether a thing does and how many; no two questions tell one thing.

    Args:
        land: Shares of each class, `(LAND_CLASSES, patches)`.
        centres: Which patches hold the middle of an object, `(OBJECTS, patches)`.
        most: Questions at most.
        known: Questions for places, and answers, that are known beside those of `where_turns`.
    """
    covered, held = ninths(land), ninths(centres) > 0
    places = list(
        {question: (question, answer) for question, answer in (*where_turns(land, centres), *known)}.values()
    )
    places = [turn for turn in places if rng.random() < ASKED_WHERE]
    turns = [places[k] for k in rng.permutation(len(places))[: min(most, MOST_WHERE)]]
    asked, told = " ".join(question for question, _ in turns), {answer for _, answer in turns}
    for place in rng.permutation(9):
        if PLACES[place] in told:
            continue
        where = f"at the {PLACES[place]} of the image?"
        # of the things that are in the picture: what is nowhere would be answered without looking for the place
        there = bool(rng.random() < 0.5)
        kinds = [k for k in np.flatnonzero(held.any(1) & (held[:, place] == there)) if OBJECTS[k] not in asked]
        name = OBJECTS[int(rng.choice(kinds))] if kinds else ""
        if name == "building" and there and rng.random() < 0.5:  # no two buildings have their middle in one patch
            number = round(float(ninths(centres)[OBJECTS.index(name), place]) * centres.shape[-1] / 9)
            turns.append((f"How many {name}s are there {where}", str(number)))
        elif name and rng.random() < 0.6 and _surely(name, there, covered[:, place]):
            turns.append((f"Is there a {name} {where}", "yes" if there else "no"))
        elif covered[:, place].max() >= MAIN:
            turns.append((f"What is {where}", NAMES[LAND_CLASSES[covered[:, place].argmax()]]))
    return turns[:most]


def _surely(name: str, there: bool, covered: np.ndarray) -> bool:
    """A thing whose middle lies next door may reach into the ninth: neither yes nor no."""
    return there or name not in LAND_CLASSES or not covered[LAND_CLASSES.index(name)]
