"""Picture files that the commands are given: rasters through `unirs.geo` where rasterio is installed."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Literal

from unirs.processing import load_image

from .given import ending

if TYPE_CHECKING:
    from PIL import Image

RASTERS = {".tif", ".tiff", ".jp2"}


def load_picture(file: str, bands: str | None = None) -> Image.Image:
    """One picture. Rasters of any sensor are read as `unirs.geo.read_rgb` does it.

    Raises:
        ValueError: It cannot be read; says what to do.
    """
    return load_dates([file], bands)[0]


def load_dates(files: list[str], bands: str | None = None) -> list[Image.Image]:
    """Pictures of one place: rasters with one stretch, on the first one's grid where all have one.

    Args:
        bands: Of every raster, as `unirs.geo.choose_bands` takes them; by default the usual ones.

    Raises:
        ValueError: One cannot be read, or georeferenced rasters do not overlap.
    """
    rasters = all(ending(file) in RASTERS for file in files)
    if bands is not None and not rasters:
        raise ValueError(f"--bands {bands}: is for rasters ({', '.join(sorted(RASTERS))}); leave it out")
    if not rasters or importlib.util.find_spec("rasterio") is None:
        if bands is not None:
            raise ValueError("--bands needs more packages: pip install 'unirs[geo]'")
        return [load_image(file) for file in files]
    from unirs.geo import RasterError, open_raster, read_aligned_rgb, read_rgb

    kinds, sizes, placed = set(), set(), True
    try:
        if bands is None and all(has_colour_table(file) for file in files):
            return [load_image(file) for file in files]
        for file in files:
            with open_raster(file) as raster:
                kinds.add(raster.dataset.dtypes[0])
                sizes.add(raster.size)
                placed = placed and raster.crs is not None and raster.transform is not None
        if placed or len(sizes) == 1:
            pixel = not placed or len(files) == 1
            stretch: Literal["joint", "each"] = "joint" if len(kinds) == 1 else "each"
            return read_aligned_rgb(files, bands=bands, pixel=pixel, stretch=stretch)
        return [read_rgb(file, bands=bands) for file in files]
    except RasterError:
        if len(files) > 1 or bands is not None:
            raise
        # What GDAL refuses may be a picture for Pillow after all, as print colours are.
        try:
            return [load_image(files[0])]
        except ValueError:
            pass
        raise


def has_colour_table(file: str) -> bool:
    """A picture in 256 colours, which Pillow reads; its numbers are no measurements."""
    from unirs.geo import open_raster

    with open_raster(file) as raster:
        return raster.dataset.colorinterp[0].name == "palette"
