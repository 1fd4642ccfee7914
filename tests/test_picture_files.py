"""Pictures that commands are given: by GDAL or by Pillow, whichever shows them as they are meant."""

import numpy as np
import pytest

pytest.importorskip("rasterio", reason="rasterio is not installed: pip install 'unirs[geo]'")
import rasterio
from PIL import Image
from unirs.geo import open_raster
from unirs.processing import load_image

from tests.rasters import scene, write
from unirs import picture_files
from unirs.picture_files import load_dates, read_dates


def test_pictures_and_colour_tables_are_read_as_before(tmp_path):
    with rasterio.open(write(tmp_path / "palette.tif", scene(bands=1, high=1.9).astype(np.uint8)), "r+") as file:
        file.write_colormap(1, {0: (10, 20, 30), 1: (255, 0, 0)})
    palette = str(tmp_path / "palette.tif")
    assert load_dates([palette])[0].getextrema() == ((10, 255), (0, 20), (0, 30))
    assert [one.getextrema()[0] for one in load_dates([palette, palette])] == [(10, 255)] * 2
    rgb = write(tmp_path / "rgb.tif", scene())
    Image.fromarray(scene().transpose(1, 2, 0)).save(tmp_path / "rgb.png")
    for one in load_dates([str(tmp_path / "rgb.png"), str(rgb)]):
        assert np.array_equal(np.asarray(one), np.asarray(load_image(rgb)))


@pytest.mark.parametrize("kind", ["turned", "white is 0", "four bits"])
def test_what_tags_say_of_a_tiff_picture_is_heeded_beside_gdal(tmp_path, kind):
    """GDAL shows such a picture on its side, as its negative, or nearly black."""
    file, values = tmp_path / "a.tif", scene(bands=1, high=15, width=48, height=32)[0]
    if kind == "turned":
        Image.fromarray(values).save(file, tiffinfo={274: 6})
        expected = np.rot90(values, -1)
    else:
        options = {"nbits": 4} if kind == "four bits" else {"photometric": "MINISWHITE"}
        with rasterio.open(file, "w", "GTiff", 48, 32, 1, dtype="uint8", **options) as raster:
            raster.write(values[None])
        expected = values * 17 if kind == "four bits" else 255 - values
    (picture,), _ = read_dates([str(file)])
    assert np.array_equal(np.asarray(picture)[..., 0], expected)
    Image.fromarray(values).save(tmp_path / "b.tif")  # of the same place, without such tags
    beside, picture = read_dates([str(tmp_path / "b.tif"), str(file)])[0]
    assert np.array_equal(np.asarray(beside)[..., 0], values)
    assert np.array_equal(np.asarray(picture)[..., 0], expected)


def test_headers_are_opened_once_before_the_pictures_are_read(tmp_path, monkeypatch):
    opened = []

    def open_and_count(file, *more):
        opened.append(file)
        return open_raster(file, *more)

    monkeypatch.setattr("unirs.geo.open_raster", open_and_count)
    files = [str(write(tmp_path / name, scene())) for name in ("a.tif", "b.tif")]
    assert len(read_dates(files)[0]) == 2
    assert opened == files


def test_pillow_is_not_asked_about_a_cut_raster(tmp_path, monkeypatch):
    """Its TIFF reader would print a line of its own first, past Python."""
    data = write(tmp_path / "cut.tif", scene(width=512, height=512), compress="deflate", tiled=True).read_bytes()
    (tmp_path / "cut.tif").write_bytes(data[:4096])
    monkeypatch.setattr(picture_files, "load_image", lambda file: pytest.fail("Pillow was asked"))
    with pytest.raises(ValueError, match=r"cut\.tif: cannot be read at"):
        picture_files.load_dates([str(tmp_path / "cut.tif")])
