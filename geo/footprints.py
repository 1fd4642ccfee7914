"""Polygons in pixels to polygons on the ground: in the raster's CRS, in WGS 84, and their true areas."""

from __future__ import annotations

from functools import cached_property

import antimeridian
import numpy as np
import pyproj
import shapely
from shapely.geometry import MultiPolygon, Polygon, box
from shapely.geometry.base import BaseGeometry

from ..processing.image_loading_unirs import shown
from .coregistration import Grid
from .raster_files import RasterError

WGS84 = "EPSG:4326"
ELLIPSOID = pyproj.Geod(ellps="WGS84")
DECIMALS = 9  # of a degree: a tenth of a millimetre, for a drone's pixels are a centimetre
PIECES = 32  # a side, of a tile that reaches over the edge of its CRS
STRAIGHT = 5e-9  # degrees; points that lie closer to a straight line say nothing


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

    def check(self, name: str) -> None:
        """Raises `RasterError` where the grid has no place on the ground; before hours of work, not after."""
        try:
            nodes = self._lonlat(box(0, 0, self.grid.width, self.grid.height))
        except pyproj.exceptions.ProjError as error:
            raise RasterError(
                f"{name}: its CRS cannot be brought to WGS 84 ({shown(error)}); gdalwarp it to another, or add --pixel"
            ) from error
        if nodes.is_empty:
            raise RasterError(f"{name}: lies where its CRS has no ground; check its CRS and georeference")

    def in_crs(self, pixels: BaseGeometry) -> BaseGeometry:
        """A geometry of (column, row) in coordinates of the raster's CRS; as it is where there is none."""
        a, b, c, d, e, f = tuple(self.grid.transform)[:6]
        return shapely.transform(pixels, lambda xy: xy @ np.array([[a, d], [b, e]]) + (c, f))

    def in_wgs84(self, pixels: BaseGeometry) -> BaseGeometry:
        """Longitude and latitude as RFC 7946 wants them: rings by the right-hand rule, cut at the 180th meridian.

        Empty where the CRS has no ground, as beside the oval of a world map.
        """
        parts = []
        for polygon in polygons_of(shapely.simplify(self._lonlat(pixels), STRAIGHT)):
            if _crosses(polygon):
                # by longitudes alone its ring could also be the other side of a pole
                polygon = antimeridian.fix_polygon(_wrapped(polygon), fix_winding=False)
            if not polygon.is_valid:  # a pole on its edge: the ring comes back to it along the parallel of 90 degrees
                polygon = shapely.make_valid(polygon, method="structure", keep_collapsed=False)
            parts += polygons_of(polygon)
        if not parts:
            return Polygon()
        rounded = shapely.transform(MultiPolygon(parts) if len(parts) > 1 else parts[0], lambda xy: xy.round(DECIMALS))
        return shapely.orient_polygons(rounded)

    def area(self, pixels: BaseGeometry) -> float:
        """Square metres on the WGS 84 ellipsoid, edges as geodesics."""
        return sum(
            abs(ELLIPSOID.geometry_area_perimeter(shapely.orient_polygons(part))[0])
            for part in polygons_of(self._lonlat(pixels))
        )

    def lonlat(self, column: float, row: float) -> tuple[float, float]:
        return self._to_wgs84.transform(*(self.grid.transform * (column, row)))

    def _lonlat(self, pixels: BaseGeometry) -> BaseGeometry:
        cut = shapely.segmentize(pixels, self.longest_edge)
        # counter-clockwise in the CRS is so on the globe too, at the poles as elsewhere
        there = shapely.transform(shapely.orient_polygons(self.in_crs(cut)), self._transformed)
        if np.isfinite(shapely.get_coordinates(there)).all():
            return there
        part = self._with_ground(pixels)
        return shapely.transform(shapely.orient_polygons(self.in_crs(part)), self._transformed)

    def _transformed(self, xy: np.ndarray) -> np.ndarray:
        return np.stack(self._to_wgs84.transform(*xy.T), axis=1)

    def _with_ground(self, pixels: BaseGeometry) -> BaseGeometry:
        """The part of a geometry whose pixels have longitude and latitude, in pieces of its bounds."""
        left, top, right, bottom = pixels.bounds
        columns, rows = np.linspace(left, right, PIECES + 1), np.linspace(top, bottom, PIECES + 1)
        nodes = shapely.points(*(axis.ravel() for axis in np.meshgrid(columns, rows)))
        known = np.isfinite(self._transformed(shapely.get_coordinates(self.in_crs(nodes)))).all(1)
        known = known.reshape(PIECES + 1, PIECES + 1)
        whole = known[:-1, :-1] & known[1:, :-1] & known[:-1, 1:] & known[1:, 1:]  # (rows, columns)
        pieces = [box(columns[k], rows[j], columns[k + 1], rows[j + 1]) for j, k in zip(*whole.nonzero(), strict=True)]
        return shapely.intersection(shapely.union_all(pieces), pixels)


def polygons_of(geometry: BaseGeometry) -> list[Polygon]:
    return [part for part in shapely.get_parts(geometry).tolist() if isinstance(part, Polygon)]


def _crosses(polygon: Polygon) -> bool:
    longitudes = shapely.get_coordinates(polygon)[:, 0]
    return bool(np.abs(longitudes).max() > 180 or np.abs(np.diff(longitudes)).max() > 180)


def _wrapped(polygon: Polygon) -> Polygon:
    """Longitudes into -180..180; a raster that counts from 0 to 360 has others."""
    return shapely.transform(polygon, lambda xy: np.stack([(xy[:, 0] + 180) % 360 - 180, xy[:, 1]], axis=1))
