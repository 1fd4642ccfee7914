"""Several dates on one grid: BEFORE's. What lies on another grid is warped while it is read."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from affine import Affine
from rasterio.enums import MaskFlags, Resampling
from rasterio.errors import RasterioError, WindowError
from rasterio.transform import array_bounds
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds
from rasterio.windows import Window, from_bounds

from ..processing.image_loading_unirs import shown
from .bands import Bands, Composition, choose_bands
from .raster_files import Raster, RasterError, open_raster

SAME_GRID = 0.01  # pixels; grids that differ less are read without warping
TINIEST = 1e-12  # units of the CRS that a pixel may be wide
WARP_MEMORY = 64  # MB


@dataclass(frozen=True)
class Grid:
    """Pixels on the ground: `transform` takes (column, row) to coordinates of `crs`; no CRS with `--pixel`."""

    crs: Any | None
    transform: Affine
    width: int
    height: int

    @property
    def window(self) -> Window:
        return Window(0, 0, self.width, self.height)

    def to_json(self) -> list[Any]:
        return [self.crs.to_wkt() if self.crs else None, tuple(self.transform), self.width, self.height]


@dataclass(frozen=True)
class Date:
    """One date, readable by windows of the common grid."""

    raster: Raster
    source: Any  # the dataset, or a WarpedVRT around it
    composition: Composition
    overlap: Window  # of the common grid, with data of this date

    @property
    def warped(self) -> bool:
        return self.source is not self.raster.dataset

    def read(
        self, window: Window, shape: tuple[int, int] | None = None, every_band: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Values `(bands, H, W)` of the composition's bands, and where they are valid, `(H, W)`.

        Args:
            window: Inside the grid.
            shape: Rows and columns to read it in, from overviews where there are any.
            every_band: Whether all bands must have data there, or any: a white roof may be nodata in one.

        Raises:
            RasterError: The file is damaged there.
        """
        bands = list(self.composition.bands)
        out = None if shape is None else (len(bands), *shape)
        try:
            values = self.source.read(bands, window=window, out_shape=out, resampling=Resampling.average)
            valid = self._valid(bands, window, values.shape[1:], every_band)
        except (RasterioError, WindowError) as error:
            rows, columns = window.toslices()
            place = f"columns {columns.start} to {columns.stop}, rows {rows.start} to {rows.stop}"
            raise RasterError(f"{self.raster.name}: cannot be read at {place} ({_cause(error)})") from error
        if values.dtype.kind == "f":
            valid &= np.isfinite(values).all(0)
        return self.raster.as_meant(values), valid

    def _valid(self, bands: list[int], window: Window, shape: tuple[int, int], every_band: bool) -> np.ndarray:
        """Where the bands have data, `(H, W)`; no mask is read that is known without, or that bands share."""
        flags = [self.source.mask_flag_enums[band - 1] for band in bands]
        valid = np.ones(shape, bool)
        if not all(MaskFlags.all_valid in one for one in flags):
            asked = bands[:1] if all(MaskFlags.per_dataset in one for one in flags) else bands
            masks = self.source.read_masks(asked, window=window, out_shape=(len(asked), *shape)) > 0
            valid = masks.all(0) if every_band else masks.any(0)
        alpha = self._alpha
        # GDAL takes it for the mask only if it has 8 or 16 bits without a sign, and the bands have no nodata value.
        if alpha and not any(MaskFlags.alpha in one for one in flags):
            valid &= self.source.read(alpha, window=window, out_shape=shape) > 0
        return valid

    @property
    def _alpha(self) -> int:
        """Number of the alpha band, of the file or of the warp; 0 without one."""
        colours = [colour.name for colour in self.source.colorinterp]
        return colours.index("alpha") + 1 if "alpha" in colours else 0


def _cause(error: BaseException) -> str:
    """GDAL's own words; rasterio's "Read failed" has them behind it."""
    return shown(error.__cause__ or error)


@dataclass(frozen=True)
class AlignedDates:
    grid: Grid
    dates: list[Date]
    overlap: Window  # common to all dates

    @property
    def names(self) -> list[str]:
        return [date.raster.name for date in self.dates]


@contextmanager
def open_dates(
    sources: Sequence[str | os.PathLike],
    bands: Bands | None = None,
    sar: bool = False,
    crs: str | None = None,
    pixel: bool = False,
) -> Iterator[AlignedDates]:
    """Open dates of one place, the first one's grid for all.

    Args:
        sources: Paths, oldest first.
        bands: See `choose_bands`; the same for every date.
        sar: See `choose_bands`.
        crs: For files that have none (PNG and JPEG with a world file).
        pixel: Take the files as showing the same place pixel by pixel, whatever their georeference.

    Raises:
        RasterError: A file cannot be read, or they do not fit together; says what to do.
    """
    with ExitStack() as stack:
        rasters = [stack.enter_context(open_raster(source, crs)) for source in sources]
        compositions = [choose_bands(raster, bands, sar) for raster in rasters]
        for raster, composition in zip(rasters, compositions, strict=True):
            if composition.kind != compositions[0].kind or len(composition.bands) != len(compositions[0].bands):
                raise RasterError(
                    f"{raster.name}: gives {composition.described}, {rasters[0].name} {compositions[0].described}; "
                    "choose bands that both have: --bands"
                )
        grid = _pixel_grid(rasters) if pixel else _grid_of(rasters[0])
        dates = [
            _place(raster, composition, grid, None if pixel else rasters[0].name, stack)
            for raster, composition in zip(rasters, compositions, strict=True)
        ]
        overlap = dates[0].overlap
        for date in dates[1:]:
            overlap = _intersection(overlap, date.overlap)
        if overlap is None:
            raise RasterError(f"{', '.join(raster.name for raster in rasters)}: have no place that all of them show")
        yield AlignedDates(grid, dates, overlap)


def _pixel_grid(rasters: Sequence[Raster]) -> Grid:
    first = rasters[0]
    for other in rasters[1:]:
        if other.size != first.size:
            raise RasterError(
                f"{first.name} is {first.size[0]} x {first.size[1]} pixels and {other.name} "
                f"{other.size[0]} x {other.size[1]}; --pixel needs equal sizes"
            )
    return Grid(None, Affine.identity(), *first.size)


def _grid_of(raster: Raster) -> Grid:
    transform, crs = _georeference(raster)
    if not math.isclose(transform.b, 0, abs_tol=1e-12) or not math.isclose(transform.d, 0, abs_tol=1e-12):
        raise RasterError(
            f"{raster.name}: its grid is rotated, and maps are made on it; gdalwarp it to north-up first"
        )
    if transform.a <= 0 or transform.e >= 0:
        raise RasterError(f"{raster.name}: its grid is mirrored or south-up; gdalwarp it to north-up first")
    return Grid(crs, transform, *raster.size)


def _georeference(raster: Raster) -> tuple[Affine, Any]:
    if raster.transform is None and raster.dataset.gcps[0]:
        raise RasterError(f"{raster.name}: has ground control points and no grid; warp it first with gdalwarp")
    if raster.transform is None:
        raise RasterError(
            f"{raster.name}: has no georeference; if the files show the same place pixel by pixel, add --pixel"
        )
    if raster.crs is None:
        raise RasterError(f"{raster.name}: has a grid and no CRS; say which, e.g. --crs EPSG:32631 (or --pixel)")
    steps = raster.transform[:2] + raster.transform[3:5]
    if not all(map(math.isfinite, raster.transform)) or max(map(abs, steps)) < TINIEST or not _invertible(steps):
        raise RasterError(f"{raster.name}: its georeference is no grid {shown(tuple(raster.transform)[:6])}; mend it")
    return raster.transform, raster.crs


def _invertible(steps: Sequence[float]) -> bool:
    a, b, d, e = (step / max(map(abs, steps)) for step in steps)  # or their product could vanish
    return abs(a * e - b * d) > TINIEST


def _place(raster: Raster, composition: Composition, grid: Grid, before: str | None, stack: ExitStack) -> Date:
    """A raster on the grid of `before`: as it is where it lies on it or pixels are compared, warped otherwise."""
    if before is None:
        return Date(raster, raster.dataset, composition, grid.window)
    transform, crs = _georeference(raster)
    if raster.size == (grid.width, grid.height) and crs == grid.crs and _apart(transform, grid) < SAME_GRID:
        return Date(raster, raster.dataset, composition, grid.window)
    overlap = _overlap(raster, transform, crs, grid, before)
    dataset = raster.dataset
    has_alpha = "alpha" in {colour.name for colour in dataset.colorinterp}
    try:
        warped = WarpedVRT(
            dataset,
            src_crs=crs,
            src_transform=transform,
            crs=grid.crs,
            transform=grid.transform,
            width=grid.width,
            height=grid.height,
            resampling=Resampling.bilinear,  # widened by GDAL where it shrinks, so that nothing aliases
            add_alpha=not has_alpha,  # else what lies outside would be valid and black
            warp_mem_limit=WARP_MEMORY,
        )
    except (RasterioError, ValueError) as error:
        raise RasterError(f"{raster.name}: cannot be warped onto BEFORE's grid ({shown(error)})") from error
    return Date(raster, stack.enter_context(warped), composition, overlap)


def _apart(transform: Affine, grid: Grid) -> float:
    """Pixels by which two grids of one size differ at the corner where they differ most."""
    corners = [(0, 0), (grid.width, 0), (0, grid.height), (grid.width, grid.height)]
    moved = [~grid.transform * (transform * corner) for corner in corners]
    return max(max(abs(x - column), abs(y - row)) for (x, y), (column, row) in zip(moved, corners, strict=True))


def _overlap(raster: Raster, transform: Affine, crs: Any, grid: Grid, before: str) -> Window:
    corners = [transform * corner for corner in ((0, 0), (raster.size[0], 0), (0, raster.size[1]), raster.size)]
    xs, ys = zip(*corners, strict=True)
    bounds = (min(xs), min(ys), max(xs), max(ys))
    try:
        there = transform_bounds(crs, grid.crs, *bounds)
        unseen = [transform_bounds(crs, grid.crs, *part) for part in _beyond_180(crs, bounds, abs(transform.a))]
        before_there = transform_bounds(grid.crs, crs, *array_bounds(grid.height, grid.width, grid.transform))
    except RasterioError as error:
        raise RasterError(
            f"{raster.name}: its CRS does not reach BEFORE's ({shown(error)}); gdalwarp it to BEFORE's CRS"
        ) from error
    for part in unseen:
        with suppress(WindowError):
            if _intersection(_whole_pixels(from_bounds(*part, transform=grid.transform)), grid.window):
                raise RasterError(
                    f"{raster.name}: its extent {_written(bounds)} goes on beyond 180 degrees over BEFORE ({before}), "
                    "where a warp while reading finds none of it; gdalwarp it to BEFORE's CRS first"
                )
    if _holds(bounds, before_there):  # half the world has no extent in BEFORE's CRS, but BEFORE has one in its
        return grid.window
    if not all(map(math.isfinite, there)):
        raise RasterError(f"{raster.name}: its extent {_written(bounds)} has no place in BEFORE's CRS; check its CRS")
    try:
        found = from_bounds(*there, transform=grid.transform)
    except WindowError as error:
        raise RasterError(
            f"{raster.name}: its extent {_written(there)} is none in BEFORE's CRS, as across the 180th meridian; "
            "gdalwarp both to one projected CRS"
        ) from error
    inside = _intersection(_whole_pixels(found), grid.window)
    if inside is None:
        left, top = grid.transform * (0, 0)
        right, bottom = grid.transform * (grid.width, grid.height)
        raise RasterError(
            f"{raster.name}: does not overlap BEFORE ({before}): it covers {_written(there)} in BEFORE's CRS, and "
            f"BEFORE {_written((left, bottom, right, top))}; give files of one place, or mend the CRS of the wrong "
            "one with gdal_edit.py -a_srs"
        )
    return inside


def _beyond_180(crs: Any, bounds: Sequence[float], pixel: float) -> Iterator[tuple[float, float, float, float]]:
    """Parts of an extent in degrees that a warp does not find, since it asks for -180 to 180; as they lie there."""
    left, bottom, right, top = bounds
    if not crs.is_geographic or not math.isclose(crs.units_factor[1], math.radians(1), rel_tol=1e-6):
        return
    if right > 180 + pixel:
        yield max(-180.0, left - 360), bottom, min(right - 360, 180.0), top
    if left < -180 - pixel:
        yield max(left + 360, -180.0), bottom, min(right + 360, 180.0), top


def _holds(outer: Sequence[float], inner: Sequence[float]) -> bool:
    left, bottom, right, top = inner  # none of it is held if a value is no number
    return outer[0] <= left <= right <= outer[2] and outer[1] <= bottom <= top <= outer[3]


def _whole_pixels(window: Window) -> Window:
    """Every pixel that is touched; a thousandth of a pixel is rounding."""
    column, row = math.floor(window.col_off + 1e-3), math.floor(window.row_off + 1e-3)
    right = math.ceil(window.col_off + window.width - 1e-3)
    bottom = math.ceil(window.row_off + window.height - 1e-3)
    return Window(column, row, max(0, right - column), max(0, bottom - row))


def _intersection(one: Window | None, other: Window) -> Window | None:
    if one is None:
        return None
    left, top = max(one.col_off, other.col_off), max(one.row_off, other.row_off)
    right = min(one.col_off + one.width, other.col_off + other.width)
    bottom = min(one.row_off + one.height, other.row_off + other.height)
    return Window(left, top, right - left, bottom - top) if right > left and bottom > top else None


def _written(bounds: Sequence[float]) -> str:
    return "({:.6g}, {:.6g}) to ({:.6g}, {:.6g})".format(*bounds)
