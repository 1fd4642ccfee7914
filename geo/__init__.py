"""Rasters in, maps out: reading, co-registration, tiling. Needs the extra `geo`."""

import transformers  # noqa: F401 - first, because UniRS registers itself once this is loaded

from .bands import Composition, choose_bands
from .coregistration import AlignedDates, open_dates
from .raster_files import RasterError, open_raster
from .rgb import read_aligned_rgb, read_rgb

__all__ = [
    "AlignedDates",
    "Composition",
    "RasterError",
    "choose_bands",
    "open_dates",
    "open_raster",
    "read_aligned_rgb",
    "read_rgb",
]
