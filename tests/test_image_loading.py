"""The door for pictures: what `test_loading.py` leaves out (parity values, number ranges, sizes, hostile files)."""

import base64
import io
import json
import logging
import os
import pathlib
import struct
import threading
import warnings
import zlib

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image, ImageFile
from rasterio.transform import from_origin
from unirs.processing.image_loading_unirs import VisualInputError, load_image

SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} (real inputs) is absent")


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image: Image.Image, file_format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def refusal(source, **options) -> str:
    with pytest.raises(VisualInputError) as caught:
        load_image(source, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


@needs_shared
def test_oracle_pictures_convert_to_the_recorded_values():
    folder = SHARED / "reference" / "preprocess"
    for name, record in json.loads((folder / "preprocess_meta.json").read_text())["files"].items():
        found = np.asarray(load_image(folder / name))
        expected = record["rgb_after_convert"]
        assert found.shape == (*record["size_wh"][::-1], 3)
        assert (found.min(), found.max(), round(float(found.mean()), 4)) == tuple(expected.values()), name


@needs_shared
def test_8_bit_geotiffs_equal_pillow_and_16_bit_ones_say_how_to_convert():
    told = []
    for path in sorted((SHARED / "data" / "geotiff").glob("*.tif")):
        try:
            found = load_image(path)
        except VisualInputError as error:
            told.append(path.name)
            assert "gdal_translate -ot Byte" in str(error)  # noqa: PT017
            continue
        with Image.open(path) as opened:
            assert np.array_equal(np.asarray(found), np.asarray(opened.convert("RGB"))), path.name
    assert told == ["riotiler_rgb.tif", "riotiler_scene_band1.tif", "torchsat_tiff_3channel_uint16.tif"]


# -- number ranges ---------------------------------------------------------------------------------------------------
def test_16_bit_gray_is_clipped_with_a_warning(caplog):
    values = np.array([[0, 100, 255], [256, 4000, 65535]], np.uint16)
    expected = np.repeat(np.minimum(values, 255).astype(np.uint8)[..., None], 3, axis=2)
    for file_format in ("PNG", "TIFF"):
        assert np.array_equal(np.asarray(load_image(encoded(Image.fromarray(values), file_format))), expected)
    assert np.array_equal(np.asarray(load_image(values)), expected)
    assert [r.levelname for r in caplog.records if "clipped to 255" in r.message] == ["WARNING"] * 3


def test_16_bit_values_that_clip_to_a_white_sheet_are_refused():
    assert "stretch it" in refusal(np.full((4, 5), 3000, np.uint16))
    assert "-b 2" not in refusal(np.full((4, 5), 3000, np.uint16))  # there is one band
    assert "-b 1 -b 2 -b 3" in refusal(np.full((6, 5, 3), 3000, np.uint16))
    assert "stretch it" in refusal(np.array([[[0, 10, 300]]], np.uint16))
    scene = np.full((20, 20), 3000, np.uint16)
    scene[:, :5] = 0  # a border without data says nothing about the range
    assert "stretch it" in refusal(scene)


def png_of_16_bits(values):
    """Of `(H, W, bands)`; Pillow writes none in colour."""
    height, width, bands = values.shape
    kind = {2: 4, 3: 2, 4: 6}[bands]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


@pytest.mark.parametrize("bands", [2, 3, 4])
def test_png_of_16_bits_in_colour_is_refused_as_tiff_is(bands):
    """Pillow keeps the high byte of each value: nearly black, without a word."""
    values = np.random.default_rng(0).integers(300, 3000, (8, 9, bands))
    assert "has bands of 16 bits; stretch it to 8-bit RGB" in refusal(png_of_16_bits(values))


def test_ppm_of_more_than_8_bits_is_refused():
    values = np.random.default_rng(0).integers(300, 3000, (8, 9, 3)).astype(">u2").tobytes()
    for most, bits in ((65535, 16), (4095, 12)):
        assert f"has bands of {bits} bits" in refusal(b"P6 9 8 %d\n" % most + values)
    assert load_image(b"P6 9 8 255\n" + values[: 9 * 8 * 3]).size == (9, 8)
    assert load_image(b"P6 9 8 100\n" + bytes(range(100)) * 2 + bytes(16)).size == (9, 8)


def test_jpeg_2000_of_16_bits_in_colour_is_refused_and_of_8_is_read(tmp_path):
    options = {"driver": "JP2OpenJPEG", "width": 64, "height": 64, "count": 3, "dtype": "uint16", "REVERSIBLE": "YES"}
    with rasterio.open(tmp_path / "16.jp2", "w", **options) as file:
        file.write(np.random.default_rng(0).integers(0, 3000, (3, 64, 64)).astype("uint16"))
    assert "has bands of 16 bits" in refusal(tmp_path / "16.jp2")
    codestream = (tmp_path / "16.jp2").read_bytes()
    assert "has bands of 16 bits" in refusal(codestream[codestream.index(b"\xff\x4f\xff\x51") :])
    picture = Image.fromarray(noise(20, 30))
    boxed = encoded(picture, "JPEG2000")
    place = boxed.index(b"jp2h") - 4
    for length in (446, 2**17):  # what may lie before the header pushes it away
        free = struct.pack(">I4s", length, b"free") + bytes(length - 8)
        assert load_image(boxed[:place] + free + boxed[place:]).size == (30, 20)
    cut = b"\xff\x4f\xff\x51" + struct.pack(">HHIIIIIIIIH", 38, 0, 8, 8, 0, 0, 8, 8, 0, 0, 3)
    assert "JPEG2000" in refusal(cut) or "damaged" in refusal(cut)
    assert np.array_equal(np.asarray(load_image(encoded(picture, "JPEG2000"))), noise(20, 30))
    assert np.array_equal(np.asarray(load_image(encoded(picture, "JPEG2000", no_jp2=True))), noise(20, 30))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_floats_in_0_to_1_come_back_to_the_same_bytes(dtype):
    pixels = noise(6, 9)
    if dtype is torch.bfloat16:
        pixels = pixels // 128 * 255  # 8 bits of mantissa keep only the ends
    tensor = torch.from_numpy(pixels).to(torch.float64).div(255).to(dtype).permute(2, 0, 1)
    assert np.array_equal(np.asarray(load_image(tensor)), pixels)


def test_floats_above_1_are_0_to_255_and_bools_are_black_and_white():
    pixels = noise(6, 9)
    assert np.array_equal(np.asarray(load_image(pixels.astype(np.float32))), pixels)
    assert np.array_equal(np.asarray(load_image(pixels.astype(np.int64))), pixels)
    assert np.array_equal(np.asarray(load_image((pixels // 2).astype(np.int8))), pixels // 2)
    mask = pixels[..., 0] > 99
    assert np.array_equal(np.asarray(load_image(mask))[..., 1], np.where(mask, 255, 0))


def test_float_tiff_follows_the_rule_of_float_arrays():
    image = Image.fromarray(np.array([[0.0, 0.2, 1.0]], np.float32))
    assert np.asarray(load_image(encoded(image, "TIFF")))[0, :, 0].tolist() == [0, 51, 255]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((6, 5, 3), -1, np.int16), "below 0"),
        (np.full((6, 5, 3), np.nan, np.float32), "NaN"),
        (np.full((6, 5, 3), np.inf), "NaN or infinite"),
        (np.full((6, 5, 3), 1.4), "neither 0..1 nor 0..255"),
        (np.full((6, 5, 3), 300.0), "stretch it"),
        (np.full((6, 5, 3), 1j), "complex128"),
        (np.full((6, 5, 3), None), "object"),
        (np.zeros((3, 5, 3), np.uint8), "channels first or last"),
        (np.zeros((6, 5, 8), np.uint8), "pass 3 bands"),
        (np.zeros((2, 4, 5, 3), np.uint8), "not one picture"),
        (torch.zeros(3, 4, 5, device="meta"), "no plain dense tensor"),
        (torch.zeros(4, 5).to_sparse(), "no plain dense tensor"),
    ],
)
def test_arrays_that_are_no_picture_are_told(array, message):
    assert message in refusal(array)


def test_one_pixel_and_one_row_are_pictures():
    assert load_image(np.array([[[1, 2, 3]]], np.uint8)).getpixel((0, 0)) == (1, 2, 3)
    strip = noise(1, 100_000)
    assert np.array_equal(np.asarray(load_image(encoded(Image.fromarray(strip), "PNG"))), strip)


def test_result_is_a_copy_of_the_callers_picture():
    mine = Image.fromarray(noise(4, 5))
    load_image(mine).putpixel((0, 0), (0, 0, 0))
    assert np.array_equal(np.asarray(mine), noise(4, 5))


# -- origins ---------------------------------------------------------------------------------------------------------
def test_every_way_to_name_a_file_gives_the_same_picture(tmp_path):
    path = tmp_path / "a b%41#?.png"
    data = encoded(Image.fromarray(noise(4, 5)), "PNG")
    path.write_bytes(data)
    uri = "data:image/png;base64," + base64.b64encode(data).decode()
    for source in (path, str(path), path.as_uri(), uri, data, bytearray(data), memoryview(data)):
        assert np.array_equal(np.asarray(load_image(source)), noise(4, 5))


def test_what_cannot_be_opened_is_told_by_name(tmp_path):
    (tmp_path / "empty.png").touch()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "text.png").write_text("version https://git-lfs.github.com/spec/v1")
    expected = {"gone.png": "no such file", "empty.png": "is empty", "pipe.png": "is not a regular file"}
    expected |= {"text.png": "is none of PNG"}
    for name, message in expected.items():
        assert f"{name}: {message}" in refusal(tmp_path / name)
    assert "is a directory" in refusal(tmp_path)
    assert "cannot be opened" in refusal("a\0b.png")
    assert "cannot be opened" in refusal("x" * 5000)
    assert "is a URL" in refusal("S3://bucket/key.png")
    assert "another machine" in refusal("file://server/share/a.png")
    assert "not a regular file" in refusal("/dev/zero")
    assert "cannot read a list" in refusal([1, 2])


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads every file")
def test_file_without_permission_is_told(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "a.png").chmod(0)
    assert "no permission" in refusal(tmp_path / "a.png")


def test_control_characters_of_a_hostile_name_stay_out_of_the_message():
    message = refusal("evil\x1b[31m\nname.png")
    assert "\x1b" not in message


# -- sizes -----------------------------------------------------------------------------------------------------------
def test_jpeg_above_the_limit_is_read_at_reduced_scale():
    smooth = np.linspace(0, 255, 200 * 320).reshape(200, 320).astype(np.uint8)
    data = encoded(Image.fromarray(smooth), "JPEG", quality=95)
    found = load_image(data, max_pixels=200 * 320 // 4)
    assert found.size == (160, 100)
    expected = smooth.reshape(100, 2, 160, 2).mean((1, 3))
    assert np.abs(np.asarray(found)[..., 0] - expected).max() < 4
    assert load_image(data, max_pixels=1000).size == (40, 25)
    assert "more than 999 pixels" in refusal(data, max_pixels=999)


def test_progressive_jpeg_above_the_limit_is_refused():
    """libjpeg holds all coefficients of a progressive picture at full size: reduced scale saves no memory."""
    data = encoded(Image.fromarray(noise(64, 64)), "JPEG", progressive=True)
    assert load_image(data).size == (64, 64)
    assert "64 x 64 is more than 4000 pixels" in refusal(data, max_pixels=4000)


def test_limit_holds_for_every_origin_before_pixels_are_decoded():
    cut_after_header = encoded(Image.fromarray(noise(50, 50)), "PNG")[:60]
    for source in (cut_after_header, Image.new("L", (50, 50)), np.zeros((50, 50))):
        assert "50 x 50 is more than 2499 pixels" in refusal(source, max_pixels=2499)


def test_limit_of_pillow_itself_does_not_apply(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_image(encoded(Image.fromarray(noise(50, 50)), "PNG")).size == (50, 50)


@pytest.mark.parametrize("bands", [3, 5, 9])
def test_bands_that_lie_one_behind_the_other_are_not_shown_as_the_first_in_grey(tmp_path, bands):
    """Pillow opens such a file as one of the mode L."""
    file = tmp_path / "bands.tif"
    options = {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate", "photometric": "minisblack"}
    with rasterio.open(
        file,
        "w",
        "GTiff",
        32,
        32,
        bands,
        transform=from_origin(0, 0, 1, 1),
        dtype="uint8",
        interleave="band",
        **options,
    ) as raster:
        raster.write(np.arange(bands * 1024, dtype=np.uint8).reshape(bands, 32, 32))
    with Image.open(file) as opened:
        assert opened.mode == "L"
    with pytest.raises(VisualInputError, match=f"bands.tif: has {bands} bands; choose three"):
        load_image(file)


def test_tiff_with_giant_tiles_is_refused():
    entries = [(256, 4, 16), (257, 4, 16), (258, 3, 8), (259, 3, 8), (262, 3, 1), (277, 3, 1), (322, 4, 1 << 20)]
    entries += [(323, 4, 1 << 20), (324, 4, 8), (325, 4, 8)]
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    data = b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4)
    assert "TIFF tiles of 1048576 x 1048576" in refusal(data)


# -- damage ----------------------------------------------------------------------------------------------------------
def test_cut_file_is_an_error_even_where_the_process_asks_pillow_to_fill_grey(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for file_format in ("PNG", "JPEG", "TIFF", "WEBP", "BMP"):
        data = encoded(Image.fromarray(noise(64, 64)), file_format)
        refusal(data[: len(data) * 2 // 3])
        assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_damaged_exif_leaves_the_picture_unturned():
    pixels = noise(4, 5)
    data = encoded(Image.fromarray(pixels), "PNG", exif=b"Exif\0\0not an exif block at all")
    assert np.array_equal(np.asarray(load_image(data)), pixels)


def test_pillow_warnings_are_not_spilled_and_filters_come_back():
    palette = Image.fromarray(noise(8, 8)).quantize(16)
    palette.info["transparency"] = bytes(range(16))  # Pillow warns when it converts this
    before = list(warnings.filters)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_image(palette)
        load_image(encoded(palette, "PNG"))
    assert [str(w.message) for w in caught] == []
    assert list(warnings.filters) == before


def test_threads_share_the_switches_of_pillow(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = encoded(Image.fromarray(noise(200, 200)), "PNG")
    accepted = []

    def work() -> None:
        for _ in range(20):
            load_image(data)
            try:
                accepted.append(load_image(data[:-2000]))
            except VisualInputError:
                continue

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert accepted == []
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_first_page_is_used_and_said(caplog):
    pages = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    for file_format in ("TIFF", "WEBP", "PNG", "GIF"):
        caplog.clear()
        options = {"lossless": True} if file_format == "WEBP" else {}
        with caplog.at_level(logging.INFO):
            found = load_image(encoded(pages[0], file_format, save_all=True, append_images=pages[1:], **options))
        assert found.getpixel((1, 1)) == (255, 0, 0)
        assert "the first is used" in caplog.text


def test_a_cut_animation_gives_its_first_frame_or_is_refused():
    """To tell whether more frames come, Pillow reads on, and fell out of the cut with an IndexError."""
    animation = encoded(
        Image.new("RGB", (9, 9), "red"), "GIF", save_all=True, append_images=[Image.new("RGB", (9, 9))]
    )
    read = 0
    for length in range(16, len(animation)):
        try:
            assert load_image(animation[:length]).getpixel((1, 1)) == (255, 0, 0)
            read += 1
        except VisualInputError:
            assert read == 0
    assert read > 9
