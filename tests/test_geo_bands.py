"""Which bands of a raster become red, green and blue."""

import numpy as np
import pytest

pytest.importorskip("rasterio", reason="rasterio is not installed: pip install 'unirs[geo]'")
from unirs.geo import RasterError, choose_bands, open_raster, read_rgb

from tests.rasters import scene, write


def array(picture):
    return np.asarray(picture).transpose(2, 0, 1)  # (3, H, W)


def bands_of(path, *asked):
    with open_raster(path) as raster:
        return choose_bands(raster, *asked)


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, (1,)), (3, (1, 2, 3)), (4, (3, 2, 1)), (8, (5, 3, 2)), (12, (4, 3, 2)), (13, (4, 3, 2))],
)
def test_default_bands_follow_the_number_of_bands(tmp_path, count, expected):
    path = write(tmp_path / "a.tif", scene(bands=count), photometric="MINISBLACK")
    assert bands_of(path).bands == expected


def test_colours_and_names_in_the_file_go_before_its_number_of_bands(tmp_path):
    names = ["B01", "B02", "B03", "B04", "B05", "B8A"]
    assert bands_of(write(tmp_path / "s2.tif", scene(bands=6), descriptions=names)).bands == (4, 3, 2)
    words = ["nir", "Red", "Green", "Blue", "swir"]
    assert bands_of(write(tmp_path / "words.tif", scene(bands=5), descriptions=words)).bands == (2, 3, 4)
    rgba = write(tmp_path / "rgba.tif", scene(bands=4), photometric="RGB", alpha="YES")
    assert bands_of(rgba).bands == (1, 2, 3)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["B1", "B2", "B3", "B4", "B5", "B7"], (3, 2, 1)),  # Landsat 4 to 7
        (["B1", "B2", "B3", "B4", "B5", "B6", "B7"], (4, 3, 2)),  # Landsat 8 and 9
        (["Band 1", "Band 2", "Band 3", "Band 4"], (3, 2, 1)),  # merely counted
        ([f"Band {number}" for number in range(1, 9)], (5, 3, 2)),  # WorldView
        ([f"B{number}" for number in range(1, 10)], (4, 3, 2)),  # Landsat 8 with its panchromatic band and cirrus
        (["Band 1: Blue", "Band 2: Green", "Band 3: Red", "Band 4: NIR"], (3, 2, 1)),
        (["B1 - Coastal Blue", "Blue", "Green", "Yellow", "Red", "Red Edge", "NIR 1", "near infra-red 2"], (5, 3, 2)),
        (["B2", "B3", "B4", "B8"], (3, 2, 1)),  # Sentinel-2 at 10 m
        (["red/green ratio", "B02", "B03", "B04"], (4, 3, 2)),
    ],
)
def test_names_say_which_bands_are_colours_and_mere_numbers_do_not(tmp_path, names, expected):
    values = scene(bands=len(names))
    path = write(tmp_path / "a.tif", values, photometric="MINISBLACK", descriptions=names)
    assert bands_of(path).bands == expected


def test_bands_are_asked_for_by_number_or_description(tmp_path):
    path = write(tmp_path / "a.tif", scene(bands=5), descriptions=["B02", "B03", "B04", "B08 - NIR", "B11"])
    assert bands_of(path, "4,3,2").bands == (4, 3, 2)
    assert bands_of(path, "b8,B4, b03").bands == (4, 3, 2)
    assert bands_of(path, "B11").kind == "single band"
    values = scene(bands=5)
    assert np.array_equal(array(read_rgb(path, bands="B08,B04,B03")), values[[3, 2, 1]])
    for wrong, reason in (("7", "no band 7; it has 5"), ("B12", r"no band 'B12' \(B02, B03"), ("1,2,3,4", "names 4")):
        with pytest.raises(RasterError, match=reason):
            bands_of(path, wrong)


@pytest.mark.parametrize("bands", ["4,3,2", [4, 3, 2], ("B08", "3", 2)])
def test_bands_may_be_a_list(tmp_path, bands):
    path = write(tmp_path / "a.tif", scene(bands=4), descriptions=["B02", "B03", "B04", "B08"])
    assert np.array_equal(array(read_rgb(path, bands=bands)), scene(bands=4)[[3, 2, 1]])


def test_two_bands_are_sar_where_names_or_the_user_say_so(tmp_path):
    """Near infrared and red were taken for backscatter."""
    optical = write(tmp_path / "a.tif", scene(bands=4), descriptions=["B02", "B03", "B04", "B08"])
    with pytest.raises(RasterError, match=r"a\.tif: bands 4 and 3 are two, and not named VV, VH, HH or HV"):
        bands_of(optical, "4,3")
    assert bands_of(optical, "4,3", True).kind == "SAR"
    named = write(tmp_path / "b.tif", scene(bands=3), descriptions=["VV", "VH", "angle"])
    assert bands_of(named, "1,2").kind == "SAR"
    assert bands_of(write(tmp_path / "c.tif", scene(bands=2))).kind == "SAR"
    with pytest.raises(RasterError, match="bands 1 and 2 are two"):
        bands_of(write(tmp_path / "d.tif", scene(bands=2), descriptions=["red", "nir"]))


def test_an_unusual_number_of_bands_without_names_is_asked_about(tmp_path):
    with pytest.raises(RasterError, match="9 bands without names; say which are red, green, blue: --bands"):
        bands_of(write(tmp_path / "a.tif", scene(bands=9), photometric="MINISBLACK"))


@pytest.mark.parametrize(
    ("names", "asked", "sar"), [(("VV", "VH", "ratio"), "VV,VH,ratio", False), (("", "", ""), "1,2,3", True)]
)
def test_sar_in_three_bands_is_outside_of_the_training_too(tmp_path, names, asked, sar):
    values = np.full((3, 8, 8), 0.1, np.float32)
    with open_raster(write(tmp_path / "sar.tif", values, descriptions=names)) as raster:
        found = choose_bands(raster, asked, sar)
    assert (found.kind, found.bands, found.in_domain) == ("SAR", (1, 2, 3), False)
    assert found.channels(values) == pytest.approx(np.full((3, 8, 8), -10.0))
