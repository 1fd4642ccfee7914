"""Polygons in pixels to polygons on the ground: in the raster's CRS, in WGS 84, and their true areas."""

from __future__ import annotations

from functools import cached_property

import antimeridian
import numpy as np
import pyproj
import shapely
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from .coregistration import Grid

WGS84 = "EPSG:4326"
ELLIPSOID = pyproj.Geod(ellps="WGS84")
DECIMALS = 7  # of a degree: a centimetre
STRAIGHT = 5e-8  # degrees; points that lie closer to a straight line say nothing


class Ground:
    """Where the pixels of a grid lie on the ground.

    Args:
        longest_edge: Edges are cut into pieces of at most so many pixels, because a straight line of the raster's CRS
            is none in longitude and latitude.
    """

    def __init__(self, grid: Grid, longest_edge: float):
        self.grid = grid
        self.longest_edge = longest_edge

    @cached_property
    def _to_wgs84(self) -> pyproj.Transformer:
        assert self.grid.crs is not None
        return pyproj.Transformer.from_crs(pyproj.CRS.from_wkt(self.grid.crs.to_wkt()), WGS84, always_xy=True)

    def in_crs(self, pixels: BaseGeometry) -> BaseGeometry:
        """A geometry of (column, row) in coordinates of the raster's CRS; as it is where there is none."""
        a, b, c, d, e, f = tuple(self.grid.transform)[:6]
        return shapely.transform(pixels, lambda xy: xy @ np.array([[a, d], [b, e]]) + (c, f))

    def in_wgs84(self, pixels: BaseGeometry) -> BaseGeometry:
        """Longitude and latitude as RFC 7946 wants them: rings by the right-hand rule, cut at the 180th meridian."""
        parts = []
        for polygon in _polygons(shapely.simplify(self._lonlat(pixels), STRAIGHT)):
            if _crosses(polygon):
                polygon = antimeridian.fix_polygon(_wrapped(polygon))
            parts += _polygons(polygon)
        rounded = shapely.transform(MultiPolygon(parts) if len(parts) > 1 else parts[0], lambda xy: xy.round(DECIMALS))
        return shapely.orient_polygons(rounded)

    def area(self, pixels: BaseGeometry) -> float:
        """Square metres on the WGS 84 ellipsoid, edges as geodesics."""
        return sum(
            abs(ELLIPSOID.geometry_area_perimeter(shapely.orient_polygons(part))[0])
            for part in _polygons(self._lonlat(pixels))
        )

    def lonlat(self, column: float, row: float) -> tuple[float, float]:
        return self._to_wgs84.transform(*(self.grid.transform * (column, row)))

    def _lonlat(self, pixels: BaseGeometry) -> BaseGeometry:
        cut = shapely.segmentize(pixels, self.longest_edge)
        return shapely.transform(self.in_crs(cut), lambda xy: np.stack(self._to_wgs84.transform(*xy.T), axis=1))


def _polygons(geometry: BaseGeometry) -> list[Polygon]:
    return [part for part in shapely.get_parts(geometry).tolist() if isinstance(part, Polygon)]


def _crosses(polygon: Polygon) -> bool:
    longitudes = shapely.get_coordinates(polygon)[:, 0]
    return bool(np.abs(longitudes).max() > 180 or np.abs(np.diff(longitudes)).max() > 180)


def _wrapped(polygon: Polygon) -> Polygon:
    """Longitudes into -180..180; a raster that counts from 0 to 360 has others."""
    return shapely.transform(polygon, lambda xy: np.stack([(xy[:, 0] + 180) % 360 - 180, xy[:, 1]], axis=1))
