"""RGB pictures out of rasters: what the processor, the commands and the map are fed with."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from PIL import Image
from rasterio.windows import Window

from .bands import Bands, Composition
from .coregistration import AlignedDates, Date, open_dates
from .raster_files import RasterError
from .stretch import AS_THEY_ARE, Stretch, joint_stretch

NO_DATA = 127  # of 255, in all dates alike: mean grey, which the model sees as nothing
SAMPLED_AT_ONCE = 1024  # pixels a side that the stretch is made from
SAMPLES, SAMPLE_SIDE = 64, 128  # windows where there are no overviews, and their pixels a side
LONGEST_SIDE = 4096  # of one picture; the model sees a few hundred pixels

StretchMode = Literal["joint", "each"]


@dataclass(frozen=True)
class Rendering:
    """How each date becomes RGB; made once, so that all tiles are alike."""

    compositions: tuple[Composition, ...]
    stretches: tuple[Stretch, ...]

    def read(
        self, aligned: AlignedDates, window: Window, shape: tuple[int, int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """All dates in a window as `(dates, H, W, 3)` bytes, and where all of them are valid, `(H, W)`.

        Where one date has no data all of them are grey: a border is no change.
        """
        pictures, valid = [], np.array(True)
        for date, composition, stretch in zip(aligned.dates, self.compositions, self.stretches, strict=True):
            values, there = date.read(window, shape)
            pictures.append(_picture(values, composition, stretch))
            valid = valid & there
        together = np.stack(pictures)  # (dates, H, W, 3)
        if not valid.all():
            together[:, ~valid] = NO_DATA
        return together, valid


def _picture(values: np.ndarray, composition: Composition, stretch: Stretch) -> np.ndarray:
    """`(bands, H, W)` values as `(H, W, 3)` bytes; bytes that stay as they are take no way through floats."""
    if stretch == AS_THEY_ARE and values.dtype == np.uint8 and composition.kind != "SAR":
        return np.broadcast_to(values, (3, *values.shape[1:])).transpose(1, 2, 0)
    return stretch(composition.channels(values))


def make_rendering(aligned: AlignedDates, mode: StretchMode = "joint") -> Rendering:
    """Find the stretch of all dates together ("joint") or of each by itself.

    Raises:
        RasterError: The dates hold values of different kinds, which no joint stretch can compare.
    """
    raws = _samples(aligned)
    # Each date by itself: decibels compare well with power, once that is in decibels too.
    compositions = tuple(_settled(date.composition, raw) for date, raw in zip(aligned.dates, raws, strict=True))
    kinds = [date.raster.dataset.dtypes[date.composition.bands[0] - 1] for date in aligned.dates]
    other = next((number for number, kind in enumerate(kinds) if kind != kinds[0]), None)
    if mode == "joint" and other is not None:
        raise RasterError(
            f"{aligned.names[0]} holds {kinds[0]} and {aligned.names[other]} {kinds[other]} values; bring both to one "
            "scale, or add --stretch each"
        )
    channels = [one.channels(raw) for one, raw in zip(compositions, raws, strict=True)]
    if not channels[0].size and set(kinds) != {"uint8"}:
        raise RasterError(
            f"{', '.join(aligned.names)}: have no data at any of the places that their stretch is taken from; "
            "add overviews with gdaladdo, or cut out the part with data with gdal_translate -srcwin"
        )
    are_pictures = [kind == "uint8" and one.kind != "SAR" for kind, one in zip(kinds, compositions, strict=True)]
    if mode == "joint":
        joint = AS_THEY_ARE if are_pictures[0] else joint_stretch(channels)
        return Rendering(compositions, (joint,) * len(compositions))
    alone = [
        AS_THEY_ARE if is_picture else joint_stretch([one])
        for one, is_picture in zip(channels, are_pictures, strict=True)
    ]
    return Rendering(compositions, tuple(alone))


def _settled(composition: Composition, values: np.ndarray) -> Composition:
    """SAR values are decibels already where a tenth are below 0; power and amplitude are not, but for noise."""
    if composition.kind != "SAR":
        return composition
    return replace(composition, decibels=bool(values.size and np.percentile(values, 10) < 0))


def _samples(aligned: AlignedDates) -> list[np.ndarray]:
    """Values `(bands, n)` of each date at the same places of the overlap.

    Only where all dates have data in all bands, or the nodata of one band would stretch it; if nowhere, in any.
    """
    found = _sampled(aligned, every_band=True)
    return found if found[0].size else _sampled(aligned, every_band=False)


def _sampled(aligned: AlignedDates, every_band: bool) -> list[np.ndarray]:
    area = aligned.overlap
    shrink = max(1.0, max(area.width, area.height) / SAMPLED_AT_ONCE)
    if shrink <= 2 or all(_has_overviews(date, shrink) for date in aligned.dates):
        shape = (max(1, round(area.height / shrink)), max(1, round(area.width / shrink)))
        with contextlib.suppress(RasterError):  # a broken tile is told where it is mapped
            return _read_valid(aligned, area, shape, every_band)
    parts, failed = [], []
    for window in _spread_windows(area):
        try:
            parts.append(_read_valid(aligned, window, None, every_band))
        except RasterError as error:
            failed.append(error)
    if not parts:
        raise RasterError(f"{failed[0]}, nor anywhere else; copy the file again") from failed[0]
    return [np.concatenate(values, axis=1) for values in zip(*parts, strict=True)]


def _read_valid(
    aligned: AlignedDates, window: Window, shape: tuple[int, int] | None, every_band: bool
) -> list[np.ndarray]:
    read = [date.read(window, shape, every_band) for date in aligned.dates]
    valid = np.logical_and.reduce([there for _, there in read])
    return [values[:, valid] for values, _ in read]


def _spread_windows(area: Window) -> Iterator[Window]:
    """Small windows all over the overlap, where there are no overviews to see it as a whole."""
    side = int(SAMPLES**0.5)
    width, height = (max(1, min(SAMPLE_SIDE, length // side)) for length in (area.width, area.height))
    for row in range(side):
        for column in range(side):
            left = area.col_off + round(column * (area.width - width) / (side - 1))
            top = area.row_off + round(row * (area.height - height) / (side - 1))
            yield Window(left, top, width, height)


def _has_overviews(date: Date, shrink: float) -> bool:
    overviews = date.raster.dataset.overviews(date.composition.bands[0])
    return bool(overviews) and max(overviews) >= shrink / 4


def read_rgb(
    source: str | os.PathLike,
    *,
    bands: Bands | None = None,
    sar: bool = False,
    max_size: int = LONGEST_SIDE,
) -> Image.Image:
    """Read one raster as an 8-bit RGB picture that the processor takes.

    Bytes stay as they are; other values are stretched from their 2nd to their 98th percentile, band by band. What has
    no data is mean grey. No georeference is needed.

    Args:
        source: Path of a GeoTIFF, COG, JPEG 2000, PNG or JPEG.
        bands: Numbers or descriptions, "4,3,2" or [4, 3, 2]; by default as the file's colours, names or number of
            bands say.
        sar: The bands are SAR backscatter (see `unirs.geo.choose_bands`).
        max_size: The longer side in pixels; larger rasters are read smaller, from overviews where there are any.

    Raises:
        RasterError: One line that names the file and says what to do.
    """
    return read_aligned_rgb([source], bands=bands, sar=sar, pixel=True, max_size=max_size)[0]


def read_aligned_rgb(
    sources: Sequence[str | os.PathLike],
    *,
    bands: Bands | None = None,
    sar: bool = False,
    crs: str | None = None,
    pixel: bool = False,
    stretch: StretchMode = "joint",
    max_size: int = LONGEST_SIDE,
) -> list[Image.Image]:
    """Read several dates of one place as RGB pictures on the first one's grid, with one stretch for all.

    Only what all dates show is read. Arguments as in `read_rgb` and `open_dates`.
    """
    return read_composed(sources, bands, sar, crs, pixel, stretch, max_size)[0]


def read_composed(
    sources: Sequence[str | os.PathLike],
    bands: Bands | None = None,
    sar: bool = False,
    crs: str | None = None,
    pixel: bool = False,
    stretch: StretchMode = "joint",
    max_size: int = LONGEST_SIDE,
) -> tuple[list[Image.Image], tuple[Composition, ...]]:
    """As `read_aligned_rgb`, and which bands each picture was made of."""
    with open_dates(sources, bands, sar, crs, pixel) as aligned:
        rendering = make_rendering(aligned, stretch)
        area = aligned.overlap
        shrink = max(1.0, max(area.width, area.height) / max_size)
        shape = None if shrink == 1 else (max(1, round(area.height / shrink)), max(1, round(area.width / shrink)))
        return [Image.fromarray(one) for one in rendering.read(aligned, area, shape)[0]], rendering.compositions
