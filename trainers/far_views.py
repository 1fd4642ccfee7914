"""RSSCN7's training scenes seen as other cameras see land: nearer, darker, without leaves, or from a satellite.

RSSCN7 is one map service's mosaic. A model that knows real land from it alone calls whatever is dark and smooth water:
asphalt, woods in the shade, all that Sentinel-2 shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageFilter

from .real_changes import soft_field
from .real_scenes import SCENE_CLASSES, SceneClass, relight, view
from .scene_shapes import Array

NEAREST, NEAREST_GREEN = 0.3, 0.5  # side of the smallest view; a smaller one of a wood may show a clearing alone
WATER = "a water area"
SMOOTHEST_OF = 12  # views of water: half of its scenes is bank
DARKEST = 0.12  # mean of a picture, of 1; of Sentinel-2's four that were looked at, the darkest has 0.20
# Standard deviation of a grey value: at least so much, or this share of what it was, whichever is less.
FLATTEST, FLATTER = 8.0, 0.5
LAND = tuple(number for number, one in enumerate(SCENE_CLASSES) if one.cover)  # what a patchwork is made of
COUNTRY = tuple(number for number in LAND if not SCENE_CLASSES[number].buildings)
CELLS = (3, 60)  # of a patchwork; as many are below 13 as above
TILES = (28, 100)  # pixels that a picture's side becomes in it: 144 of them are 1 to 5 pictures across
UNTOWNED = 0.4  # share of the patchworks in which but for the main class there is no town
OF_MAIN = (0.3, 1.0)  # share of the cells that are of the main class
MOSTLY = 0.5  # share of the area, of a cover that is called the main one
SEEN, TOWN, NO_TOWN = 0.1, 0.8, 0.02  # shares of the area: of what is told, of an urban picture, of a rural one
BUILT_UP, GARDENS = "built-up area", "residential area"
NOT_EVERYWHERE = ("a vehicle", "a road")  # in a scene that has them
NAMES = {"grassland": "grassland", "cropland": "fields", "forest": "a forest", "water": "water", BUILT_UP: "a town"}
# Things that are told of a cover where there is enough of it, and where there is none.
THINGS = {"cropland": "a crop field", "forest": "a forest", "water": WATER, BUILT_UP: "a building"}


def strange_light(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    """The same land as another camera or season shows it: dim and blue, leafless, pale, grey, or merely relit."""
    pixels = np.asarray(relight(rng, image, 0.6), np.float32) / 255  # (height, width, 3)
    kind = rng.random()
    if kind < 0.35:  # Sentinel-2 without a stretch: dim, flat, blue in the shade
        pixels = pixels ** rng.uniform(0.7, 1.3) * rng.uniform(0.25, 0.6)
        pixels += np.array((0.03, 0.07, 0.12), np.float32) * rng.uniform(0.3, 1.2)
    elif kind < 0.5:  # no leaves: what is green turns grey and brown
        green = np.clip((pixels[..., 1] - pixels[..., [0, 2]].mean(-1)) * 8 + 0.4, 0, 1)[..., None]
        bare = pixels.mean(-1, keepdims=True) * np.array((1.18, 1.04, 0.92), np.float32) * rng.uniform(1.0, 1.7)
        pixels += rng.uniform(0.5, 1.0) * green * (bare - pixels)
    elif kind < 0.65:  # deep shade, or an evening
        pixels = pixels ** rng.uniform(1.2, 2.0) * rng.uniform(0.5, 1.0)
    elif kind < 0.75:  # haze, or too much light
        pixels = pixels * rng.uniform(0.4, 0.8) + rng.uniform(0.2, 0.5)
    elif kind < 0.85:  # one band
        pixels = pixels @ rng.dirichlet((2, 2, 2)).astype(np.float32)[:, None].repeat(3, 1)
    pixels *= max(1.0, DARKEST / max(float(pixels.mean()), 1e-3))
    return Image.fromarray((np.clip(pixels, 0, 1) * 255).astype(np.uint8))


@dataclass(frozen=True)
class FarView:
    """Land in a strange light, the same in its own, and what may be told of both."""

    strange: Image.Image
    plain: Image.Image
    told: SceneClass


def far_view(rng: np.random.Generator, picture: Array, scene: SceneClass, size: int) -> FarView:
    """The picture, or a part of it."""
    whole = rng.random() < 0.4
    smallest = 1.0 if whole else NEAREST if scene.urban else NEAREST_GREEN
    if scene.cover == "water":
        plain = _smoothest([view(rng, picture, size, NEAREST_GREEN) for _ in range(SMOOTHEST_OF)])
    else:
        plain = view(rng, picture, size, smallest)
    told = scene if whole else replace(scene, shown=tuple(one for one in scene.shown if one not in NOT_EVERYWHERE))
    if scene.cover not in ("water", None) and scene.name != GARDENS:  # car parks lie at rivers, gardens have pools
        told = replace(told, hidden=(*told.hidden, WATER))
    return FarView(_seen(rng, plain), plain, told)


def _smoothest(views: list[Image.Image]) -> Image.Image:
    """Of views of water, the one that shows the least of its banks."""
    return min(views, key=lambda one: np.abs(np.diff(np.asarray(one.convert("L"), np.float32), axis=0)).mean())


def _seen(rng: np.random.Generator, plain: Image.Image) -> Image.Image:
    """In a strange light, in which it can still be seen."""
    enough = min(FLATTEST, FLATTER * np.asarray(plain.convert("L"), np.float32).std())
    while True:
        strange = strange_light(rng, _coarser(rng, plain))
        if np.asarray(strange.convert("L"), np.float32).std() >= enough:
            return strange


def _coarser(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    """At times with fewer pixels on the ground than it is shown with."""
    side = round(image.size[0] / rng.uniform(1, 3))
    if rng.random() < 0.6:
        return image
    return image.resize((side, side), Image.Resampling.BOX).resize(image.size, Image.Resampling.BICUBIC)


def patchwork(rng: np.random.Generator, pictures: Array, labels: Array, size: int) -> FarView:
    """Land of several covers as a satellite sees it, each cell of it filled with a scene from far away.

    It has no name as a scene, and no main cover where none has half of it.

    Args:
        pictures, labels: As `load_real` gives them.
    """

    def seen(kind: int, tile: int) -> Image.Image:
        return scene_from_afar(rng, pictures, np.flatnonzero(labels == kind), tile, SCENE_CLASSES[kind].cover)

    plain, shares = laid(rng, seen, size, TILES)
    return FarView(_seen(rng, plain), plain, told_of(shares))


def laid(
    rng: np.random.Generator, seen: Callable[[int, int], Image.Image], size: int, tiles: tuple[int, int]
) -> tuple[Image.Image, dict[str, float]]:
    """Cells of land, each filled with a scene, and the share of the area that each cover has.

    Args:
        seen: A scene of this class of `SCENE_CLASSES`, so many pixels large.
        tiles: How many pixels a scene may have.
    """
    # 1. cells: each point belongs to the nearest of some middles, by borders that are not quite straight
    cells = round(np.exp(rng.uniform(*np.log(CELLS))))
    middles = rng.uniform(0, size, (cells, 2))
    bend = size * rng.uniform(0, 0.12) * np.stack([soft_field(rng, size) for _ in range(2)], axis=-1)
    places = np.moveaxis(np.mgrid[:size, :size], 0, -1) + bend  # (size, size, 2)
    owners = np.linalg.norm(places[:, :, None] - middles, axis=-1).argmin(-1)  # (size, size)
    # 2. a scene for each: of the main class, or of any
    main = LAND[rng.integers(len(LAND))]
    others = COUNTRY if rng.random() < UNTOWNED else LAND
    kinds = np.where(rng.random(cells) < rng.uniform(*OF_MAIN), main, rng.choice(others, cells))
    tile, canvas, shares = int(rng.integers(*tiles)), np.zeros((size, size, 3), np.uint8), dict.fromkeys(NAMES, 0.0)
    alike: dict[int, Image.Image] = {}  # all water of a picture has one colour, and so have its woods
    for cell, kind in enumerate(kinds):
        mine, cover = owners == cell, SCENE_CLASSES[kind].cover
        assert cover is not None
        scene = alike.get(kind) or seen(kind, tile)
        if cover in ("water", "forest"):
            alike[kind] = scene
        filled = np.pad(np.asarray(scene), ((0, max(0, size - tile)),) * 2 + ((0, 0),), "symmetric")
        canvas[mine] = filled[:size, :size][mine]
        shares[cover] += mine.mean()
    return Image.fromarray(canvas).filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.2))), shares


def scene_from_afar(
    rng: np.random.Generator, pictures: Array, rows: Array, side: int, cover: str | None
) -> Image.Image:
    """One of these rows, `side` pixels large; of water, what shows the least of its banks."""
    if cover != "water":
        return view(rng, pictures[rng.choice(rows)], side, 0.8)
    return _smoothest([view(rng, pictures[row], side, NEAREST) for row in rng.choice(rows, SMOOTHEST_OF)])


def far_views(rng: np.random.Generator, pictures: Array, labels: Array, size: int) -> list[FarView]:
    """Two of every picture, and as many patchworks as there are pictures."""
    views = [
        far_view(rng, picture, SCENE_CLASSES[label], size)
        for picture, label in zip(pictures, labels, strict=True)
        for _ in range(2)
    ]
    return views + [patchwork(rng, pictures, labels, size) for _ in pictures]


def told_of(shares: dict[str, float]) -> SceneClass:
    """What may be told of land with these shares of the covers."""
    ordered = sorted(shares, key=lambda name: -shares[name])
    first = ordered[0]
    others = [NAMES[name] for name in ordered[1:3] if shares[name] >= SEEN]
    town = shares[BUILT_UP]
    return SceneClass(
        folder="",
        name="",
        noun=f"{NAMES[first]} with {' and '.join(others)}" if others else NAMES[first],
        cover=first if shares[first] >= MOSTLY else None,
        urban=True if town >= TOWN else False if town <= NO_TOWN else None,
        shown=tuple(thing for cover, thing in THINGS.items() if shares[cover] >= SEEN),
        # a house may stand on any land; grass and crops are not told apart by everyone
        hidden=tuple(
            thing
            for cover, thing in THINGS.items()
            if not shares[cover] and cover != BUILT_UP and not (cover == "cropland" and shares["grassland"])
        ),
    )
