"""The change map of a whole scene as a cloud-optimised GeoTIFF on the first date's grid."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError
from rasterio.windows import Window

from ..processing.image_loading_unirs import shown
from ..whole_file import whole_or_absent
from .change_map import ChangeMap
from .journal import TileResult
from .raster_files import GDAL_OPTIONS, RasterError
from .tiles import Tile

BLOCK = 512  # pixels; also the rows that are made at a time
NOT_WRITTEN = "cannot be written whole; free space on its disk, and go on with --resume"


def write_heatmap(change_map: ChangeMap, path: Path) -> None:
    """Float32 from 0 to 1, one band for each step from date to date; NaN where a date has no data.

    Cells keep their edges: nothing is interpolated that the model has not seen. Where tiles overlap it is their mean.

    Raises:
        RasterError: What stands in the file is not what was written, as on a full disk.
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
        written: list[tuple[int, Window]] = []
        kept = found = 0  # checksums
        try:
            with rasterio.open(plain, "w", **profile) as file:
                for step, (before, after) in enumerate(scene.steps, start=1):
                    file.set_band_description(step, f"change from {before} to {after}")
                for step, window, values in strips(change_map):
                    file.write(values, step + 1, window=window)
                    written.append((step + 1, window))
                    kept = zlib.crc32(values.data, kept)
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
            # GDAL tells nobody of a disk that is full when a file is closed: only reading it does.
            with rasterio.open(part) as file:
                for band, window in written:
                    found = zlib.crc32(file.read(band, window=window), found)
        except (RasterioError, CPLE_BaseError) as error:  # the second by copying alone
            raise RasterError(f"{path}: {NOT_WRITTEN} ({shown(error.__cause__ or error)})") from error
        finally:
            plain.unlink(missing_ok=True)
        if found != kept:
            raise RasterError(f"{path}: {NOT_WRITTEN}")


def strips(change_map: ChangeMap) -> Iterator[tuple[int, Window, np.ndarray]]:
    """The map of each step in strips of full width from above: step from 0, window, `(rows, width)` float32."""
    scene, tile_of = change_map.scene, change_map.tile_of
    touching: dict[int, list[TileResult]] = {}  # tiles by the strips that they reach into
    for result in change_map.results:
        if result.maps is not None:
            tile = tile_of[result.tile]
            for number in range(tile.top // BLOCK, (tile.top + tile.side - 1) // BLOCK + 1):
                touching.setdefault(number, []).append(result)
    for number, top in enumerate(range(0, scene.grid.height, BLOCK)):
        window = Window(0, top, scene.grid.width, min(BLOCK, scene.grid.height - top))
        for step in range(len(scene.steps)):
            total = np.zeros((window.height, window.width), np.float32)
            count = np.zeros((window.height, window.width), np.uint8)
            for result in touching.get(number, []):
                tile = tile_of[result.tile]
                _add(tile, result.values(step), result.has_data(tile.inside(scene.grid)), top, total, count)
            total[count == 0] = np.nan
            total /= np.maximum(count, 1, out=count)
            yield step, window, total


def _add(tile: Tile, values: np.ndarray, has_data: np.ndarray, top: int, total: np.ndarray, count: np.ndarray) -> None:
    """Adds the part of a tile's map `(grid, grid)` that lies in the strip from row `top` and has data."""
    rows, width = count.shape
    first, last = max(tile.top, top), min(tile.top + tile.side, top + rows)
    right = min(tile.left + tile.side, width)
    grid = len(values)
    row = (np.arange(first, last) - tile.top) * grid // tile.side
    column = np.arange(right - tile.left) * grid // tile.side
    spread = np.where(has_data[first - tile.top : last - tile.top], values[row][:, column], np.nan)  # (rows, columns)
    place = (slice(first - top, last - top), slice(tile.left, right))
    total[place] += np.nan_to_num(spread)
    count[place] += ~np.isnan(spread)


def shrunk(change_map: ChangeMap, width: int, height: int) -> np.ndarray:
    """The strongest change of all steps over the whole grid, in `(height, width)` pixels; NaN without data.

    No cell is lost where several fall into one pixel: the strongest is shown.
    """
    scene, tile_of = change_map.scene, change_map.tile_of
    across, down = scene.grid.width / width, scene.grid.height / height  # pixels of the grid in one of these
    shown = np.full((height, width), np.nan, np.float32)
    for result in change_map.results:
        if result.maps is None:
            continue
        tile = tile_of[result.tile]
        strongest = np.fmax.reduce([result.values(step) for step in range(len(scene.steps))])  # (grid, grid)
        grid = len(strongest)
        # 1. every pixel whose middle lies in the tile, on data, has the cell that is there
        rows = np.arange(round(tile.top / down), min(height, round((tile.top + tile.side) / down)))
        columns = np.arange(round(tile.left / across), min(width, round((tile.left + tile.side) / across)))
        y, x = (rows + 0.5) * down - tile.top, (columns + 0.5) * across - tile.left
        row = (y * grid / tile.side).clip(0, grid - 1).astype(int)
        column = (x * grid / tile.side).clip(0, grid - 1).astype(int)
        has_data = result.has_data(tile.inside(scene.grid))
        bottom, right = has_data.shape
        there = has_data[np.ix_(y.clip(0, bottom - 1).astype(int), x.clip(0, right - 1).astype(int))]
        place = np.ix_(rows, columns)
        shown[place] = np.fmax(shown[place], np.where(there, strongest[np.ix_(row, column)], np.nan))
        if tile.side / grid >= max(across, down):  # every cell has a pixel
            continue
        # 2. and every cell has the pixel that its middle lies in
        middles = (np.arange(grid) + 0.5) * tile.side / grid
        rows = ((tile.top + middles) / down).astype(int)
        columns = ((tile.left + middles) / across).astype(int)
        inside = np.ix_(rows < height, columns < width)
        place = np.ix_(rows[rows < height], columns[columns < width])
        np.fmax.at(shown, place, strongest[inside])
    return shown
