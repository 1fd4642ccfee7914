"""Features, heat maps and files of a change map whose cells are set by hand."""

import json
import os

import numpy as np
import pytest

pytest.importorskip("rasterio", reason="rasterio is not installed: pip install 'unirs[geo]'")
import geopandas
import pyarrow.parquet as pq
import pyogrio
import rasterio
import shapely
from rasterio._err import CPLE_AppDefinedError
from rasterio.crs import CRS
from rasterio.transform import from_origin
from rasterio.windows import Window
from shapely.geometry import box
from unirs.geo.bands import Composition
from unirs.geo.change_map import ChangeMap, Scene
from unirs.geo.changes import at_least, region_changes, tile_changes
from unirs.geo.coregistration import Grid
from unirs.geo.heatmap import shrunk, strips, write_heatmap
from unirs.geo.journal import TileResult, packed
from unirs.geo.raster_files import RasterError
from unirs.geo.rgb import Rendering
from unirs.geo.stretch import AS_THEY_ARE
from unirs.geo.tiles import lay_tiles
from unirs.geo.vector_files import write_changes

SIDE, CELLS = 60, 6  # cells of 10 pixels


def a_map(cells, width=180, height=120, overlap=0, crs="EPSG:32631", steps=1, kind="rgb", has_data=None):
    """A change map whose cell at (step, row, column) of the whole grid has the given value; None is no data.

    `has_data` says so of pixels, `(height, width)`.
    """
    grid = Grid(crs and CRS.from_string(crs), from_origin(500_000, 5_000_000, 10, 10), width, height)
    tiles = lay_tiles(grid, grid.window, SIDE, overlap)
    results = []
    for tile in tiles:
        maps = np.zeros((steps, CELLS, CELLS), np.uint8)
        for (step, row, column), value in cells.items():
            y, x = row - tile.top // 10, column - tile.left // 10
            if 0 <= y < CELLS and 0 <= x < CELLS:
                maps[step, y, x] = 255 if value is None else round(250 * value)
        top = [int(np.where(one == 255, 0, one).max()) / 250 for one in maps]
        captions = tuple(f"{tile.id} changed" if one >= 0.5 else None for one in top)
        window = tile.inside(grid).toslices()
        data = None if has_data is None else packed(has_data[window])
        results.append(TileResult(tile.id, maps, tuple(top), captions, data=data))
    rendering = Rendering((Composition((1, 2, 3), kind),) * (steps + 1), (AS_THEY_ARE,) * (steps + 1))
    scene = Scene([], {}, grid, rendering, tiles, [str(2019 + number) for number in range(steps + 1)], [])
    return ChangeMap(scene, 0.5, results, {"model": "by hand"})


BLOCK = {(0, row, column): 0.8 for row in (3, 4, 5, 6) for column in (4, 5, 6, 7)}  # over four tiles


def test_a_region_is_one_feature_across_tile_borders():
    found = region_changes(a_map({**BLOCK, (0, 0, 17): 0.6, (0, 11, 0): 0.4}))
    assert len(found) == 2
    large, small = sorted(found, key=lambda one: -one.place.area)
    assert large.place.equals(box(40, 30, 80, 70))
    assert large.score == pytest.approx(0.8)
    assert (large.tiles[0], set(large.tiles)) == (
        "r0000c0000",
        {"r0000c0000", "r0000c0001", "r0001c0000", "r0001c0001"},
    )
    assert large.caption == "r0000c0000 changed"  # it has the largest share
    assert small.place.equals(box(170, 0, 180, 10))


@pytest.mark.parametrize("overlap", [20, 30])
def test_overlapping_tiles_make_the_same_region(overlap):
    found = region_changes(a_map(BLOCK, overlap=overlap))
    assert len(found) == 1
    assert found[0].place.equals(box(40, 30, 80, 70))


def test_a_region_keeps_its_hole():
    ring = {cell: value for cell, value in BLOCK.items() if cell[1:] != (4, 5)}
    (found,) = region_changes(a_map(ring))
    assert found.place.equals(box(40, 30, 80, 70) - box(50, 40, 60, 50))


def test_cells_that_touch_at_a_corner_are_one_region():
    """In one tile, and across the corner of four."""
    found = region_changes(a_map({(0, 1, 1): 0.9, (0, 2, 2): 0.7, (0, 5, 5): 0.6, (0, 6, 6): 0.6}))
    assert [one.place.area for one in found] == [200, 200]
    assert found[0].place.equals(box(10, 10, 20, 20) | box(20, 20, 30, 30))
    assert found[1].place.equals(box(50, 50, 60, 60) | box(60, 60, 70, 70))
    assert all(one.place.is_valid for one in found)
    assert found[0].score == pytest.approx(0.8)


def test_smaller_changes_are_left_out_on_request():
    change_map = a_map({**BLOCK, (0, 0, 17): 0.6})
    found = region_changes(change_map)
    assert [one.place.area for one in at_least(100 * 99, found, change_map)] == [1600, 100]  # square metres
    assert [one.place.area for one in at_least(100 * 101, found, change_map)] == [1600]
    in_pixels = a_map({**BLOCK, (0, 0, 17): 0.6}, crs=None)
    assert [one.place.area for one in at_least(101, found, in_pixels)] == [1600]


# -- places without data ---------------------------------------------------------------------------------------------
def test_neither_the_heat_map_nor_a_region_reaches_over_places_without_data():
    """Cells that are more than half valid once spread over the border of the data, and their area counted."""
    has_data = np.ones((120, 180), bool)
    has_data[66:] = False
    change_map = a_map(BLOCK, has_data=has_data)
    (found,) = region_changes(change_map)
    assert found.place.equals(box(40, 30, 80, 66))
    expected = np.zeros((120, 180))
    expected[30:70, 40:80] = 0.8
    expected[66:] = np.nan
    ((_, _, values),) = strips(change_map)
    np.testing.assert_allclose(values, expected, atol=1e-6)
    np.testing.assert_allclose(shrunk(change_map, 180, 120), expected, atol=1e-6)


def test_a_tile_counts_by_its_part_with_data(tmp_path):
    has_data = np.zeros((120, 180), bool)
    has_data[:8] = True
    change_map = a_map({(0, 0, 0): 0.9}, has_data=has_data)
    (found,) = tile_changes(change_map)
    assert found.place.equals(box(0, 0, 60, 8))
    write_changes([found], change_map, tmp_path / "a.geojson")
    told = json.loads((tmp_path / "a.geojson").read_text())["features"][0]["properties"]
    assert told["area_pixels"] == 480
    assert told["area_m2"] == pytest.approx(600 * 80 / 0.9996**2, rel=1e-4)


@pytest.mark.parametrize("seed", range(8))
def test_areas_are_of_changed_pixels_with_data_whatever_their_shapes(tmp_path, seed):
    rng = np.random.default_rng(seed)
    places = [(row, column) for row in range(12) for column in range(18) if rng.random() < 0.4]
    has_data = rng.random((120, 180)) < rng.choice([0.1, 0.5, 0.9])
    change_map = a_map({(0, *place): 0.9 for place in places}, has_data=has_data)
    found = region_changes(change_map)
    changed = np.zeros((120, 180), bool)
    for row, column in places:
        changed[row * 10 : row * 10 + 10, column * 10 : column * 10 + 10] = True
    assert sum(one.place.area for one in found) == pytest.approx((changed & has_data).sum())
    assert all(one.place.is_valid for one in found)
    write_changes(found, change_map, tmp_path / "a.geojson")
    assert geopandas.read_file(tmp_path / "a.geojson").is_valid.all()


def test_the_journal_keeps_where_a_tile_has_data():
    has_data = np.random.default_rng(0).random((60, 50)) < 0.5
    kept = TileResult("r0000c0000", data=packed(has_data))
    found = TileResult.from_json(json.loads(json.dumps(kept.to_json())))
    assert np.array_equal(found.has_data(Window(0, 0, 50, 60)), has_data)
    assert packed(np.ones((60, 50), bool)) is None


# -- features and files ----------------------------------------------------------------------------------------------
def test_changed_tiles_are_features_for_each_step():
    found = tile_changes(a_map({(0, 0, 0): 0.9, (1, 0, 0): 0.7, (1, 7, 7): 0.5, (0, 7, 7): 0.4}, steps=2))
    assert [(one.tiles[0], one.before, one.after, one.score) for one in found] == [
        ("r0000c0000", "2019", "2020", 0.9),
        ("r0000c0000", "2020", "2021", 0.7),
        ("r0001c0001", "2020", "2021", 0.5),
    ]
    assert found[0].place.equals(box(0, 0, 60, 60))


def test_geojson_is_rfc_7946_and_read_by_others(tmp_path):
    path = tmp_path / "changes.geojson"
    change_map = a_map(BLOCK, kind="SAR")
    write_changes(tile_changes(change_map), change_map, path)
    collection = json.loads(path.read_text())
    assert (collection["type"], collection["unirs"]["model"], "crs" in collection) == (
        "FeatureCollection",
        "by hand",
        False,
    )
    first = collection["features"][0]["properties"]
    assert (first["in_training_domain"], first["composition"], first["tile"]) == (False, "SAR", "r0000c0000")
    assert first["area_m2"] == pytest.approx(600 * 600 / 0.9996**2, rel=1e-4)  # UTM's scale at its central meridian
    frame = geopandas.read_file(path)
    assert (len(frame), frame.crs.to_epsg()) == (4, 4326)
    projected = frame.to_crs("EPSG:32631").geometry[0]
    assert projected.symmetric_difference(box(500_000, 4_999_400, 500_600, 5_000_000)).area < 30
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["changes.gpkg", "changes.parquet"])
def test_geopackage_and_geoparquet_keep_the_grids_crs(tmp_path, name):
    change_map = a_map(BLOCK)
    write_changes(region_changes(change_map), change_map, tmp_path / name)
    frame = (geopandas.read_parquet if name.endswith("parquet") else geopandas.read_file)(tmp_path / name)
    assert frame.crs.to_epsg() == 32631
    assert frame.geometry[0].equals(box(500_400, 4_999_300, 500_800, 4_999_700))
    assert frame.caption[0] == "r0000c0000 changed"


@pytest.mark.parametrize("name", ["changes.gpkg", "changes.parquet", "changes.geojson"])
@pytest.mark.parametrize("cells", [BLOCK, {}])
def test_every_kind_of_file_says_how_it_was_made(tmp_path, name, cells):
    change_map = a_map(cells)
    change_map.about.update(broken_tiles=["r0001c0001"], notes=['Söul: "b" <1>'])
    path = tmp_path / name
    write_changes(region_changes(change_map), change_map, path)
    if name.endswith("gpkg"):
        told = json.loads(pyogrio.read_info(path)["layer_metadata"]["unirs"])
    elif name.endswith("parquet"):
        told = json.loads(pq.read_schema(path).metadata[b"unirs"])
    else:
        told = json.loads(path.read_text())["unirs"]
    where = "WGS 84" if name.endswith("geojson") else "the first date's own CRS"
    assert told == {**change_map.about, "coordinates": where}


@pytest.mark.parametrize("name", ["changes.gpkg", "changes.parquet", "changes.geojson"])
def test_no_change_is_an_empty_file(tmp_path, name):
    change_map = a_map({})
    write_changes(tile_changes(change_map), change_map, tmp_path / name)
    frame = (geopandas.read_parquet if name.endswith("parquet") else geopandas.read_file)(tmp_path / name)
    assert len(frame) == 0


@pytest.mark.parametrize("name", ["changes.gpkg", "changes.geojson"])
def test_gdal_reads_what_is_written(tmp_path, name):
    """As `ogrinfo` does, through the same library."""
    change_map = a_map(BLOCK)
    write_changes(tile_changes(change_map), change_map, tmp_path / name)
    found = pyogrio.read_info(tmp_path / name)
    kind = "MultiPolygon" if name.endswith("gpkg") else "Polygon"
    assert (found["features"], found["geometry_type"]) == (4, kind)
    assert {"caption", "score", "area_m2", "before", "after", "tile"} <= set(found["fields"])


def test_the_heat_map_is_made_in_strips_of_one_step(tmp_path):
    """Memory does not grow with the number of dates; strips together are the whole map."""
    change_map = a_map({(0, 55, 60): 1.0, (1, 3, 3): 0.5}, width=700, height=1100, steps=2)
    whole = np.full((2, 1100, 700), -1.0)
    for step, window, values in strips(change_map):
        assert values.shape == (window.height, 700)
        whole[step, window.row_off : window.row_off + window.height] = values
    assert whole.min() == 0
    assert (whole[0].sum(), whole[1].sum()) == (100, 50)


def test_no_cell_is_lost_in_a_small_picture():
    """One cell of 10 pixels in pictures whose pixels are 18, and more than a tile wide."""
    change_map = a_map({(0, 31, 17): 1.0}, width=1800, height=1800)
    for side in (100, 10):
        assert shrunk(change_map, side, side).max() == 1


def test_a_link_stays_one_and_what_it_points_to_is_written(tmp_path):
    (tmp_path / "large disk").mkdir()
    link = tmp_path / "a.geojson"
    link.symlink_to(tmp_path / "large disk" / "b.geojson")
    write_changes([], a_map({}), link)
    assert link.is_symlink()
    assert json.loads((tmp_path / "large disk" / "b.geojson").read_text())["features"] == []


def test_the_heat_map_is_a_cog_on_the_first_dates_grid(tmp_path):
    cells = {**BLOCK, (1, 2, 2): 0.3, (0, 11, 17): None, (1, 11, 17): None}
    change_map = a_map(cells, steps=2)
    write_heatmap(change_map, tmp_path / "heat.tif")
    with rasterio.open(tmp_path / "heat.tif") as file:
        grid = change_map.scene.grid
        assert (file.crs, file.transform, file.width, file.height) == (grid.crs, grid.transform, 180, 120)
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.descriptions == ("change from 2019 to 2020", "change from 2020 to 2021")
        values = file.read()
    expected = np.zeros((2, 120, 180))
    expected[0, 30:70, 40:80] = 0.8
    expected[1, 20:30, 20:30] = 0.3
    expected[:, 110:, 170:] = np.nan
    np.testing.assert_allclose(values, expected, atol=1e-6)
    assert [one.name for one in tmp_path.iterdir()] == ["heat.tif"]


def test_large_heat_maps_have_overviews_and_seams_do_not_show(tmp_path):
    change_map = a_map({(0, 55, 60): 1.0}, width=1400, height=1100, overlap=20)
    write_heatmap(change_map, tmp_path / "heat.tif")
    with rasterio.open(tmp_path / "heat.tif") as file:
        assert file.overviews(1)
        values = file.read(1)
    assert values[550:560, 600:610].min() == 1
    assert values.sum() == 100
    small = shrunk(change_map, 140, 110)
    assert small[55, 60] == 1
    assert small.sum() == 1


@pytest.mark.parametrize("fault", ["cut", "other values", "refused"])
def test_a_heat_map_that_a_full_disk_cut_is_told_and_is_not_there(tmp_path, monkeypatch, fault):
    """GDAL flushes what it has when a file is closed, and tells nobody if that fails."""
    copy = rasterio.shutil.copy

    def copy_badly(plain, part, **options):
        if fault == "refused":
            raise CPLE_AppDefinedError(3, 1, "Write error at scanline 0")
        if fault == "other values":
            with rasterio.open(plain, "r+") as file:
                file.write(np.zeros((88, 512), np.float32), 1, window=Window(0, 512, 512, 88))
        copy(plain, part, **options)
        if fault == "cut":
            os.truncate(part, part.stat().st_size * 3 // 4)

    monkeypatch.setattr(rasterio.shutil, "copy", copy_badly)
    cells = {(0, row, column): (row * 7 + column * 3) % 11 / 11 for row in range(60) for column in range(60)}
    with pytest.raises(RasterError, match=r"heat\.tif: cannot be written whole; free space on its disk"):
        write_heatmap(a_map(cells, width=600, height=600), tmp_path / "heat.tif")
    assert list(tmp_path.iterdir()) == []


def test_without_a_crs_coordinates_are_pixels(tmp_path):
    change_map = a_map(BLOCK, crs=None)
    object.__setattr__(change_map.scene, "grid", Grid(None, rasterio.Affine.identity(), 180, 120))
    write_changes(region_changes(change_map), change_map, tmp_path / "a.geojson")
    found = json.loads((tmp_path / "a.geojson").read_text())
    assert found["unirs"]["coordinates"] == "columns and rows of the first date"
    assert found["features"][0]["properties"]["area_m2"] is None
    assert found["features"][0]["properties"]["area_pixels"] == 1600
    assert shapely.geometry.shape(found["features"][0]["geometry"]).equals(box(40, 30, 80, 70))
