"""Small rasters for tests, with known values on known ground."""

import numpy as np
import rasterio
from rasterio.transform import from_origin

UTM = "EPSG:32631"
LEFT, TOP, PIXEL = 500_000.0, 5_000_000.0, 10.0


def write(path, values, crs=UTM, transform=None, descriptions=(), mask=None, **options):
    """Writes `(bands, H, W)` values; returns the path."""
    values = np.asarray(values)
    profile = {
        "driver": "GTiff",
        "width": values.shape[2],
        "height": values.shape[1],
        "count": values.shape[0],
        "dtype": values.dtype,
        "crs": crs,
        "transform": transform or from_origin(LEFT, TOP, PIXEL, PIXEL),
        **options,
    }
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **profile) as file:
        file.write(values)
        for number, description in enumerate(descriptions, start=1):
            file.set_band_description(number, description)
        if mask is not None:
            file.write_mask(mask)
    return path


def scene(seed=0, width=128, height=128, dtype=np.uint8, bands=3, high=255):
    """A landscape of smooth blobs: values at a place do not depend on the size of the raster."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = rng.uniform(0.02, 0.25, (bands, 6, 2)), rng.uniform(0, 6.3, (bands, 6))
    values = [
        sum(np.sin(fx * x + fy * y + phase) for (fx, fy), phase in zip(*band, strict=True))
        for band in zip(*waves, strict=True)
    ]
    return ((np.array(values) / 12 + 0.5).clip(0, 1) * high).astype(dtype)  # (bands, H, W)
