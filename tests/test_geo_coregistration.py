"""Dates on different grids meet on BEFORE's."""

import itertools

import numpy as np
import pytest

pytest.importorskip("rasterio", reason="rasterio is not installed: pip install 'unirs[geo]'")
import rasterio
from PIL import Image
from rasterio import Affine
from rasterio.transform import from_origin
from rasterio.warp import transform
from rasterio.windows import Window
from unirs.geo import RasterError, open_dates, read_aligned_rgb
from unirs.geo.shift import estimate_shift

from tests.rasters import LEFT, PIXEL, TOP, UTM, scene, write


def field(x, y):
    """Values that depend on the place on the ground alone: `x` and `y` in UTM metres."""
    east, north = x - LEFT, TOP - y
    return np.stack([120 + 60 * np.sin(east / 300), 120 + 60 * np.cos(north / 260), 40 + 0.1 * east + 0 * north])


def raster(path, crs=UTM, origin=(LEFT, TOP), pixel=PIXEL, size=(96, 80), **options):
    """The field as a raster on a grid of any CRS."""
    width, height = size
    grid = options.pop("transform", None) or from_origin(*origin, pixel, pixel)
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    x, y = grid * (columns, rows)
    if crs != UTM:
        x, y = (np.reshape(one, columns.shape) for one in transform(crs, UTM, x.ravel(), y.ravel()))
    return write(path, field(x, y).round().clip(0, 255).astype(np.uint8), crs=crs, transform=grid, **options)


def apart(tmp_path, after, border=2):
    """Mean and largest difference of both dates where both have data, a border left out."""
    before = raster(tmp_path / "before.tif")
    with open_dates([before, after]) as aligned:
        (one, there), (other, also) = [date.read(aligned.overlap) for date in aligned.dates]
        valid = there & also
        valid[:border], valid[-border:], valid[:, :border], valid[:, -border:] = False, False, False, False
        difference = np.abs(one.astype(int) - other)[:, valid]
        return difference.mean(), difference.max(), valid.sum()


@pytest.mark.parametrize(
    ("crs", "origin", "pixel", "size"),
    [
        (UTM, (LEFT + 130, TOP - 70), 10, (96, 80)),  # another extent
        (UTM, (LEFT - 3.7, TOP + 6.1), 10, (100, 90)),  # shifted by parts of a pixel
        (UTM, (LEFT - 20, TOP + 20), 4, (260, 220)),  # finer
        (UTM, (LEFT - 50, TOP + 50), 20, (60, 50)),  # coarser
        ("EPSG:3857", None, 14, (110, 100)),
        ("EPSG:4326", None, 0.0001, (150, 110)),
        ("EPSG:32630", None, 10, (140, 130)),
    ],
)
def test_the_same_ground_on_another_grid_shows_no_change(tmp_path, crs, origin, pixel, size):
    if origin is None:
        xs, ys = transform(UTM, crs, [LEFT - 150, LEFT + 900], [TOP + 150, TOP + 150])
        origin = xs[0], max(ys)
    mean, largest, count = apart(tmp_path, raster(tmp_path / "after.tif", crs, origin, pixel, size))
    assert count > 2000
    assert mean < 0.6
    assert largest <= 4


def test_what_after_does_not_cover_is_no_data(tmp_path):
    """Outside of a warped raster GDAL would give valid zeros."""
    before = raster(tmp_path / "before.tif")
    after = raster(tmp_path / "after.tif", origin=(LEFT + 200, TOP - 100), size=(40, 40))
    with open_dates([before, after]) as aligned:
        assert aligned.overlap == Window(20, 10, 40, 40)
        assert aligned.dates[1].warped
        assert not aligned.dates[0].warped
        _, valid = aligned.dates[1].read(aligned.grid.window)
    expected = np.zeros((80, 96), bool)
    expected[10:50, 20:60] = True
    assert np.array_equal(valid, expected)


def test_where_one_band_has_data_there_is_some_unless_every_band_is_asked_for(tmp_path):
    values = np.full((3, 8, 8), 200, np.int16)
    values[0, :2] = values[:, 4] = -9999
    path = write(tmp_path / "a.tif", values, nodata=-9999)
    with open_dates([path]) as aligned:
        found = [aligned.dates[0].read(aligned.grid.window, None, every)[1] for every in (False, True)]
    assert [valid.all(1).tolist() for valid in found] == [
        [True] * 4 + [False] + [True] * 3, [False] * 2 + [True] * 2 + [False] + [True] * 3,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        *itertools.product(
            ("nodata", "mask", "alpha", "alpha and nodata"),
            ("uint8", "uint16", "int16", "int32", "float32", "float64"),
        ),
        *itertools.product(("nan",), ("float32", "float64")),
    ],
)
@pytest.mark.parametrize("moved", [0, 15])
def test_holes_stay_holes_whether_warped_or_not(tmp_path, kind, dtype, moved):
    """Of many types GDAL takes no alpha band for a mask, and of none where there is a nodata value."""
    before = raster(tmp_path / "before.tif")
    hole = np.zeros((80, 96), bool)
    hole[20:40, 30:60] = True
    if kind.startswith("alpha"):
        values = np.full((4, 80, 96), 200, dtype)
        values[3][hole] = 0
        values[3][~hole] = 255
        options = {"photometric": "RGB", "alpha": "YES"} | ({} if kind == "alpha" else {"nodata": 7})
    else:
        missing = np.nan if kind == "nan" else 0
        values = np.where(hole, missing, 200).astype(dtype)[None].repeat(3, 0)
        options = {"nodata": {"nodata": 0}, "mask": {"mask": ~hole}, "nan": {}}[kind]
    grid = from_origin(LEFT + moved, TOP - moved, PIXEL, PIXEL)
    after = write(tmp_path / "after.tif", values, transform=grid, **options)
    with open_dates([before, after]) as aligned:
        assert aligned.dates[1].warped == bool(moved)
        values, valid = aligned.dates[1].read(aligned.grid.window)
    assert not valid[23:39, 33:59].any()
    assert valid[5:18, 5:28].all()
    assert (values[:, valid] > 190).mean() > 0.97
    assert valid[0].any() != bool(moved)  # a pixel and a half: nothing shows the first row


def test_dates_that_do_not_fit_are_refused_with_what_to_do(tmp_path):
    before = raster(tmp_path / "before.tif")
    rotated = Affine.translation(LEFT, TOP) * Affine.rotation(20) * Affine.scale(10, -10)
    files = {
        "far.tif": (
            {"origin": (LEFT + 50_000, TOP)},
            r"far\.tif: does not overlap BEFORE \(.*before\.tif\): it covers \(550000, ",
        ),
        "nocrs.tif": ({"crs": None}, r"nocrs\.tif: has a grid and no CRS; say which, e\.g\. --crs EPSG:32631"),
    }
    for name, (options, reason) in files.items():
        crs = options.pop("crs", UTM)
        path = raster(tmp_path / name, **options) if crs else write(tmp_path / name, np.ones((3, 80, 96), "u1"), None)
        with pytest.raises(RasterError, match=reason), open_dates([before, path]):
            pass
    turned = write(tmp_path / "turned.tif", np.ones((3, 80, 96), np.uint8), transform=rotated)
    with pytest.raises(RasterError, match="its grid is rotated"), open_dates([turned, before]):
        pass
    south_up = raster(tmp_path / "up.tif", transform=Affine(10, 0, LEFT, 0, 10, TOP - 800))
    with pytest.raises(RasterError, match="south-up"), open_dates([south_up, before]):
        pass
    Image.fromarray(np.ones((80, 96, 3), np.uint8)).save(tmp_path / "plain.png")
    told = pytest.raises(RasterError, match=r"plain\.png: has no georeference; .* add --pixel")
    with told, open_dates([before, tmp_path / "plain.png"]):
        pass


@pytest.mark.parametrize("steps", ["0 0 0 0", "1e-320 0 0 -1e-320", "nan 0 0 -1", "10 10 10 10"])
def test_a_georeference_that_is_no_grid_is_told(tmp_path, steps):
    write(tmp_path / "before.tif", scene())
    Image.fromarray(scene().transpose(1, 2, 0)).save(tmp_path / "after.png")
    (tmp_path / "after.pgw").write_text("\n".join([*steps.split(), "500005", "4999995"]))
    files = [tmp_path / "before.tif", tmp_path / "after.png"]
    with pytest.raises(RasterError, match=r"after.png: its georeference is no grid"), open_dates(files, crs=UTM):
        pass
    with pytest.raises(RasterError, match=r"after.png: its georeference is no grid"), open_dates(files[::-1], crs=UTM):
        pass


def test_an_extent_across_the_180th_meridian_is_told(tmp_path):
    write(tmp_path / "before.tif", scene(), crs="EPSG:4326", transform=from_origin(179.9, 1, 0.002, 0.002))
    write(tmp_path / "after.tif", scene(), crs="EPSG:32660", transform=from_origin(829_000, 90_000, 200, 200))
    with (
        pytest.raises(RasterError, match=r"after.tif: .*180th meridian"),
        open_dates([tmp_path / "before.tif", tmp_path / "after.tif"]),
    ):
        pass


@pytest.mark.parametrize(
    ("crs", "before", "left"),
    [
        ("EPSG:32660", (829_000, 90_000, 200), 179.9),  # half of AFTER lies beyond
        ("EPSG:32602", (500_000, 4_000_000, 50), 189.0),  # all of it
        ("EPSG:32660", (500_000, 4_000_000, 50), -183.0),
    ],
)
def test_longitudes_beyond_180_degrees_that_a_warp_would_lose_are_told(tmp_path, crs, before, left):
    """They were places without data, without a word."""
    left_there, top, pixel = before
    first = write(tmp_path / "before.tif", scene(), crs=crs, transform=from_origin(left_there, top, pixel, pixel))
    north = 0.9 if top < 1e6 else 36.14
    other = write(tmp_path / "after.tif", scene(), crs="EPSG:4326", transform=from_origin(left, north, 0.002, 0.002))
    with pytest.raises(RasterError, match=r"after.tif: .* beyond 180 degrees over BEFORE"), open_dates([first, other]):
        pass
    # where BEFORE counts as AFTER does nothing is lost, nor where a pixel's half goes over the edge of the world
    there = from_origin(left + 0.0031, north, 0.002, 0.002)
    with open_dates([write(tmp_path / "b.tif", scene(), crs="EPSG:4326", transform=there), other]) as aligned:
        assert aligned.dates[1].read(Window(2, 2, 100, 100))[1].all()
    world = write(tmp_path / "w.tif", scene(width=361, height=180), "EPSG:4326", from_origin(-180.5, 90, 1, 1))
    with open_dates([first, world]) as aligned:
        assert aligned.dates[1].read(aligned.overlap)[1].all()


def test_control_points_do_not_matter_where_pixels_are_compared(tmp_path):
    path = write(tmp_path / "gcp.tif", scene(), crs=None, transform=rasterio.Affine.identity())
    with rasterio.open(path, "r+") as file:
        points = [(0, 0, 5.0, 50.0), (0, 128, 6.0, 50.0), (128, 0, 5.0, 49.0)]
        file.gcps = [rasterio.control.GroundControlPoint(*one) for one in points], rasterio.crs.CRS.from_epsg(4326)
    with open_dates([path, path], pixel=True) as aligned:
        assert aligned.grid.crs is None
    with pytest.raises(RasterError, match=r"gcp.tif: has ground control points"), open_dates([path, path]):
        pass


def test_a_rotated_after_is_warped(tmp_path):
    turned = Affine.translation(LEFT + 100, TOP + 200) * Affine.rotation(-10) * Affine.scale(10, -10)
    mean, largest, count = apart(tmp_path, raster(tmp_path / "after.tif", transform=turned, size=(150, 150)))
    assert (mean < 0.6, largest <= 4, count > 2000) == (True, True, True)


def test_pixel_takes_plain_pictures_of_equal_size(tmp_path):
    values = np.random.default_rng(0).integers(0, 255, (80, 96, 3), np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    Image.fromarray(values[::-1].copy()).save(tmp_path / "b.png")
    one, other = read_aligned_rgb([tmp_path / "a.png", tmp_path / "b.png"], pixel=True)
    assert np.array_equal(np.asarray(one)[::-1], np.asarray(other))
    Image.fromarray(values[1:]).save(tmp_path / "b.png")
    with pytest.raises(RasterError, match=r"a\.png is 96 x 80 pixels and .*b\.png 96 x 79; --pixel needs equal sizes"):
        read_aligned_rgb([tmp_path / "a.png", tmp_path / "b.png"], pixel=True)


@pytest.mark.parametrize(("east", "south"), [(0, 0), (3, -2), (0.4, 0.25), (-1.7, 2.6)])
def test_a_shift_is_found_to_a_tenth_of_a_pixel(tmp_path, east, south):
    """A surface of many waves, sampled at two places: the shift is known exactly."""
    rng = np.random.default_rng(1)
    waves = rng.normal(0, 0.5, (80, 2)), rng.uniform(0, 6.3, 80)

    def surface(dx, dy):
        y, x = np.mgrid[:300, :300]
        height = sum(np.sin(a * (x - dx) + b * (y - dy) + p) for (a, b), p in zip(*waves, strict=True))
        return (128 + 12 * height).clip(0, 255).round().astype(np.uint8)[None].repeat(3, 0)

    paths = [write(tmp_path / "a.tif", surface(0, 0)), write(tmp_path / "b.tif", surface(east, south))]
    with open_dates(paths) as aligned:
        found = estimate_shift(aligned, 1)
    assert found.east == pytest.approx(east, abs=0.1)
    assert found.south == pytest.approx(south, abs=0.1)
    assert found.spread < 0.2


def test_no_shift_is_claimed_between_unlike_dates(tmp_path):
    rng = np.random.default_rng(2)
    noise = [rng.integers(0, 255, (3, 300, 300), np.uint8) for _ in range(2)]
    with open_dates([write(tmp_path / f"{n}.tif", one) for n, one in enumerate(noise)]) as aligned:
        assert estimate_shift(aligned, 1) is None


@pytest.mark.parametrize(
    ("name", "tag", "label"),
    [
        ("S2A_MSIL2A_20190501T105031_T31UFT.tif", None, "2019-05-01"),
        ("town_2021-07-02.tif", "2022:01:01 10:00:00", "2021-07-02"),
        ("town.tif", "2022:01:31 10:00:00", "2022-01-31"),
        ("tile_20199901_12345678.tif", None, "tile_20199901_12345678"),
    ],
)
def test_dates_come_from_the_name_then_the_tag(tmp_path, name, tag, label):
    from unirs.geo import open_raster
    from unirs.geo.change_map import label_of

    path = raster(tmp_path / name)
    if tag:
        with rasterio.open(path, "r+") as file:
            file.update_tags(TIFFTAG_DATETIME=tag)
    with open_raster(path) as opened:
        assert label_of(opened) == label


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path):
    """Both dates were called x: a change from x to x."""
    from unirs.geo.change_map import look_at

    def labels(*names):
        paths = [tmp_path / name for name in names]
        for path in paths:
            path.parent.mkdir(exist_ok=True)
            raster(path)
        with open_dates(paths) as aligned:
            return look_at(aligned, paths, {}, 64).labels

    assert labels("A/x.tif", "B/x.tif") == ["A/x", "B/x"]
    assert labels("A/am_20190501.tif", "A/pm_20190501.tif") == ["am_20190501", "pm_20190501"]
    assert labels("A/x.tif", "A/y_20190501.tif") == ["x", "2019-05-01"]
