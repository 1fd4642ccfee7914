"""The change map of a whole scene as a cloud-optimised GeoTIFF on the first date's grid."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.windows import Window

from .change_map import ChangeMap
from .journal import TileResult
from .raster_files import GDAL_OPTIONS
from .tiles import Tile
from .vector_files import whole_or_absent

BLOCK = 512  # pixels; also the rows that are made at a time


def write_heatmap(change_map: ChangeMap, path: Path) -> None:
    """Float32 from 0 to 1, one band for each step from date to date; NaN where there are no data.

    Cells keep their edges: nothing is interpolated that the model has not seen. Where tiles overlap it is their mean.
    """
    scene = change_map.scene
    profile = {
        "driver": "GTiff",
        "width": scene.grid.width,
        "height": scene.grid.height,
        "count": len(scene.steps),
        "dtype": "float32",
        "crs": scene.grid.crs,
        "transform": scene.grid.transform,
        "nodata": float("nan"),
        "tiled": True,
        "blockxsize": BLOCK,
        "blockysize": BLOCK,
        "compress": "deflate",
        "zlevel": 1,
        "interleave": "band",
        "bigtiff": "if_safer",
    }
    with whole_or_absent(path) as part, rasterio.Env(**GDAL_OPTIONS):
        plain = part.with_suffix(".plain.tif")  # GDAL makes COGs of finished rasters only
        try:
            with rasterio.open(plain, "w", **profile) as file:
                for step, (before, after) in enumerate(scene.steps, start=1):
                    file.set_band_description(step, f"change from {before} to {after}")
                for window, values in strips(change_map):
                    file.write(values, window=window)
            rasterio.shutil.copy(
                plain,
                part,
                driver="COG",
                compress="deflate",
                predictor="yes",
                blocksize=BLOCK,
                overview_resampling="average",
                bigtiff="if_safer",
            )
        finally:
            plain.unlink(missing_ok=True)


def strips(change_map: ChangeMap) -> Iterator[tuple[Window, np.ndarray]]:
    """The map in strips of full width from above: windows and `(steps, rows, width)` float32."""
    scene = change_map.scene
    tile_of = change_map.tile_of
    placed = [(tile_of[result.tile], result) for result in change_map.results if result.maps is not None]
    for top in range(0, scene.grid.height, BLOCK):
        rows = min(BLOCK, scene.grid.height - top)
        total = np.zeros((len(scene.steps), rows, scene.grid.width), np.float32)
        count = np.zeros((rows, scene.grid.width), np.uint8)
        for tile, result in placed:
            if tile.top < top + rows and tile.top + tile.side > top:
                _add(tile, result, top, total, count)
        with np.errstate(invalid="ignore"):
            yield Window(0, top, scene.grid.width, rows), np.where(count > 0, total / count, np.nan)


def _add(tile: Tile, result: TileResult, top: int, total: np.ndarray, count: np.ndarray) -> None:
    """Adds the part of a tile that lies in the strip from row `top`."""
    rows, width = count.shape
    first, last = max(tile.top, top), min(tile.top + tile.side, top + rows)
    right = min(tile.left + tile.side, width)
    values = np.stack([result.values(step) for step in range(len(total))])  # (steps, grid, grid)
    grid = values.shape[-1]
    row = (np.arange(first, last) - tile.top) * grid // tile.side
    column = np.arange(right - tile.left) * grid // tile.side
    spread = values[:, row][:, :, column]  # (steps, rows, columns)
    there = ~np.isnan(spread[0])
    place = (slice(first - top, last - top), slice(tile.left, right))
    total[(slice(None), *place)] += np.nan_to_num(spread)
    count[place] += there


def shrunk(change_map: ChangeMap, width: int, height: int) -> np.ndarray:
    """The strongest change of all steps over the whole grid, in `(height, width)` pixels; NaN without data."""
    scene = change_map.scene
    across, down = scene.grid.width / width, scene.grid.height / height  # pixels of the grid in one of these
    total, count = np.zeros((height, width), np.float32), np.zeros((height, width), np.uint8)
    tile_of = change_map.tile_of
    for result in change_map.results:
        if result.maps is None:
            continue
        tile = tile_of[result.tile]
        rows = np.arange(round(tile.top / down), min(height, max(1, round((tile.top + tile.side) / down))))
        columns = np.arange(round(tile.left / across), min(width, max(1, round((tile.left + tile.side) / across))))
        strongest = np.max([result.values(step) for step in range(len(scene.steps))], axis=0)  # (grid, grid)
        grid = len(strongest)
        row = (((rows + 0.5) * down - tile.top) * grid / tile.side).clip(0, grid - 1).astype(int)
        column = (((columns + 0.5) * across - tile.left) * grid / tile.side).clip(0, grid - 1).astype(int)
        spread = strongest[np.ix_(row, column)]
        place = np.ix_(rows, columns)
        total[place] += np.nan_to_num(spread)
        count[place] += ~np.isnan(spread)
    with np.errstate(invalid="ignore"):
        return np.where(count > 0, total / count, np.nan)
