"""Generated scenes to try the page on, of seeds and layouts that no training has seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image
from rasterio.transform import from_origin

from unirs.report import write_clip
from unirs.trainers.scene_tasks import TEST_SEED, SceneSample, clip_sample, pair_sample, single_sample

FIRST = TEST_SEED + 500_000  # far from the scenes that scores are made of
PICTURES, CLIPS = 3, 2
COLUMNS, ROWS = 3, 2  # pairs that make the map's scene
ON_GROUND = {"crs": "EPSG:32631", "transform": from_origin(500_000, 5_000_000, 0.5, 0.5)}  # a made-up place


@dataclass(frozen=True)
class Examples:
    """Files, with a question where the tab takes one."""

    pictures: list[tuple[str, str]]
    pairs: list[tuple[str, str]]
    clips: list[list[str]]
    maps: list[tuple[str, str]]


def write_examples(folder: Path) -> Examples:
    """Writes a few scenes of each kind."""
    pictures, clips = [], []
    for number in range(PICTURES):
        single = single_sample(FIRST + number)
        question = single.questions[number % len(single.questions)].question
        pictures.append((_saved(single.images[0], folder / f"scene-{number + 1}.png"), question))
    # Chosen by the truth, before any model has answered: half of all pairs show no change.
    found = [
        _first(pair_sample, lambda one: one.label != "no change"),
        _first(pair_sample, lambda one: one.label == "no change"),
    ]
    pairs = [_saved_pair(pair, folder, number) for number, pair in enumerate(found, start=1)]
    for number in range(CLIPS):
        path = folder / f"clip-{number + 1}.mp4"
        write_clip(path, clip_sample(FIRST + number).images)
        clips.append([str(path)])
    return Examples(pictures, pairs, clips, [_scene(folder)])


def _first(make: Callable[[int], SceneSample], wanted: Callable[[SceneSample], bool]) -> SceneSample:
    return next(sample for sample in map(make, range(FIRST, FIRST + 1000)) if wanted(sample))


def _saved(picture: Image.Image, path: Path) -> str:
    picture.save(path)
    return str(path)


def _saved_pair(pair: SceneSample, folder: Path, number: int) -> tuple[str, str]:
    before, after = pair.images
    return _saved(before, folder / f"before-{number}.png"), _saved(after, folder / f"after-{number}.png")


def _scene(folder: Path) -> tuple[str, str]:
    """Pairs side by side, as GeoTIFFs of two dates."""
    pairs = [pair_sample(FIRST + number).images for number in range(COLUMNS * ROWS)]
    paths = folder / "town_2019-05-01.tif", folder / "town_2024-05-01.tif"
    for date, path in enumerate(paths):
        tiles = [np.asarray(pair[date]) for pair in pairs]  # (H, W, 3) each
        rows = [np.concatenate(tiles[start : start + COLUMNS], axis=1) for start in range(0, len(tiles), COLUMNS)]
        values = np.concatenate(rows).transpose(2, 0, 1)  # (3, H, W)
        count, height, width = values.shape
        shape = {"count": count, "height": height, "width": width, "dtype": "uint8"}
        with rasterio.open(
            path, "w", driver="GTiff", photometric="RGB", compress="deflate", **shape, **ON_GROUND
        ) as file:
            file.write(values)
    return str(paths[0]), str(paths[1])
