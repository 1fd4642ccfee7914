"""Uploads to the web page: who is let in, how long files are kept, and which are read."""

import asyncio
import contextlib
import http.client
import json
import os
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest
import rasterio
from PIL import Image
from starlette.responses import PlainTextResponse
from unirs.processing import load_video

from tests import rasters
from tests.serving import running
from tests.tiny import picture
from tests.visiting import ask, form, upload
from unirs.app.door import Door
from unirs.app.limits import Limits
from unirs.app.uploads import NOT_HERE, Uploads, known
from unirs.terminal import InputError


def given(path):
    return {"path": str(path)}


def aged(path, seconds):
    then = time.time() - seconds
    os.utime(path, (then, then))
    return path


@contextlib.contextmanager
def door(folder, limits, forgotten=None, seconds_of_stream=0):
    async def app(scope, receive, send):
        if scope["type"] == "http":
            while (await receive()).get("more_body"):
                pass
            if scope["path"] == "/gradio_api/queue/data":
                await asyncio.sleep(seconds_of_stream)
            await PlainTextResponse("taken")(scope, receive, send)

    async def forget(session):
        forgotten.append(session)

    made = Door(app, Uploads(folder, limits), None, forget)
    with running(made) as address:
        yield address.removeprefix("http://"), made


@pytest.mark.parametrize("also", [{}, {"Content-Length": "5"}])
def test_upload_in_pieces_is_refused(tmp_path, also):
    """Its length is not told beforehand, and a content-length beside the pieces is none: h11 goes by the pieces."""
    with door(tmp_path, Limits()) as page:
        connection = http.client.HTTPConnection(page[0], timeout=30)
        connection.putrequest("POST", "/gradio_api/upload")
        for name, value in {"Transfer-Encoding": "chunked", **also}.items():
            connection.putheader(name, value)
        connection.endheaders(b"5\r\nhello\r\n0\r\n\r\n")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (411, b"The upload does not say how long it is.")


def test_a_full_folder_takes_no_more(tmp_path):
    with door(tmp_path, Limits(folder_bytes=1000)) as page:
        assert upload(page, b"x") == (200, "taken")
        (tmp_path / "scene.png").write_bytes(bytes(1000))
        assert upload(page, b"x") == (503, "The page holds as many uploads as it may; try again later.")


def test_uploads_that_come_in_together_share_the_room(tmp_path):
    body, kind = form(bytes(600))
    with door(tmp_path, Limits(folder_bytes=1000)) as page:
        slow = http.client.HTTPConnection(page[0], timeout=30)
        slow.putrequest("POST", "/gradio_api/upload")
        slow.putheader("Content-Type", kind)
        slow.putheader("Content-Length", str(len(body)))
        slow.endheaders(body[:300])
        until = time.monotonic() + 30
        while page[1].arriving != len(body):
            assert time.monotonic() < until
            time.sleep(0.01)
        assert upload(page, bytes(600))[0] == 503
        slow.send(body[300:])
        assert slow.getresponse().status == 200
        assert upload(page, bytes(600)) == (200, "taken")


def begun_upload(page, length):
    """A connection that has announced so many bytes."""
    connection = http.client.HTTPConnection(page[0], timeout=30)
    connection.putrequest("POST", "/gradio_api/upload")
    connection.putheader("Content-Length", str(length))
    connection.endheaders()
    return connection


@pytest.mark.parametrize(("first", "then"), [(b"x", b"x"), (b"x" * 9000, b"")], ids=["trickle", "silence"])
def test_upload_that_trickles_or_falls_silent_gives_its_room_back(tmp_path, monkeypatch, first, then):
    """A byte before every end of the patience with silence kept the room of all that was announced, for ever."""
    monkeypatch.setattr("unirs.app.door.SECONDS_OF_SILENCE", 1.0)
    monkeypatch.setattr("unirs.app.door.SLOWEST", 1000)
    with door(tmp_path, Limits(folder_bytes=20_000)) as page:
        slow, until = begun_upload(page, 15_000), time.monotonic() + 6
        slow.send(first)
        while page[1].arriving != 15_000:
            assert time.monotonic() < until
            time.sleep(0.01)
        assert upload(page, bytes(6000))[0] == 503
        while page[1].arriving:
            assert time.monotonic() < until
            slow.send(then)
            time.sleep(0.1)
        answer = slow.getresponse()
        assert (answer.status, answer.read()) == (408, b"The upload fell silent, or came slower than 1 kB a second.")
        assert upload(page, bytes(6000)) == (200, "taken")


def test_upload_that_keeps_coming_may_take_longer_than_the_patience_with_silence(tmp_path, monkeypatch):
    monkeypatch.setattr("unirs.app.door.SECONDS_OF_SILENCE", 1.0)
    monkeypatch.setattr("unirs.app.door.SLOWEST", 1000)
    with door(tmp_path, Limits()) as page:
        steady = begun_upload(page, 8 * 2000)
        for _ in range(8):
            time.sleep(0.25)
            steady.send(bytes(2000))
        answer = steady.getresponse()
        assert (answer.status, answer.read()) == (200, b"taken")


def test_a_later_upload_does_not_put_an_earlier_one_out(tmp_path, monkeypatch):
    """Both were refused where the second came while the folder was still measured for the first."""
    come = threading.Barrier(2)
    monkeypatch.setattr(Uploads, "bytes_held", lambda self: 0 * come.wait(30))
    with door(tmp_path, Limits(folder_bytes=1000)) as page, ThreadPoolExecutor(2) as visitors:
        found = [one.result()[0] for one in [visitors.submit(upload, page, bytes(600)) for _ in range(2)]]
    assert 200 in found


def test_session_that_asks_and_does_not_listen_is_forgotten(tmp_path, monkeypatch):
    """Also one that goes on asking; one whose stream is open, or comes in time, is not."""
    monkeypatch.setattr("unirs.app.door.SECONDS_TO_LISTEN", 0.6)
    forgotten = []
    with door(tmp_path, Limits(), forgotten, seconds_of_stream=1.2) as page, ThreadPoolExecutor(2) as visitors:

        def join(session):
            body = json.dumps({"session_hash": session})
            assert ask(page, "POST", "/gradio_api/queue/join", body) == (200, "taken")

        def listen(session):
            return visitors.submit(ask, page, "GET", f"/gradio_api/queue/data?session_hash={session}")

        join("unheard")
        join("in time")
        streams = [listen("open"), listen("in%20time")]
        time.sleep(0.3)
        join("open")
        join("unheard")
        time.sleep(0.6)
        assert forgotten == ["unheard"]
        assert [stream.result() for stream in streams] == [(200, "taken")] * 2
    assert forgotten == ["unheard"]
    assert not page[1].listening
    assert not page[1].unheard


def test_request_that_stalls_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr("unirs.serving.incoming.SECONDS_FOR_A_BODY", 0.2)
    with door(tmp_path, Limits()) as page:
        slow = http.client.HTTPConnection(page[0], timeout=30)
        slow.putrequest("POST", "/gradio_api/queue/join")
        slow.putheader("Content-Length", "10")
        slow.endheaders(b"{")
        answer = slow.getresponse()
        assert (answer.status, answer.read()) == (408, b"The request did not arrive within 0.2 seconds.")


def test_sweep_takes_what_is_old_and_spares_the_examples(tmp_path):
    """Whoever made it: uploads that were cut off, journals of maps, folders that have become empty."""
    uploads = Uploads(tmp_path, Limits(kept_seconds=100))
    example, old, young = (tmp_path / f"{name}/scene.png" for name in ("example", "old", "young"))
    journal = tmp_path / "map-x" / "journal"
    for file in (example, old, young, journal, tmp_path / "cut off"):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"x")
    (tmp_path / "link").symlink_to(young)
    for file in (example, old, journal, tmp_path / "cut off"):
        aged(file, 101)
    aged(young, 50)
    os.utime(tmp_path / "link", (0, 0), follow_symlinks=False)
    uploads.sweep([example])
    assert {path for path in tmp_path.rglob("*") if not path.is_dir()} == {example, young}
    for folder in tmp_path.iterdir():
        aged(folder, 101)
    uploads.sweep([example])
    assert set(tmp_path.iterdir()) == {example.parent, young.parent}


def test_rasters_are_counted_on_the_grid_that_they_are_read_on(tmp_path):
    """A large raster and three of one pixel over the same ground are four large ones once they are read."""
    large = rasters.write(tmp_path / "0.tif", rasters.scene(1, 60, 60))
    wide = rasterio.transform.from_origin(rasters.LEFT, rasters.TOP, 600, 600)
    small = [
        rasters.write(tmp_path / f"{place}.tif", np.ones((3, 1, 1), np.uint8), transform=wide) for place in (1, 2, 3)
    ]
    shown = [(given(path), "a picture") for path in (large, *small)]
    assert len(Uploads(tmp_path, Limits(pixels=60 * 60 * 4)).pictures(*shown).pictures) == 4
    with pytest.raises(InputError, match="together have"):
        Uploads(tmp_path, Limits(pixels=60 * 60 * 4 - 1)).pictures(*shown)


def stream(path, width, height, codec="mpeg2video", frames=4):
    with av.open(str(path), "w") as out:
        video = out.add_stream(codec, rate=10)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        for _ in range(frames):
            out.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((height, width, 3), np.uint8), "rgb24")))
        out.mux(video.encode())
    return path.read_bytes()


@pytest.mark.parametrize("codec", ["mpeg2video", "libx264", "libx265"])
def test_clip_whose_frames_grow_is_refused(tmp_path, codec):
    """The first frame's size says nothing about the others': MPEG streams can be laid one behind the other.

    The later ones were left out, and nobody was told.
    """
    small = stream(tmp_path / "small.ts", 64, 48, codec)
    limited = Uploads(tmp_path, Limits(pixels=4 * 64 * 48))
    assert len(limited.frames(given(tmp_path / "small.ts"), 4).pictures) == 4
    (tmp_path / "both.ts").write_bytes(small + stream(tmp_path / "large.ts", 128, 96, codec))
    assert [one.size for one in load_video(tmp_path / "both.ts", 4)][-1] == (128, 96)
    with pytest.raises(InputError, match=r"^both.ts: later frames have more than 3072 pixels; export it smaller\.$"):
        limited.frames(given(tmp_path / "both.ts"), 4)
    with pytest.raises(InputError, match=r"^large.ts: frames of 128 x 96 are not 1 to 3072 pixels"):
        limited.frames(given(tmp_path / "large.ts"), 4)


def test_one_picture_is_no_clip_and_a_video_no_date(tmp_path):
    """A PNG was answered as a clip of one frame, and a video among pictures was to be converted to PNG."""
    uploads = Uploads(tmp_path, Limits())
    for name in ("one.png", "two.png", "three.png"):
        picture(1).save(tmp_path / name)
    stream(tmp_path / "clip.ts", 64, 48)
    for names, sentence in (
        (["one.png"], "one.png is one picture: ask about it under “Picture”, or choose three and more."),
        (["clip.ts", "one.png"], "clip.ts is a video: choose one alone, or pictures only."),
        (["one.png", "two.png", "clip.ts"], "clip.ts is a video: choose one alone, or pictures only."),
        (["one.png", "two.png"], "Two pictures are a pair: show them under “Change”."),
    ):
        with pytest.raises(InputError) as told:
            uploads.frames([given(tmp_path / name) for name in names], 4)
        assert str(told.value) == sentence


def test_frames_are_called_what_they_are_and_dates_left_out_are_told(tmp_path):
    uploads = Uploads(tmp_path, Limits())
    dates = [tmp_path / f"{year}.png" for year in range(2019, 2024)]
    for number, date in enumerate(dates):
        picture(number).save(date)
    shown = uploads.frames([given(date) for date in dates], 3)
    assert shown.names == ["Picture 1", "Picture 3", "Picture 5"]
    assert [one.tobytes() for one in shown.pictures] == [Image.open(dates[place]).tobytes() for place in (0, 2, 4)]
    assert shown.notes == ["Of 5 pictures the model looks at 3: 1, 3, 5. With more frames it sees more."]
    assert uploads.frames([given(date) for date in dates], 5).notes == []
    stream(tmp_path / "clip.ts", 64, 48)
    assert uploads.frames(given(tmp_path / "clip.ts"), 2).names == ["Frame 1", "Frame 2"]


def test_bands_that_are_shown_and_unknown_ones_are_told(tmp_path):
    """As the commands do; the page kept silent about data that the model was never trained on."""
    grey = rasters.write(tmp_path / "grey.tif", rasters.scene(1)[:1])
    picture(1).save(tmp_path / "scene.png")
    uploads = Uploads(tmp_path, Limits())
    first, second = uploads.pictures((given(grey), "a picture")).notes
    assert first == "Shown to the model: band 1 as grey."
    assert "outside of its training" in second
    assert uploads.pictures((given(tmp_path / "scene.png"), "a picture")).notes == []


def test_sentences_of_the_readers_name_no_option_of_the_commands_as_the_pages():
    """ "add --pixel" was told to visitors who have a box for it."""
    found = 0
    for file in sorted((Path(__file__).parents[1] / "geo").glob("*.py")):
        for words in re.findall(
            r'^\s*f?"(.*[( ]--[a-z].*|--[a-z].*)"', file.read_text(encoding="utf-8"), re.MULTILINE
        ):
            found += 1
            assert known(words, []).endswith(NOT_HERE) or "--" not in known(words, [])
            assert not re.search("--(pixel|tile)", known(words, []))
    assert found > 8
    named = [Path("/t/a --b.tif")]
    assert known("/t/a --b.tif: is no GeoTIFF; convert it", named) == "a --b.tif: is no GeoTIFF; convert it"
    assert known("a.tif: has no georeference; if so, add --pixel", []) == (
        "a.tif: has no georeference; if so, tick “pixel by pixel” under Settings"
    )
    assert known("/folder/a.tif: one--two", [Path("/folder/a.tif")]) == "a.tif: one--two"


def test_file_called_like_a_preview_is_itself(tmp_path):
    uploads = Uploads(tmp_path, Limits(kept_seconds=60))
    picture(1).save(tmp_path / "scene.png.preview.png")
    assert uploads.path(given(tmp_path / "scene.png.preview.png"), "it").name == "scene.png.preview.png"
    picture(2).save(tmp_path / "scene.png")
    assert uploads.path(given(tmp_path / "scene.png.preview.png"), "it").name == "scene.png"
    with pytest.raises(InputError, match="removed, as all are after 1 minutes"):
        uploads.path(given(tmp_path / "gone.png"), "it")


@pytest.mark.parametrize("odd", ["../secret", "link", "", 3, None, "\0", "x" * 5000])
def test_only_files_in_the_folder_are_uploads(tmp_path, odd):
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "uploads"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "secret")
    path = f"{folder}/{odd}" if isinstance(odd, str) else odd
    with pytest.raises(InputError):
        Uploads(folder, Limits()).path({"path": path}, "a picture")
