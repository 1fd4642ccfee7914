"""Tiles and footprints against closed forms: three projections and the ellipsoid's own areas."""

import math

import numpy as np
import pytest

pytest.importorskip("rasterio", reason="rasterio is not installed: pip install 'unirs[geo]'")
import shapely
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.transform import from_origin
from rasterio.windows import Window
from shapely.geometry import box
from unirs.geo.coregistration import Grid
from unirs.geo.footprints import Ground
from unirs.geo.raster_files import RasterError
from unirs.geo.tiles import lay_tiles

A, F = 6378137.0, 1 / 298.257223563  # WGS 84
E2 = F * (2 - F)


def ground(crs, left, top, pixel, width=1000, height=1000, longest_edge=64):
    return Ground(Grid(CRS.from_string(crs), from_origin(left, top, pixel, pixel), width, height), longest_edge)


def corners(polygon):
    """Longitude and latitude of the four corners: the outermost points of a nearly straight rectangle."""
    return np.array(shapely.get_coordinates(shapely.simplify(polygon, 1e-3))[:-1])


def inverse_utm(x, y, central):
    """Krueger's series to the third order in n: longitude and latitude in degrees, to a millimetre."""
    n = F / (2 - F)
    radius = A / (1 + n) * (1 + n**2 / 4 + n**4 / 64)
    xi, eta = y / (0.9996 * radius), (x - 500_000) / (0.9996 * radius)
    beta = (n / 2 - 2 * n**2 / 3 + 37 * n**3 / 96, n**2 / 48 + n**3 / 15, 17 * n**3 / 480)
    delta = (2 * n - 2 * n**2 / 3 - 2 * n**3, 7 * n**2 / 3 - 8 * n**3 / 5, 56 * n**3 / 15)
    xi_, eta_ = xi, eta
    for j, b in enumerate(beta, start=1):
        xi_ -= b * math.sin(2 * j * xi) * math.cosh(2 * j * eta)
        eta_ -= b * math.cos(2 * j * xi) * math.sinh(2 * j * eta)
    chi = math.asin(math.sin(xi_) / math.cosh(eta_))
    latitude = chi + sum(d * math.sin(2 * j * chi) for j, d in enumerate(delta, start=1))
    return central + math.degrees(math.atan2(math.sinh(eta_), math.cos(xi_))), math.degrees(latitude)


def inverse_web_mercator(x, y):
    return math.degrees(x / A), math.degrees(2 * math.atan(math.exp(y / A)) - math.pi / 2)


def band_area(south, north, degrees):
    """Of the ellipsoid between two parallels, over so many degrees of longitude."""
    e = math.sqrt(E2)

    def q(latitude):
        s = math.sin(math.radians(latitude))
        return s / (1 - E2 * s * s) + math.log((1 + e * s) / (1 - e * s)) / (2 * e)

    return math.radians(degrees) * A**2 * (1 - E2) / 2 * (q(north) - q(south))


@pytest.mark.parametrize(
    ("crs", "left", "top", "pixel", "inverse"),
    [
        ("EPSG:4326", 4.25, 52.5, 0.0001, lambda x, y: (x, y)),
        ("EPSG:3857", 500_000, 6_800_000, 12.5, inverse_web_mercator),
        ("EPSG:32631", 612_340, 5_765_430, 10, lambda x, y: inverse_utm(x, y, 3)),
    ],
)
def test_a_tiles_footprint_is_where_the_projections_formulas_put_it(crs, left, top, pixel, inverse):
    there = ground(crs, left, top, pixel)
    found = there.in_wgs84(box(256, 512, 512, 768))
    expected = [inverse(left + column * pixel, top - row * pixel) for column in (256, 512) for row in (512, 768)]
    coordinates = shapely.get_coordinates(found)
    for corner in expected:
        assert np.abs(coordinates - corner).max(axis=1).min() < 2e-7  # 2 cm
    assert shapely.is_ccw(found.exterior)  # RFC 7946, 3.1.6
    assert found.bounds[0] == pytest.approx(min(x for x, _ in expected), abs=1e-6)


@pytest.mark.parametrize(("south", "pixel"), [(0.0, 0.001), (52.0, 0.001), (-33.5, 0.0001), (78.0, 0.002)])
def test_area_in_degrees_is_the_ellipsoids(south, pixel):
    there = ground("EPSG:4326", 10, south + 256 * pixel, pixel)
    expected = band_area(south, south + 256 * pixel, 256 * pixel)
    assert there.area(box(0, 0, 256, 256)) == pytest.approx(expected, rel=2e-5)


@pytest.mark.parametrize("row", [0, 3000, 6000])
def test_area_in_an_equal_area_projection_is_the_planes(row):
    there = ground("EPSG:6933", 300_000, 6_500_000, 900, 9000, 9000, longest_edge=16)
    assert there.area(box(100, row, 164, row + 64)) == pytest.approx((64 * 900) ** 2, rel=3e-5)
    ring = box(100, row, 164, row + 64) - box(110, row + 10, 130, row + 20)
    assert there.area(ring) == pytest.approx((64 * 64 - 200) * 900**2, rel=3e-5)


def test_web_mercator_metres_are_no_metres():
    """At 60 degrees north a Web Mercator pixel of 10 m is 5 m wide: a quarter of the area."""
    y = A * math.asinh(math.tan(math.radians(60)))
    assert ground("EPSG:3857", 0, y, 10).area(box(0, 0, 100, 100)) == pytest.approx(1e6 / 4, rel=0.01)


@pytest.mark.parametrize(
    ("crs", "left", "top", "pixel"), [("EPSG:4326", 179.9, 1, 0.001), ("EPSG:3832", 3_300_000, 1000, 100)]
)
def test_a_footprint_across_the_180th_meridian_is_cut(crs, left, top, pixel):
    """RFC 7946, 3.1.9. EPSG:3832 is a Mercator centred on the Pacific; the other raster counts beyond 180."""
    there = ground(crs, left, top, pixel)
    found = there.in_wgs84(box(0, 0, 1000, 1000))
    assert found.geom_type == "MultiPolygon"
    west, east = sorted(found.geoms, key=lambda part: part.bounds[0])
    assert west.bounds[0] == -180
    assert east.bounds[2] == 180
    assert all(shapely.is_ccw(part.exterior) for part in found.geoms)
    width = (west.bounds[2] - west.bounds[0]) + (east.bounds[2] - east.bounds[0])
    expected = 1000 * pixel if crs == "EPSG:4326" else math.degrees(1000 * pixel / A)
    assert width == pytest.approx(expected, abs=1e-6)
    assert there.area(box(0, 0, 1000, 1000)) < 3e10


# -- tiles -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("crs", "pole"), [("EPSG:3413", 90), ("EPSG:3995", 90), ("EPSG:3031", -90)])
def test_a_footprint_over_a_pole_holds_the_pole(crs, pole):
    """51.2 km around it: 0.46 degrees of latitude, not the rest of the globe."""
    there = ground(crs, -51_200, 51_200, 102.4)
    found = there.in_wgs84(box(0, 0, 1000, 1000))
    assert found.contains(shapely.Point(0.3, math.copysign(89.9, pole)))
    assert not found.intersects(shapely.Point(0.3, 0.5))
    assert min(abs(latitude) for _, latitude in shapely.get_coordinates(found)) > 89
    assert shapely.is_valid(found)


@pytest.mark.parametrize("crs", ["EPSG:3031", "EPSG:3413", "EPSG:3995"])
def test_footprints_whose_edge_a_pole_lies_on_are_valid(crs):
    """Grids around a pole often have it between two tiles."""
    there = ground(crs, -48_000, 32_000, 1000, longest_edge=8)
    found = [there.in_wgs84(box(left, top, left + 32, top + 32)) for left in (0, 32, 64) for top in (0, 32)]
    assert all(one.is_valid and not one.is_empty for one in found)


@pytest.mark.parametrize("pixel", [0.01, 0.03])
def test_outlines_of_a_drones_centimetres_are_valid_and_as_large_as_they_are(pixel):
    """Seven decimals of a degree are a centimetre: stairs of such pixels fell together."""
    there = ground("EPSG:32631", 500_000, 5_000_000, pixel)
    stairs = shapely.union_all([box(0, row, 40 + 3 * (row % 5), row + 1) for row in range(60)])
    found = there.in_wgs84(stairs)
    assert found.is_valid
    back = shapely.transform(
        found,
        lambda xy: np.stack(there._to_wgs84.transform(*xy.T, direction="INVERSE"), axis=1) - (500_000, 5_000_000),
    )
    assert back.area == pytest.approx(stairs.area * pixel**2, rel=2e-3)
    assert shapely.hausdorff_distance(back, shapely.transform(stairs, lambda xy: xy * (pixel, -pixel))) < 0.1 * pixel


def test_what_lies_beside_the_oval_of_a_world_map_has_no_ground():
    """Mollweide: a tile in the corner is nowhere, one over the edge is there in part."""
    radius = 6_378_137 * math.sqrt(2)
    there = ground("ESRI:54009", -2 * radius, radius, radius / 100, width=400, height=200, longest_edge=2)
    assert there.in_wgs84(box(0, 0, 20, 20)).is_empty
    assert there.area(box(0, 0, 20, 20)) == 0
    edge, whole = there.area(box(40, 20, 80, 60)), 1600 * (radius / 100) ** 2  # equal area
    assert 0.1 * whole < edge < 0.9 * whole
    assert there.area(box(180, 80, 220, 120)) == pytest.approx(whole, rel=0.01)


@pytest.mark.parametrize(
    ("wkt", "reason"),
    [
        ('LOCAL_CS["site",UNIT["metre",1]]', "cannot be brought to WGS 84"),
        ("ESRI:54009", "lies where its CRS has no ground"),
    ],
)
def test_a_grid_without_ground_is_told_before_any_work(wkt, reason):
    there = ground(wkt, 5e8, 5e8, 10)
    with pytest.raises(RasterError, match=rf"a.tif: .*{reason}"):
        there.check("a.tif")


@given(
    width=st.integers(1, 900),
    height=st.integers(1, 900),
    side=st.integers(16, 300),
    share=st.floats(0, 0.5),
    corner=st.tuples(st.floats(0, 0.9), st.floats(0, 0.9)),
)
def test_tiles_cover_every_pixel_of_the_area_and_stay_on_the_grid(width, height, side, share, corner):
    grid = Grid(None, from_origin(0, 0, 1, 1), width, height)
    left, top = int(corner[0] * width), int(corner[1] * height)
    area = Window(left, top, width - left, height - top)
    covered = np.zeros((height, width), np.int64)
    tiles = lay_tiles(grid, area, side, int(share * side))
    for tile in tiles:
        window = tile.inside(grid)
        covered[tile.top : tile.top + window.height, tile.left : tile.left + window.width] += 1
        assert window.width == min(side, width)
        assert window.height == min(side, height)
    assert covered[top:, left:].min() >= 1
    assert len({tile.id for tile in tiles}) == len(tiles)


def test_a_place_has_the_same_tile_whatever_the_area():
    grid = Grid(None, from_origin(0, 0, 1, 1), 1000, 1000)
    every = {tile.id: tile for tile in lay_tiles(grid, grid.window, 128, 16)}
    some = lay_tiles(grid, Window(300, 400, 200, 100), 128, 16)
    assert 4 <= len(some) <= 9
    assert all(every[tile.id] == tile for tile in some)
