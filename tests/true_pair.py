"""A pair with known change, out of one real scene: the second date is edited, then warped to another grid."""

from pathlib import Path

import numpy as np
import rasterio
import shapely
from rasterio.transform import from_origin
from rasterio.warp import Resampling, calculate_default_transform, reproject
from shapely.geometry import Polygon, shape

SCENE = Path("geotiff/deepforest_5b90f92da0d7280005fab355_4310.tif")  # 2048 x 2048, 0.1 m, EPSG:3395
ROOF, SOIL = (205, 196, 188), (150, 110, 74)
# Left, top, width, height in pixels of the scene, and the colour of what is there afterwards: a building on the yard,
# one on the parking ground, bare soil beside the trees, a boat on the river. No side is a multiple of a cell.
EDITS = (
    (310, 1310, 250, 190, ROOF),
    (1460, 760, 170, 210, ROOF),
    (60, 1560, 260, 330, SOIL),
    (700, 820, 150, 130, ROOF),
)


def make_pair(data: Path, folder: Path, crs: str = "EPSG:32651", pixel: float = 0.1234, shift: float = 0.0):
    """Writes `before.tif` and `after.tif` (on another CRS and pixel size); returns their paths and the true places.

    Args:
        shift: Pixels of BEFORE by which AFTER's georeference is wrong, to the right.

    Returns:
        before, after, the edits as polygons of columns and rows of BEFORE.
    """
    with rasterio.open(data / SCENE) as file:
        before, profile = file.read(), file.profile
    after = before.copy()
    rng = np.random.default_rng(0)
    for left, top, width, height, colour in EDITS:
        texture = rng.normal(0, 6, (1, height, width)) + np.linspace(-12, 12, width)
        after[:, top : top + height, left : left + width] = np.clip(np.array(colour)[:, None, None] + texture, 0, 255)
    profile.update(driver="GTiff", compress="deflate", tiled=True, blockxsize=512, blockysize=512, photometric="rgb")
    with rasterio.open(folder / "before.tif", "w", **profile) as file:
        file.write(before)

    source, bounds = profile["crs"], rasterio.transform.array_bounds(2048, 2048, profile["transform"])
    there, width, height = calculate_default_transform(source, crs, 2048, 2048, *bounds, resolution=pixel)
    warped = np.zeros((4, height, width), np.uint8)
    alpha = np.full((1, *after.shape[1:]), 255, np.uint8)
    reproject(
        np.concatenate([after, alpha]),
        warped,
        src_transform=profile["transform"],
        src_crs=source,
        dst_transform=from_origin(there.c + shift * 0.1, there.f, pixel, pixel),
        dst_crs=crs,
        resampling=Resampling.cubic,
    )
    profile.update(count=4, crs=crs, transform=there, width=width, height=height, alpha="YES")
    with rasterio.open(folder / "after.tif", "w", **profile) as file:
        file.write(warped)
    true = [shapely.box(left, top, left + w, top + h) for left, top, w, h, _ in EDITS]
    return folder / "before.tif", folder / "after.tif", true


def overlap(features: list[dict], before: Path, true: list[Polygon]) -> dict[str, float]:
    """How well GeoJSON features lie on the true places: IoU of all, and of each true place with what touches it."""
    from pyproj import Transformer

    with rasterio.open(before) as file:
        to_crs = Transformer.from_crs("EPSG:4326", file.crs.to_wkt(), always_xy=True)
        to_pixels = ~file.transform

    def pixels(xy):
        x, y = to_crs.transform(*xy.T)
        return np.stack(to_pixels * (x, y), axis=1)

    found = [shapely.transform(shape(one["geometry"]), pixels) for one in features]
    union, truth = shapely.unary_union(found), shapely.unary_union(true)
    result = {"iou": union.intersection(truth).area / union.union(truth).area}
    for number, place in enumerate(true):
        near = shapely.unary_union([one for one in found if one.intersects(place)])
        result[f"iou_{number}"] = near.intersection(place).area / near.union(place).area
    away = [one for one in found if not one.intersects(truth)]
    return {**result, "regions": len(found), "false_regions": len(away), "false_area": sum(one.area for one in away)}
