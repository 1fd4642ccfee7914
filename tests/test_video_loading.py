"""The door for clips: what `test_loading.py` leaves out (decoders, containers, rotation, damage, hostile files)."""

import base64
import fractions
import io
import itertools
import pathlib
import struct
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from PIL import Image
from unirs.processing import video_loading_unirs as door
from unirs.processing.frame_sampling_unirs import DatedSequence, sample_date_indices, sample_frame_indices
from unirs.processing.image_loading_unirs import VisualInputError
from unirs.processing.video_loading_unirs import load_video

SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} (real clips) is absent")


def clip_file(path, codec="libx264", frames=20, times=None, picture=None, container=None) -> pathlib.Path:
    """Frame i is grey of level 10 * i + 5, unless a picture is given; B-frames, a key frame every 8 (H.264)."""
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        if codec == "libx264":
            stream.options = {"g": "8", "bf": "2", "crf": "1"}
        for number in range(frames):
            array = np.full((48, 64, 3), 10 * number + 5, np.uint8) if picture is None else picture
            frame = av.VideoFrame.from_ndarray(array, "rgb24")
            if times:
                frame.pts, frame.time_base = times[number], fractions.Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def levels(frames) -> list[int]:
    return [round((float(np.asarray(frame).mean()) - 5) / 10) for frame in frames]


def choose_8(count: int) -> list[int]:
    return sample_frame_indices(count, 8)


def refusal(source, num_frames=4) -> str:
    with pytest.raises(VisualInputError) as caught:
        load_video(source, num_frames)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


def all_clips() -> list[pathlib.Path]:
    folders = ("data/video", "reference/frames", "reference/vlm/train/videos")
    return [p for folder in folders for p in sorted((SHARED / folder).glob("*.*")) if p.suffix in (".mp4", ".avi")]


# -- which frames ----------------------------------------------------------------------------------------------------
@needs_shared
def test_seeking_gives_the_frames_of_a_plain_decode_of_every_real_clip():
    for path in all_clips():
        with av.open(str(path)) as container:
            every = [np.asarray(frame.to_image()) for frame in container.decode(video=0)]
        for found, index in zip(load_video(path, 8), sample_frame_indices(len(every), 8), strict=True):
            assert np.array_equal(np.asarray(found), every[index]), (path.name, index)


@needs_shared
def test_decord_gives_the_same_bytes_on_every_real_mp4():
    pytest.importorskip("decord")
    for path in all_clips():
        if path.suffix == ".mp4":
            clip = door._recognise(path)
            one, other = door._read_with_decord(clip, choose_8), door._read_with_pyav(clip, choose_8)
            assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True)), path.name


def test_decord_is_not_used_on_streams_where_it_gives_wrong_frames(tmp_path):
    pytest.importorskip("decord")
    clip = door._recognise(clip_file(tmp_path / "a.ts"))
    with pytest.raises(VisualInputError, match="needs PyAV"):
        door._read_with_decord(clip, choose_8)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"),
        ("a.mov", "mpeg4"),
        ("a.mkv", "libx264"),
        ("a.webm", "libvpx-vp9"),
        ("a.avi", "libx264"),
        ("a.avi", "mpeg4"),
        ("a.ts", "libx264"),
        ("a.mpg", "mpeg2video"),
        ("a.flv", "flv1"),
        ("a.wmv", "wmv2"),
    ],
)
def test_every_container_gives_the_chosen_frames(tmp_path, name, codec):
    try:
        path = clip_file(tmp_path / name, codec)
    except av.FFmpegError:
        pytest.skip(f"this FFmpeg cannot write {codec}")
    assert levels(load_video(path, 8)) == [0, 2, 5, 7, 10, 12, 15, 18]
    assert levels(load_video(path.read_bytes(), 20)) == list(range(20))


def test_frames_are_chosen_by_number_not_by_time(tmp_path):
    times = [0, 10, 500, 510, 520, 2000, 2001, 2500, 3000, 3001, 3002, 3003]
    assert levels(load_video(clip_file(tmp_path / "a.mkv", frames=12, times=times), 5)) == [0, 2, 5, 7, 10]


def test_an_index_that_misleads_falls_back_to_decoding_through(tmp_path, monkeypatch):
    monkeypatch.setattr(door, "_seek_frames", lambda *_: None)
    assert levels(load_video(clip_file(tmp_path / "a.mp4"), 8)) == [0, 2, 5, 7, 10, 12, 15, 18]


@pytest.mark.parametrize("told", [7, 999])
def test_wrong_frame_count_in_the_header_does_not_matter(tmp_path, told):
    data = bytearray(clip_file(tmp_path / "a.avi", "mpeg4").read_bytes())
    for box, offset in ((b"avih", 24), (b"strh", 40)):
        struct.pack_into("<I", data, data.index(box) + offset, told)
    assert levels(load_video(bytes(data), 8)) == [0, 2, 5, 7, 10, 12, 15, 18]


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG"])
def test_animations_are_clips(file_format):
    pages = [Image.new("RGB", (8, 8), (10 * i + 5,) * 3) for i in range(20)]
    options = {"lossless": True} if file_format == "WEBP" else {}
    buffer = io.BytesIO()
    pages[0].save(buffer, file_format, save_all=True, append_images=pages[1:], **options)
    assert levels(load_video(buffer.getvalue(), 8)) == [0, 2, 5, 7, 10, 12, 15, 18]


def test_data_uri_and_odd_names_are_read(tmp_path):
    path = clip_file(tmp_path / "a %03d.mp4")
    uri = "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode()
    for source in (path, path.as_uri(), uri, memoryview(path.read_bytes())):
        assert levels(load_video(source, 3)) == [0, 9, 18]


def test_float_clip_is_scaled_as_a_whole():
    """A dark frame of a 0..255 clip must not be taken for 0..1 and brightened."""
    clip = torch.zeros(3, 3, 8, 8)
    clip[1], clip[2] = 1.0, 200.0
    assert [int(np.asarray(f).max()) for f in load_video(clip, 3)] == [0, 1, 200]


def test_list_error_names_the_picture():
    assert refusal([np.zeros((8, 8), np.uint8), "/nowhere/b.png"]).startswith("picture 1 of the list: /nowhere/b.png")


# -- rotation --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((1, 0, 0, 1), lambda a: a),
        ((0, 1, -1, 0), lambda a: np.rot90(a, -1)),
        ((0, -1, 1, 0), lambda a: np.rot90(a)),
        ((-1, 0, 0, -1), lambda a: np.rot90(a, 2)),
        ((-1, 0, 0, 1), lambda a: a[:, ::-1]),
        ((1, 0, 0, -1), lambda a: a[::-1]),
        ((0, 1, 1, 0), lambda a: a.transpose(1, 0, 2)),
    ],
)
def test_display_matrix_of_a_phone_is_applied(tmp_path, matrix, expected):
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:24, :32] = 250  # upper left
    data = bytearray(clip_file(tmp_path / "a.mp4", picture=picture).read_bytes())
    a, b, c, d = (65536 * cell for cell in matrix)
    struct.pack_into(">9i", data, data.index(b"tkhd") + 44, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    found = np.asarray(load_video(bytes(data), 1)[0])
    assert np.array_equal(found > 125, expected(picture) > 125)


# -- damage and hostility --------------------------------------------------------------------------------------------
def cut_mp4(tmp_path) -> bytes:
    """An MP4 with its index in front, cut within its 13th packet: as from a broken download."""
    moved = tmp_path / "front.mp4"
    options = {"movflags": "faststart"}
    with av.open(str(clip_file(tmp_path / "whole.mp4"))) as source, av.open(str(moved), "w", options=options) as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    with av.open(str(moved)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    return moved.read_bytes()[: packets[12][0] + packets[12][1] // 2]


def test_cut_mp4_gives_its_whole_frames_and_a_warning(tmp_path, caplog):
    data = cut_mp4(tmp_path)
    first = load_video(data, 30)
    assert 10 <= len(first) <= 12
    assert levels(first) == list(range(len(first)))
    assert f"only {len(first)} of 20 frames can be decoded" in caplog.text


def test_damaged_clip_gives_the_same_frames_each_time(tmp_path):
    """Parallel decoding of a damaged stream drops other frames on each run."""
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    data = bytearray(clip_file(tmp_path / "a.mp4", picture=noise).read_bytes())
    rng = np.random.default_rng(1)
    start = data.index(b"mdat") + 2000
    for place in rng.integers(start, start + 15000, 30):
        data[place] ^= 0x55
    runs = [[f.tobytes() for f in load_video(bytes(data), 8)] for _ in range(4)]
    assert all(run == runs[0] for run in runs)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.ts"])
def test_noise_in_a_clip_gives_frames_or_one_error(tmp_path, name):
    whole = np.frombuffer(clip_file(tmp_path / name).read_bytes(), np.uint8)
    rng = np.random.default_rng(0)
    outcomes = 0
    for _ in range(25):
        data = whole.copy()
        data[rng.integers(16, len(data), size=12)] = rng.integers(256, size=12)
        try:
            assert 1 <= len(load_video(data.tobytes(), 4)) <= 4
        except VisualInputError as error:
            assert "<bytes>" in str(error)  # noqa: PT017
        outcomes += 1
    assert outcomes == 25


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nsecret.mp4\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile secret.mp4\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
        "<?xml version='1.0'?><MPD></MPD>",
    ],
)
def test_playlists_that_name_other_files_are_refused(tmp_path, text):
    clip_file(tmp_path / "secret.mp4")
    for name in ("list.mp4", "list.m3u8"):
        (tmp_path / name).write_text(text)
        assert "is no MP4" in refusal(tmp_path / name)


def test_protocol_names_of_ffmpeg_are_only_file_names(tmp_path, monkeypatch):
    clip_file(tmp_path / "a.mp4")
    monkeypatch.chdir(tmp_path)
    for name in ("concat:a.mp4|a.mp4", "subfile,,start,0,end,0,,:a.mp4", "data:text/plain,hello", "pipe:0"):
        refusal(name)
    for name in ("http://x/a.mp4", "rtsp://x/a", "HTTPS://x/a.mp4"):
        assert "is a URL" in refusal(name)
    (tmp_path / "concat:a.mp4").write_bytes((tmp_path / "a.mp4").read_bytes())
    assert levels(load_video("concat:a.mp4", 3)) == [0, 9, 18]


@pytest.mark.parametrize(
    "magic",
    [b"\0\0\0\x18ftypmp42", b"\x1aE\xdf\xa3", b"RIFF\0\0\0\0AVI ", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"OggS"],
)
@pytest.mark.parametrize("length", [0, 4000])
def test_container_with_nothing_in_it_is_told(magic, length):
    assert refusal(magic + bytes(length)).startswith("<bytes>: ")


def test_frames_above_the_limit_are_refused_before_decoding(tmp_path, monkeypatch):
    path = clip_file(tmp_path / "a.mp4")
    monkeypatch.setattr(door, "MAX_FRAME_PIXELS", 64 * 48 - 1)
    monkeypatch.setattr(door, "_to_picture", None)
    assert "frames of 64 x 48" in refusal(path)


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.ts", "mpeg2video"), ("a.gif", "")])
def test_a_clip_that_takes_too_long_is_refused_wherever_its_time_is_spent(tmp_path, monkeypatch, name, codec):
    """By a clock that goes on by one at each look."""
    if codec:
        content = clip_file(tmp_path / name, codec).read_bytes()
    else:
        pages = [Image.new("L", (8, 8), 10 * i + 5) for i in range(20)]
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
        content = (tmp_path / name).read_bytes()

    def read(max_seconds):
        ticks = itertools.count()
        monkeypatch.setattr(door, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
        return load_video(content, 4, max_seconds=max_seconds), next(ticks)

    frames, looks = read(10_000)
    assert (levels(frames), looks >= 20) == ([0, 6, 12, 18], True)  # a look for each frame, at least
    for seconds in range(looks - 2):
        with pytest.raises(VisualInputError, match="<bytes>: takes too long to read; cut it"):
            read(seconds)
    assert levels(read(looks)[0]) == [0, 6, 12, 18]


def test_a_frame_that_is_not_chosen_may_not_enlarge_the_canvas():
    pages = [Image.fromarray(np.random.default_rng(i).integers(0, 255, (8, 8), np.uint8)) for i in range(3)]
    buffer = io.BytesIO()
    pages[0].save(buffer, "GIF", save_all=True, append_images=pages[1:])
    content = bytearray(buffer.getvalue())
    whole = struct.pack("<BHHHH", 0x2C, 0, 0, 8, 8)
    second = content.index(whole, content.index(whole) + 1)
    struct.pack_into("<BHHHH", content, second, 0x2C, 0, 0, 4096, 4096)
    with pytest.raises(VisualInputError, match="frames of 4096 x 4096 are not 1 to 100 pixels"):
        load_video(bytes(content), 1 + 1, max_frame_pixels=100)


def test_cover_of_a_sound_file_is_not_a_clip(tmp_path):
    with av.open(str(tmp_path / "song.m4a"), "w", format="mp4") as out:
        sound, cover = out.add_stream("aac", rate=8000), out.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        out.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")))
        out.mux(cover.encode())
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        frame.rate = 8000
        out.mux(sound.encode(frame))
        out.mux(sound.encode())
    assert "song.m4a: holds no video stream" in refusal(tmp_path / "song.m4a")


@pytest.mark.parametrize("num_frames", [0, -1, 65, 2.0, True, None, "8"])
def test_impossible_numbers_of_frames_are_told(num_frames):
    assert "ask for 1 to 64 frames" in refusal([np.zeros((8, 8))], num_frames)


def test_no_frames_are_told():
    with pytest.raises(VisualInputError, match="no frames"):
        sample_frame_indices(0, 8)
    assert "0 pictures" in refusal([])
    assert "is not a clip" in refusal(np.zeros((0, 8, 8, 3)))
    assert "is not a clip" in refusal(np.zeros((8, 8, 3)))
    assert "cannot read a Image as a clip" in refusal(Image.new("RGB", (4, 4)))


def test_decoders_write_nothing_to_the_terminal(tmp_path, capfd):
    data = cut_mp4(tmp_path)
    capfd.readouterr()
    load_video(data, 4)
    refusal(b"\0\0\0\x18ftypmp42" + bytes(5000))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("dates", "wanted", "chosen"),
    [
        (8, 4, [0, 2, 5, 7]),
        (5, 4, [0, 1, 3, 4]),
        (100, 2, [0, 99]),
        (4, 4, [0, 1, 2, 3]),
        (3, 8, [0, 1, 2]),
        (9, 1, [0]),
    ],
)
def test_of_a_dated_sequence_the_first_and_the_last_are_seen(dates, wanted, chosen):
    """The released rule for clips never takes the last frame: the newest date, where the change may be."""
    pictures = [Image.new("L", (4, 4), 2 * number) for number in range(dates)]
    assert sample_date_indices(dates, wanted) == chosen
    seen = load_video(DatedSequence(pictures), wanted)
    assert [frame.getpixel((0, 0))[0] // 2 for frame in seen] == chosen
