"""Questions about every ninth of a picture of the SYNTHETIC aerial world, for the training of the embedded checkpoint.

RS-World asks where a thing is only if it is the only one of its kind, once in three pictures. That is too seldom for a
small language model to learn which of its visual tokens lies where; each picture can tell nine times what lies where.
"""

from __future__ import annotations

import numpy as np

from .scene_questions import COLUMNS, ROWS
from .scene_shapes import LAND_CLASSES
from .scene_tasks import OBJECTS

# What each class of land is called in an answer, in the order of LAND_CLASSES.
NAMES = dict(zip(LAND_CLASSES, ("grassland", "bare land", "a crop field", "trees", "water", "a road", "a parking lot",
                                "buildings", "a flood", "storage tanks", "a solar farm", "a sports field"),
                 strict=True))  # fmt: skip
MAIN = 0.6  # share of a ninth from which one kind of land is what lies there
PLACES = tuple(" ".join(word for word in (row, column) if word) or "middle" for row in ROWS for column in COLUMNS)


def ninths(patches: np.ndarray) -> np.ndarray:
    """Means over the ninths of a square grid of patches: `(kinds, side * side)` to `(kinds, 9)`, row by row."""
    side = round(patches.shape[-1] ** 0.5)
    return patches.astype(np.float32).reshape(-1, 3, side // 3, 3, side // 3).mean((2, 4)).reshape(-1, 9)


def place_turns(
    rng: np.random.Generator, land: np.ndarray, centres: np.ndarray, most: int = 7
) -> list[tuple[str, str]]:
    """What lies in up to `most` ninths, or whether a thing does; at most one question about each ninth.

    Args:
        land: Shares of each class, `(LAND_CLASSES, patches)`.
        centres: Which patches hold the middle of an object, `(OBJECTS, patches)`.
    """
    covered, held = ninths(land), ninths(centres) > 0
    turns: list[tuple[str, str]] = []
    for place in rng.permutation(9):
        where = f"at the {PLACES[place]} of the image?"
        # of the things that are in the picture: what is nowhere would be answered without looking for the place
        there = bool(rng.random() < 0.5)
        kinds = np.flatnonzero(held.any(1) & (held[:, place] == there))
        name = OBJECTS[int(rng.choice(kinds))] if len(kinds) else ""
        if name and rng.random() < 0.6 and _surely(name, there, covered[:, place]):
            turns.append((f"Is there a {name} {where}", "yes" if there else "no"))
        elif covered[:, place].max() >= MAIN:
            turns.append((f"What is {where}", NAMES[LAND_CLASSES[covered[:, place].argmax()]]))
    return turns[:most]


def _surely(name: str, there: bool, covered: np.ndarray) -> bool:
    """A thing whose middle lies next door may reach into the ninth: neither yes nor no."""
    return there or name not in LAND_CLASSES or not covered[LAND_CLASSES.index(name)]
