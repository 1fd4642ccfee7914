"""Pictures and clips of any origin: the right picture, or one clear error that names the file."""

import io
import json
import logging

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from unirs.processing import VisualInputError, load_image, load_video
from unirs.processing import video_loading_unirs as reader

from tests.conftest import DATA, REFERENCE
from tests.tiny import picture


def saved(image: Image.Image, file_format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def write_clip(path, frames: int, codec: str = "libx264", size: tuple[int, int] = (64, 48)) -> None:
    """Frame i is grey of level 10 * i + 5."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for number in range(frames):
            grey = np.full((size[1], size[0], 3), 10 * number + 5, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey)))
        container.mux(stream.encode())


def levels(frames) -> list[int]:
    """Frame numbers, read from the grey."""
    return [round((float(np.asarray(frame).mean()) - 5) / 10) for frame in frames]


# -- pictures --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("image", "file_format", "expected"),
    [
        (Image.new("CMYK", (6, 4), (0, 255, 255, 0)), "TIFF", (255, 0, 0)),
        (Image.new("L", (6, 4), 90), "PNG", (90, 90, 90)),
        (Image.new("1", (6, 4), 1), "PNG", (255, 255, 255)),
        (Image.new("RGBA", (6, 4), (10, 20, 30, 0)), "PNG", (10, 20, 30)),
        (Image.new("LA", (6, 4), (40, 0)), "PNG", (40, 40, 40)),
        (Image.new("RGB", (6, 4), (1, 2, 3)).quantize(), "PNG", (1, 2, 3)),
        (Image.new("I;16", (6, 4), 200), "PNG", (200, 200, 200)),
    ],
)
def test_every_mode_becomes_rgb(image, file_format, expected):
    found = load_image(saved(image, file_format))
    assert (found.mode, found.size) == ("RGB", (6, 4))
    assert np.abs(np.asarray(found).astype(int) - expected).max() <= 1


def test_camera_orientation_is_applied():
    image = picture(1, 6, 4)
    exif = image.getexif()
    for orientation in range(1, 9):
        exif[274] = orientation
        data = saved(image, "PNG", exif=exif)
        with Image.open(io.BytesIO(data)) as opened:
            expected = ImageOps.exif_transpose(opened).convert("RGB")
        assert np.array_equal(np.asarray(load_image(data)), np.asarray(expected))


def test_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert load_image(data).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize(
    "array",
    [
        np.full((40, 60, 3), 51, np.uint8),
        np.full((3, 40, 60), 51, np.uint8),
        np.full((40, 60), 51, np.uint8),
        np.full((40, 60, 1), 51, np.uint8),
        np.full((40, 60, 3), 0.2, np.float32),
        np.full((40, 60, 4), 51, np.uint8),
        torch.full((3, 40, 60), 51, dtype=torch.uint8),
        torch.full((3, 40, 60), 0.2),
    ],
)
def test_arrays_and_tensors_of_the_same_grey_are_the_same_picture(array):
    assert np.array_equal(np.asarray(load_image(array)), np.full((40, 60, 3), 51))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"", "is none of PNG"),
        (b"hello, this is text", "is none of PNG"),
        ("data:image/png;base64,????", "base64"),
        ("https://example.org/a.png", "download the file first"),
        (np.zeros((5, 6, 7), np.uint8), "array"),
        (np.zeros((0, 6, 3), np.uint8), "array"),
        (12, "int"),
    ],
)
def test_what_is_no_picture_is_told(source, message):
    with pytest.raises(VisualInputError, match=message) as caught:
        load_image(source)
    assert "\n" not in str(caught.value)


def test_every_cut_of_a_png_and_a_jpeg_is_an_error_or_a_picture_never_a_crash(tmp_path):
    for file_format in ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP"):
        data = saved(picture(1, 24, 20), file_format)
        for length in range(0, len(data) - 1, max(1, len(data) // 40)):
            path = tmp_path / "cut.png"
            path.write_bytes(data[:length])
            try:
                assert load_image(path).size == (24, 20)
            except VisualInputError as error:
                assert "cut.png" in str(error)  # noqa: PT017


def test_random_bytes_flipped_in_a_file_never_crash():
    rng = np.random.default_rng(0)
    for file_format in ("PNG", "JPEG", "TIFF", "GIF"):
        whole = np.frombuffer(saved(picture(1, 24, 20), file_format), np.uint8)
        for _ in range(40):
            data = whole.copy()
            data[rng.integers(len(data), size=4)] = rng.integers(256, size=4)
            try:
                assert load_image(data.tobytes()).mode == "RGB"
            except VisualInputError:
                continue


def test_a_bomb_is_refused_by_its_header():
    with pytest.raises(VisualInputError, match=r"20000 x 20000 is more than 268435456 pixels"):
        load_image(saved(Image.new("1", (20000, 20000)), "PNG"))
    with pytest.raises(VisualInputError, match="100 x 100 is more than 5000 pixels"):
        load_image(saved(Image.new("RGB", (100, 100)), "PNG"), max_pixels=5000)


def test_formats_that_run_other_programs_are_refused():
    with pytest.raises(VisualInputError, match="is none of PNG"):
        load_image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EOF\n")


# -- clips -----------------------------------------------------------------------------------------------------------
@pytest.mark.reference
def test_chosen_frames_equal_the_released_table_where_its_rule_works():
    table = json.loads((REFERENCE / "frames" / "frames.json").read_text())["table"]
    compared = 0
    for row in table:
        count, wanted, result = row["frame_count"], row["num_frames"], row["result"]
        if result["kind"] == "frames" and count > wanted:
            assert reader.sample_frame_indices(count, wanted) == result["indices"]
            compared += 1
        elif count:
            assert reader.sample_frame_indices(count, wanted) == list(range(min(count, wanted)))
    assert compared > 30


@pytest.mark.reference
@pytest.mark.parametrize("name", ["v5_48x32", "v8_48x32", "v9_32x48", "v20_48x32"])
def test_lossless_clips_give_the_chosen_frames(name):
    path = REFERENCE / "frames" / f"{name}.avi"
    frames = load_video(path, 8)
    count = int(name[1:].partition("_")[0])
    assert levels(frames) == reader.sample_frame_indices(count, 8)
    assert levels(load_video(path.read_bytes(), 8)) == levels(frames)


@pytest.mark.data
def test_decord_and_pyav_read_the_same_frames_of_real_clips():
    pytest.importorskip("decord")
    for path in sorted((DATA / "video").glob("*.mp4"))[:5]:
        clip = reader._recognise(path)
        choose = lambda count: reader.sample_frame_indices(count, 8)  # noqa: E731
        for one, other in zip(
            reader._read_with_decord(clip, choose), reader._read_with_pyav(clip, choose), strict=True
        ):
            # the decoder is FFmpeg in both; their conversions to RGB may round differently
            assert np.abs(np.asarray(one).astype(int) - np.asarray(other)).max() <= 3


@pytest.mark.parametrize("frames", [1, 3, 8, 9, 24])
@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_clips_as_short_as_wanted_or_shorter_give_every_frame_once(tmp_path, frames, container):
    write_clip(tmp_path / f"clip.{container}", frames)
    assert levels(load_video(tmp_path / f"clip.{container}", 8)) == reader.sample_frame_indices(frames, 8)


def test_short_clip_is_noted(tmp_path, caplog):
    write_clip(tmp_path / "clip.mp4", 3)
    with caplog.at_level(logging.INFO):
        load_video(tmp_path / "clip.mp4", 8)
    assert any("3" in message and "8" in message for message in caplog.messages)


def test_lists_and_arrays_are_sampled_by_the_same_rule():
    array = np.stack([np.full((8, 8, 3), 10 * number + 5, np.uint8) for number in range(20)])
    expected = reader.sample_frame_indices(20, 8)
    assert levels(load_video(array, 8)) == expected
    assert levels(load_video(list(array), 8)) == expected
    assert levels(load_video(torch.from_numpy(array).permute(0, 3, 1, 2), 8)) == expected


@pytest.mark.parametrize(
    "content", [b"", b"no clip at all", b"#EXTM3U\nfile:///etc/passwd\n", b"ffconcat version 1.0\n"]
)
def test_what_is_no_clip_is_told_with_its_name(tmp_path, content):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(VisualInputError, match=r"clip\.mp4") as caught:
        load_video(path, 8)
    assert "\n" not in str(caught.value)


def test_cut_clips_give_the_frames_that_are_there_or_one_error(tmp_path):
    write_clip(tmp_path / "whole.mkv", 20)
    data = (tmp_path / "whole.mkv").read_bytes()
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        path = tmp_path / "cut.mkv"
        path.write_bytes(data[: int(len(data) * share)])
        try:
            assert 1 <= len(load_video(path, 8)) <= 8
        except VisualInputError as error:
            assert "cut.mkv" in str(error)  # noqa: PT017


def test_sound_without_pictures_is_told(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(VisualInputError, match=r"sound\.mp4"):
        load_video(path, 8)


@pytest.mark.data
def test_every_real_picture_loads_or_says_why():
    loaded, told = 0, []
    folders = ("single", "geotiff", "rsvqa_lr", "rsvqa_hr", "levir_cd", "dsifn", "multi_date", "era_frames")
    for folder in folders:
        for path in sorted((DATA / folder).rglob("*")):
            if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".tif", ".tiff"):
                try:
                    load_image(path)
                    loaded += 1
                except VisualInputError as error:
                    told.append(path.name)
                    assert path.name in str(error)  # noqa: PT017
    assert loaded > 200
    assert all(name.endswith((".tif", ".tiff")) for name in told), told
