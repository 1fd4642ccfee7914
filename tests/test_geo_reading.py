"""Rasters of all kinds become RGB, by GDAL's in-process drivers alone."""

import http.server
import os
import re
import threading

import numpy as np
import pytest

pytest.importorskip("rasterio", reason="rasterio is not installed: pip install 'unirs[geo]'")
import rasterio
from PIL import Image
from rasterio.transform import from_origin
from unirs.geo import RasterError, choose_bands, open_raster, read_aligned_rgb, read_rgb
from unirs.geo import raster_files as limits

from tests.conftest import DATA
from tests.rasters import LEFT, PIXEL, TOP, UTM, scene, write


def bands_of(path, *asked):
    with open_raster(path) as raster:
        return choose_bands(raster, *asked)


def array(picture):
    return np.asarray(picture).transpose(2, 0, 1)  # (3, H, W)


def test_bytes_stay_as_they_are(tmp_path):
    values = scene()
    assert np.array_equal(array(read_rgb(write(tmp_path / "a.tif", values))), values)


@pytest.mark.parametrize("moved", [0, 3])
@pytest.mark.parametrize(
    "options", [{"photometric": "MINISWHITE"}, {"nbits": 4}, {"photometric": "MINISWHITE", "nbits": 4}]
)
def test_white_may_be_0_and_bytes_may_have_fewer_bits(tmp_path, options, moved):
    """GDAL hands such values out as they are stored: as a negative, or nearly black."""
    values = scene(bands=1, high=15 if "nbits" in options else 255)
    meant = values * 17 if "nbits" in options else values
    meant = 255 - meant if "photometric" in options else meant
    there = from_origin(LEFT + moved * PIXEL, TOP, PIXEL, PIXEL)
    files = [
        write(tmp_path / "usual.tif", meant),
        write(tmp_path / "stored.tif", values, transform=there, **options),
    ]
    usual, stored = (array(one) for one in read_aligned_rgb(files))
    assert np.array_equal(usual, np.broadcast_to(meant[..., moved:], usual.shape))
    assert np.array_equal(stored, np.broadcast_to(meant[..., : 128 - moved], usual.shape))


def test_16_bits_whose_white_is_0_are_shown_as_they_are_meant(tmp_path):
    values = scene(bands=1, dtype=np.uint16, high=3000)
    negative = write(tmp_path / "a.tif", values, photometric="MINISWHITE")
    usual = write(tmp_path / "b.tif", 65535 - values)
    assert np.array_equal(*(array(one) for one in read_aligned_rgb([negative, usual])))
    few = [
        write(tmp_path / "c.tif", values, photometric="MINISWHITE", nbits=12),
        write(tmp_path / "d.tif", 4095 - values, nbits=12),
    ]
    assert np.array_equal(*(array(one) for one in read_aligned_rgb(few)))


def test_the_least_of_signed_values_is_the_brightest_where_white_is_0(tmp_path):
    values = np.linspace(-128, 127, 128 * 128).round().astype(np.int8).reshape(1, 128, 128)
    shown = array(read_rgb(write(tmp_path / "a.tif", values, photometric="MINISWHITE")))
    assert shown[0, 0, 0] == 255
    assert shown[0, -1, -1] == 0


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32", "float64"])
def test_other_values_are_stretched_between_their_percentiles(tmp_path, dtype):
    values = scene(dtype=np.float64, high=3000).astype(dtype)
    found = array(read_rgb(write(tmp_path / "a.tif", values))).astype(int)
    low, high = np.percentile(values, (2, 98), axis=(1, 2))
    expected = (values - low[:, None, None]) / (high - low)[:, None, None] * 255
    assert np.abs(found - expected.clip(0, 255)).max() <= 0.51


def test_one_stretch_for_both_dates_keeps_a_real_change_of_brightness(tmp_path):
    before = scene(dtype=np.uint16, high=3000)
    paths = [write(tmp_path / "a.tif", before), write(tmp_path / "b.tif", before // 2)]
    joint = [array(one).mean() for one in read_aligned_rgb(paths)]
    alone = [array(one).mean() for one in read_aligned_rgb(paths, stretch="each")]
    assert joint[1] < 0.6 * joint[0]
    assert abs(alone[1] - alone[0]) < 2


def test_dates_of_different_types_are_not_stretched_together(tmp_path):
    paths = [write(tmp_path / "a.tif", scene()), write(tmp_path / "b.tif", scene(dtype=np.uint16, high=3000))]
    with pytest.raises(RasterError, match=r"uint8 and .*b\.tif uint16 .*--stretch each"):
        read_aligned_rgb(paths)
    assert len(read_aligned_rgb(paths, stretch="each")) == 2
    with pytest.raises(RasterError, match=r"a\.tif holds uint8 and .*b\.tif uint16"):
        read_aligned_rgb([paths[0], *paths])


def test_nodata_alpha_mask_and_nan_are_grey_and_left_out_of_the_stretch(tmp_path):
    values = scene(dtype=np.uint16, high=1000) + 1
    hole = np.zeros((128, 128), bool)
    hole[20:60, 30:90] = True
    whole = array(read_rgb(write(tmp_path / "whole.tif", values)))
    filled = np.where(hole, np.uint16(65535), values)
    floats = np.where(hole, np.nan, values.astype(np.float32))
    alpha = np.concatenate([filled, np.where(hole, 0, 65535)[None]]).astype(np.uint16)
    files = [
        write(tmp_path / "nodata.tif", filled, nodata=65535),
        write(tmp_path / "mask.tif", filled, mask=~hole),
        write(tmp_path / "nan.tif", floats),
        write(tmp_path / "alpha.tif", alpha, photometric="RGB", alpha="YES"),
    ]
    for file in files:
        found = array(read_rgb(file))
        assert (found[:, hole] == 127).all(), file
        assert np.abs(found[:, ~hole].astype(int) - whole[:, ~hole]).mean() < 3, file


def test_a_pixel_that_is_nodata_in_one_band_only_is_valid(tmp_path):
    values = scene()
    values[0, :10] = 255
    values[:, 100:] = 255
    found = array(read_rgb(write(tmp_path / "a.tif", values, nodata=255)))
    assert np.array_equal(found[:, :10], values[:, :10])
    assert (found[:, 100:] == 127).all()


def test_what_one_band_lacks_does_not_enter_the_stretch(tmp_path):
    """A tenth of -9999 had made the rest of that band white."""
    values = scene(dtype=np.int16, high=3000)
    whole = array(read_rgb(write(tmp_path / "whole.tif", values))).astype(int)
    holed = values.copy()
    holed[0, :40, :40] = -9999
    found = array(read_rgb(write(tmp_path / "a.tif", holed, nodata=-9999))).astype(int)
    assert np.abs(found[:, 40:, 40:] - whole[:, 40:, 40:]).mean() < 3
    wide = np.tile(values, (1, 24, 24))  # read by windows, some of which lie where one band has nothing
    wide[0, :600] = -9999
    (seen,) = [array(one) for one in read_aligned_rgb([write(tmp_path / "wide.tif", wide, nodata=-9999)], pixel=True)]
    assert seen[0, seen.shape[1] // 2 :].std() > 0.8 * whole[0].std()
    apart = values.copy()  # nowhere do all bands have data
    apart[0, :64], apart[1, 64:] = -9999, -9999
    assert array(read_rgb(write(tmp_path / "b.tif", apart, nodata=-9999))).std() > 20


def test_a_stretch_from_no_data_at_all_is_told(tmp_path):
    values = np.zeros((3, 40, 40), np.uint16)
    path = write(tmp_path / "empty.tif", values, nodata=0)
    with pytest.raises(RasterError, match=r"empty.tif: have no data at any of the places"):
        read_rgb(path)


def test_sar_becomes_decibels_and_their_difference(tmp_path):
    power = 10 ** (scene(bands=2, dtype=np.float32, high=20) / 10 - 2)  # -20 to 0 dB
    path = write(tmp_path / "s1.tif", power[::-1], descriptions=["VH", "VV"])
    composition = bands_of(path)
    assert (composition.kind, composition.bands, composition.in_domain) == ("SAR", (2, 1), False)
    decibels = 10 * np.log10(power)
    expected = np.stack([decibels[0], decibels[1], decibels[0] - decibels[1]])
    low, high = np.percentile(expected, (2, 98), axis=(1, 2))
    expected = ((expected - low[:, None, None]) / (high - low)[:, None, None] * 255).clip(0, 255)
    assert np.abs(array(read_rgb(path)) - expected).max() <= 0.6
    already = write(tmp_path / "db.tif", decibels, descriptions=["VV", "VH"])
    assert np.abs(array(read_rgb(already)).astype(int) - array(read_rgb(path))).max() <= 1
    # decibels around 0 are decibels, on whichever side of it the middle of a date lies
    around = [write(tmp_path / f"{by}.tif", decibels + by, descriptions=["VV", "VH"]) for by in (9.7, 10.3)]
    one, other = (array(picture).astype(int) for picture in read_aligned_rgb(around))
    assert np.abs(one - other)[:2].mean() < 15
    # one date in decibels and one in power are alike, in either order
    for files in ([already, path], [path, already]):
        one, other = (array(picture).astype(int) for picture in read_aligned_rgb(files))
        assert np.abs(one - other).max() <= 1


def test_a_single_band_is_grey_and_outside_of_the_training(tmp_path):
    path = write(tmp_path / "thermal.tif", scene(bands=1, dtype=np.uint16, high=900), descriptions=["thermal"])
    assert not bands_of(path).in_domain
    red, green, blue = array(read_rgb(path))
    assert np.array_equal(red, green)
    assert np.array_equal(red, blue)


def test_jpeg2000_png_and_jpeg_are_read(tmp_path):
    values = scene()
    with rasterio.open(
        tmp_path / "a.jp2", "w", "JP2OpenJPEG", 128, 128, 3, UTM, dtype="uint8", QUALITY=100, REVERSIBLE="YES"
    ) as file:
        file.write(values)
    Image.fromarray(values.transpose(1, 2, 0)).save(tmp_path / "a.png")
    Image.fromarray(values.transpose(1, 2, 0)).save(tmp_path / "a.jpg", quality=95)
    for name, tolerance in (("a.jp2", 0), ("a.png", 0), ("a.jpg", 12)):
        assert np.abs(array(read_rgb(tmp_path / name)).astype(int) - values).mean() <= tolerance


def test_a_world_file_and_the_crs_beside_it_georeference_a_png(tmp_path):
    Image.fromarray(scene().transpose(1, 2, 0)).save(tmp_path / "a.png")
    (tmp_path / "a.pgw").write_text("10\n0\n0\n-10\n500005\n4999995\n")  # centre of the first pixel
    with open_raster(tmp_path / "a.png") as raster:
        assert tuple(raster.transform)[:6] == (10, 0, 500_000, 0, -10, 5_000_000)
        assert raster.crs is None
    with open_raster(tmp_path / "a.png", crs=UTM) as raster:
        assert raster.crs.to_epsg() == 32631
    (tmp_path / "a.prj").write_text(rasterio.crs.CRS.from_epsg(28992).to_wkt("WKT1_ESRI"))
    with open_raster(tmp_path / "a.png") as raster:
        assert raster.crs.to_epsg() == 28992


def test_world_files_of_windows_programs_are_found(tmp_path):
    Image.fromarray(scene().transpose(1, 2, 0)).save(tmp_path / "A.PNG")
    (tmp_path / "A.PGW").write_text("10\n0\n0\n-10\n500005\n4999995\n")
    (tmp_path / "A.PRJ").write_text(rasterio.crs.CRS.from_epsg(32631).to_wkt("WKT1_ESRI"))
    with open_raster(tmp_path / "A.PNG") as raster:
        assert tuple(raster.transform)[:6] == (10, 0, 500_000, 0, -10, 5_000_000)
        assert raster.crs.to_epsg() == 32631


def test_large_rasters_are_read_small(tmp_path):
    picture = read_rgb(write(tmp_path / "a.tif", scene(width=600, height=300)), max_size=100)
    assert picture.size == (100, 50)


# -- hostile files ---------------------------------------------------------------------------------------------------
def test_only_four_kinds_of_file_are_opened(tmp_path):
    write(tmp_path / "good.tif", scene())
    (tmp_path / "a.vrt").write_text(
        '<VRTDataset rasterXSize="9" rasterYSize="9"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f"<SourceFilename>{tmp_path / 'good.tif'}</SourceFilename><SourceBand>1</SourceBand></SimpleSource>"
        "</VRTRasterBand></VRTDataset>"
    )
    (tmp_path / "a.tif").write_bytes((tmp_path / "a.vrt").read_bytes())
    for name in ("a.vrt", "a.tif"):
        with pytest.raises(RasterError, match=rf"{name}: is no GeoTIFF, JPEG 2000, PNG or JPEG"):
            read_rgb(tmp_path / name)


@pytest.mark.parametrize(
    "name", ["/vsicurl/http://127.0.0.1:9/a.tif", "http://127.0.0.1:9/a.tif", "/vsizip/a.zip/a.tif"]
)
def test_neither_the_network_nor_gdals_virtual_files_are_asked(name):
    with pytest.raises(RasterError, match=r"no such file|never opens the network"):
        read_rgb(name)


def test_files_beside_a_raster_are_never_opened(tmp_path):
    """GDAL opens `a.tif.ovr` by any driver; a VRT there would fetch from the network."""
    asked = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET  # noqa: N815

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"/vsicurl/http://127.0.0.1:{server.server_port}/x.tif"
        path = write(tmp_path / "a.tif", scene(width=3000, height=100))
        bait = (
            '<VRTDataset rasterXSize="1500" rasterYSize="50"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
            f"<SourceFilename>{address}</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
            "</VRTDataset>"
        )
        (tmp_path / "a.tif.ovr").write_text(bait)
        (tmp_path / "a.tif.msk").write_text(bait)
        (tmp_path / "a.tif.aux.xml").write_text(
            f'<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">{address}</MDI></Metadata>'
            "</PAMDataset>"
        )
        assert read_rgb(path, max_size=200).size == (200, 7)
        with rasterio.open(write(tmp_path / "b.tif", scene()), "r+") as file:
            file.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=address)
        with pytest.raises(RasterError, match=r"b\.tif: points to another file for its overviews"):
            read_rgb(tmp_path / "b.tif")
        server.shutdown()
    assert asked == []


def test_huge_rasters_are_refused_from_their_header(tmp_path, monkeypatch):
    bomb = tmp_path / "bomb.tif"
    profile = {"driver": "GTiff", "width": 100_000, "height": 100_000, "count": 1, "dtype": "uint8", "crs": UTM}
    with rasterio.open(bomb, "w", tiled=True, SPARSE_OK=True, transform=rasterio.Affine(1, 0, 0, 0, -1, 0), **profile):
        pass
    with pytest.raises(RasterError, match=r"bomb\.tif: \d+ bytes claim to hold 10000000000 bytes"):
        read_rgb(bomb)
    path = write(tmp_path / "a.tif", scene())
    monkeypatch.setattr(limits, "MAX_BLOCK_BYTES", 1000)
    with pytest.raises(RasterError, match=r"blocks of 128 x \d+ pixels.*TILED=YES"):
        read_rgb(path)
    monkeypatch.setattr(limits, "MAX_PIXELS", 1000)
    with pytest.raises(RasterError, match=r"128 x 128 x 3 bands is above the limit"):
        read_rgb(path)


def test_cut_and_odd_files_are_told_in_one_line(tmp_path):
    whole = write(tmp_path / "a.tif", scene(width=512, height=512), compress="deflate").read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "head.tif").write_bytes(whole[:6])
    write(tmp_path / "complex.tif", scene(dtype=np.complex64))
    with rasterio.open(write(tmp_path / "palette.tif", scene(bands=1)), "r+") as file:
        file.write_colormap(1, {0: (0, 0, 0), 1: (255, 0, 0)})
    for name, reason in (
        ("cut.tif", "cannot|none of its"),
        ("head.tif", "GTiff cannot open it"),
        ("complex.tif", "holds complex64 values"),
        ("palette.tif", "-expand rgb"),
        ("absent.tif", "no such file"),
    ):
        with pytest.raises(RasterError, match=reason) as caught:
            read_rgb(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_names_that_are_no_utf8_are_told(tmp_path):
    """GDAL takes no others."""
    write(tmp_path / "a.tif", scene()).rename(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9.tif"))
    with pytest.raises(RasterError, match=r"\?\.tif: its name or a folder's is no UTF-8, .*rename it"):
        read_rgb(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9.tif"))
    with (
        pytest.raises(RasterError, match=r"--crs \?: is no CRS"),
        open_raster(write(tmp_path / "b.tif", scene()), "\udcff"),
    ):
        pass


def test_of_two_dates_the_broken_one_is_named(tmp_path):
    values = scene(width=512, height=512)
    whole = write(tmp_path / "whole.tif", values)
    data = write(tmp_path / "cut.tif", values, compress="deflate", tiled=True).read_bytes()
    (tmp_path / "cut.tif").write_bytes(data[:4096])
    with pytest.raises(RasterError) as caught:
        read_aligned_rgb([whole, tmp_path / "cut.tif"])
    assert re.search(r"cut\.tif: cannot .*; copy ", str(caught.value))
    assert "whole.tif" not in str(caught.value)


@pytest.mark.data
def test_every_real_raster_is_read():
    files = [*DATA.glob("geotiff/*.tif"), *DATA.glob("rsvqa_?r/*.tif")]
    assert len(files) == 95
    for file in files:
        picture = read_rgb(file, max_size=512)
        assert np.asarray(picture).std() > 3, file
