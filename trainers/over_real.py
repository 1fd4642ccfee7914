"""Clips and pairs of RS-World laid over real land: RSSCN7's training scenes stand for its painted grass and soil.

All that happens in RS-World is painted, and so is the land under it. A model that has seen no other takes real land
for an event in those colours; one that has seen real land without events alone takes it for a sign of none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from .real_scenes import SceneClass, misregister, relight, view
from .scene_changes import Change, draw_change
from .scene_clips import CLIP_CLASSES, film
from .scene_look import random_look
from .scene_shapes import LAND_CLASSES, Array
from .scenes import land_map, render

QUIET = 0.4  # share of the clips in which nothing happens
LIGHT, CLIP_LIGHT = 0.7, 0.5  # as `relight` takes it, between the dates of a pair, and of a clip
GROUND_SEEN = 0.5  # share of both dates from which what the land is can be told
WOOD, CAR_PARK = "a forest", "a parking lot"
# Changes that would not be told from the land around, by its noun.
NOT_ON = {WOOD: ("trees planted", "vegetation cleared"), CAR_PARK: ("parking lot",)}
# As captions call them. What was there before is not told (`real_scenes.captions`): it is not what is painted.
OLD_LAND, TOWN = ("grassland", "bareland", "the forest"), "residential area"
GROUND, TREE = LAND_CLASSES.index("ground"), LAND_CLASSES.index("tree")


@dataclass(frozen=True)
class OverPair:
    """Two dates `(2, size, size, 3)` uint8, and the words of the pair.

    Args:
        mask: What changed, `(size, size)`, before the second date was moved a little.
        label: Of CHANGE_KINDS, or "no change".
        clue: Empty where too little of the land is seen.
    """

    pictures: Array
    mask: Array
    label: str
    captions: tuple[str, ...]
    clue: str


def over_clip(
    rng: np.random.Generator, picture: Array, scene: SceneClass, size: int, frames: int
) -> tuple[Array, str, str]:
    """Frames `(frames, size, size, 3)` uint8 of a clip over the picture, its class and a sentence on what it shows.

    Args:
        picture: `(side, side, 3)`, of the class `scene`.
    """
    quiet = rng.random() < QUIET
    name = "non-event" if quiet else str(rng.choice([one for one in CLIP_CLASSES if one != "non-event"]))
    ground = relight(rng, Image.fromarray(np.rot90(picture, int(rng.integers(4)))), CLIP_LIGHT)
    images, clue = film(rng, name, size, frames, ground=np.asarray(ground))
    return np.stack([np.asarray(image) for image in images]), name, clue or _view_of(scene)


def over_pair(rng: np.random.Generator, picture: Array, scene: SceneClass, size: int, changed: bool) -> OverPair:
    """A pair of RS-World over the picture, in another light on each date.

    Args:
        picture: `(side, side, 3)`, of the class `scene`, which is no water.
    """
    change, captions = _draw(rng, scene, changed)
    land, looks = view(rng, picture, size), [random_look(rng) for _ in range(2)]
    dates = [
        render(layout, replace(look, ground=np.asarray(relight(rng, land, LIGHT))), size)
        for layout, look in zip((change.before, change.after), looks, strict=True)
    ]
    dates[1] = misregister(rng, dates[1])
    maps = np.stack([land_map(layout, size) for layout in (change.before, change.after)])  # vehicles are on none
    mask = maps[0] != maps[1]
    if scene.noun == WOOD:  # painted trees that give way leave real ones
        mask &= ~np.isin(maps, (GROUND, TREE)).all(0)
    clue = _view_of(scene) if (maps == GROUND).mean((1, 2)).min() > GROUND_SEEN else ""
    return OverPair(np.stack([np.asarray(date) for date in dates]), mask, change.kind, captions, clue)


def _draw(rng: np.random.Generator, scene: SceneClass, changed: bool) -> tuple[Change, tuple[str, ...]]:
    """A change that is seen on this land, and what can be said of it there."""
    while True:
        change = draw_change(rng, changed)
        captions = change.captions
        hidden = (*OLD_LAND, TOWN) if scene.urban else OLD_LAND  # no town turns into one, or is gone for a house
        if scene.urban or change.kind != "vegetation cleared":  # there the land is a wood, and bare land what is new
            captions = tuple(one for one in captions if not any(name in one for name in hidden))
        if captions and change.kind not in NOT_ON.get(scene.noun, ()):
            return change, captions


def _view_of(scene: SceneClass) -> str:
    return f"An aerial view of {scene.noun}."
