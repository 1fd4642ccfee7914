"""Land as Sentinel-2 shows it, of EuroSAT's patches: single ones, and patchworks of several.

RSSCN7 is one map service's mosaic. Of what a satellite of ten metres to the pixel sees it tells nothing, and dark blue
fields are called water by who knows its pictures alone.
"""

from __future__ import annotations

import itertools
import json
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from .far_views import laid, scene_from_afar, told_of
from .real_scenes import SCENE_CLASSES, SceneClass, view
from .scene_shapes import Array

NOT_IN_THE_COUNTRY = ("a parking lot", "a boat", "a sports field", "a storage tank")
# What may be told of a patch of each of EuroSAT's classes that are at hand.
PATCH_CLASSES = {
    "Crop": SceneClass("", "", "fields", "cropland", False, ("a crop field",), NOT_IN_THE_COUNTRY),
    "Pasture": SceneClass("", "", "grassland", "grassland", False, (), NOT_IN_THE_COUNTRY),
    "Industrial": SceneClass(
        "",
        "",
        "an industrial area",
        "built-up area",
        True,
        ("a building", "a road"),
        ("a crop field", "a forest", "a boat"),
    ),
    "River": SceneClass("", "", "a river", None, None, ("a water area",), ()),
    "Highway": SceneClass("", "", "a main road", None, None, ("a road",), ()),
}
# Which of them fill the cells of a patchwork, by the class of RSSCN7 whose cover is theirs; woods and estates, of
# which none are at hand, are RSSCN7's own in the satellite's light.
FILLING = {"grass": "Pasture", "field": "Crop", "industry": "Industrial"}
VIEWS = 6  # of each patch
NEAREST = 0.6  # side of the smallest view
TILES = (24, 64)  # pixels that a patch of 640 m becomes; at 36, 144 of them show 2,560 m, as RSVQA-LR's pictures do
DIMMED, BLUE = (0.35, 0.6), np.array((4, 10, 18), np.float32)  # what makes RSSCN7's light the satellite's


def load_patches(folder: Path) -> dict[str, Array]:
    """Patches `(n, side, side, 3)` uint8 by class, of a folder with `labels.json`: `[{"file": ..., "label": ...}]`.

    Raises:
        FileNotFoundError: The folder has no `labels.json`, or none of one of `PATCH_CLASSES`.
    """
    index = folder / "labels.json"
    if not index.is_file():
        raise FileNotFoundError(f"{index}: no such file; give --satellite the folder of EuroSAT's patches")
    found: dict[str, list[Array]] = {name: [] for name in PATCH_CLASSES}
    for row in json.loads(index.read_text()):
        if row["label"] in found:
            found[row["label"]].append(np.asarray(Image.open(folder / row["file"]).convert("RGB")))
    if missing := [name for name, patches in found.items() if not patches]:
        raise FileNotFoundError(f"{index}: names no patch of {', '.join(missing)}")
    return {name: np.stack(patches) for name, patches in found.items()}


def other_pass(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    """The same land at another pass of the satellite, and by another stretch: dimmer mostly, and bluer or not."""
    pixels = (np.asarray(image, np.float32) / 255) ** rng.uniform(0.85, 1.2)
    pixels = pixels * rng.uniform(0.5, 1.1) * np.exp(rng.normal(0, 0.06, 3)).astype(np.float32)
    pixels += np.array((0.02, 0.04, 0.08), np.float32) * rng.uniform(0, 1)
    return Image.fromarray((np.clip(pixels, 0, 1) * 255).astype(np.uint8))


def satellite_views(
    rng: np.random.Generator, patches: dict[str, Array], pictures: Array, labels: Array, size: int
) -> list[tuple[Image.Image, SceneClass]]:
    """Pictures and what may be told of them: some views of every patch, and as many patchworks as RSSCN7 has pictures.

    Args:
        patches: As `load_patches` gives them.
        pictures, labels: As `load_real` gives them.
    """
    views = [
        (other_pass(rng, view(rng, patch, size, NEAREST)), PATCH_CLASSES[name])
        for name, some in patches.items()
        for patch in some
        for _ in range(VIEWS)
    ]
    return views + [satellite_patchwork(rng, patches, pictures, labels, size) for _ in pictures]


def satellite_patchwork(
    rng: np.random.Generator, patches: dict[str, Array], pictures: Array, labels: Array, size: int
) -> tuple[Image.Image, SceneClass]:
    """Fields, grass, works, woods, estates and water side by side, in one pass of the satellite."""

    def patch(kind: int, tile: int) -> Image.Image:
        scene = SCENE_CLASSES[kind]
        if name := FILLING.get(scene.folder):
            return view(rng, patches[name][rng.integers(len(patches[name]))], tile, 0.8)
        near = scene_from_afar(rng, pictures, np.flatnonzero(labels == kind), tile, scene.cover)
        pixels = np.asarray(near, np.float32) * rng.uniform(*DIMMED) + BLUE * rng.uniform(0.5, 1.2)
        return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))

    @cache  # cells of a class lie in different parts of one whole
    def seen(kind: int, tile: int) -> Image.Image:
        if SCENE_CLASSES[kind].cover in ("water", "forest"):  # one of them has one colour
            return patch(kind, tile)
        whole = Image.new("RGB", (size, size))
        for left, top in itertools.product(range(0, size, tile), repeat=2):
            whole.paste(patch(kind, tile), (left, top))
        return whole

    plain, shares = laid(rng, seen, size, TILES)
    return other_pass(rng, plain), told_of(shares)
