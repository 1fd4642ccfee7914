"""Parts of the web page that need no Gradio: its door, uploads, values, words, examples, and who asks the model."""

import contextlib
import dataclasses
import http.client
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
from transformers import pipeline
from unirs.processing import load_video
from unirs.trainers.scene_tasks import single_sample

from tests import rasters
from tests.serving import running
from tests.tiny import picture, tiny_model
from tests.visiting import form, upload
from unirs.app.asking import Answer, Asker
from unirs.app.door import Door
from unirs.app.examples import FIRST, write_examples
from unirs.app.limits import Limits
from unirs.app.scene_map import MapSettings, SceneMap
from unirs.app.slider import slider_html
from unirs.app.uploads import Uploads
from unirs.app.values import number, ticked, whole, words
from unirs.app.wording import answer_html, changes_html, error_html
from unirs.listening import address, own_names, served_name
from unirs.report import changed_share
from unirs.terminal import InputError

TILE = MapSettings(tile=32, threshold=0, merge=False)


def given(path):
    return {"path": str(path)}


def aged(path, seconds):
    then = time.time() - seconds
    os.utime(path, (then, then))
    return path


# -- the door ---------------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def door(folder, limits):
    async def app(scope, receive, send):
        if scope["type"] == "http":
            while (await receive()).get("more_body"):
                pass
            await PlainTextResponse("taken")(scope, receive, send)

    made = Door(app, Uploads(folder, limits), None)
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


def test_request_that_stalls_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr("unirs.serving.incoming.SECONDS_FOR_A_BODY", 0.2)
    with door(tmp_path, Limits()) as page:
        slow = http.client.HTTPConnection(page[0], timeout=30)
        slow.putrequest("POST", "/gradio_api/queue/join")
        slow.putheader("Content-Length", "10")
        slow.endheaders(b"{")
        answer = slow.getresponse()
        assert (answer.status, answer.read()) == (408, b"The request did not arrive within 0.2 seconds.")


# -- uploads ----------------------------------------------------------------------------------------------------------
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
    assert len(Uploads(tmp_path, Limits(pixels=60 * 60 * 4)).pictures(*shown)) == 4
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
    assert len(limited.frames(given(tmp_path / "small.ts"), 4)) == 4
    (tmp_path / "both.ts").write_bytes(small + stream(tmp_path / "large.ts", 128, 96, codec))
    assert [one.size for one in load_video(tmp_path / "both.ts", 4)][-1] == (128, 96)
    with pytest.raises(InputError, match=r"^both.ts: later frames have more than 3072 pixels; export it smaller\.$"):
        limited.frames(given(tmp_path / "both.ts"), 4)
    with pytest.raises(InputError, match=r"^large.ts: frames of 128 x 96 are not 1 to 3072 pixels"):
        limited.frames(given(tmp_path / "large.ts"), 4)


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


# -- values -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("odd", [0, 11, "3", None, True, float("nan"), float("inf"), 10**400, [3], 2.5])
def test_odd_numbers_are_told(odd):
    with pytest.raises(InputError, match=r"^Frames is a (whole number|number from 1 to 10)\.$"):
        whole(odd, "Frames", 1, 10)


def test_fitting_values_are_taken():
    assert whole(3.0, "Frames", 1, 10) == 3
    assert number(0.25, "Score", 0, 1) == 0.25
    assert (words(None, "It"), words("Is it?", "It"), ticked(False, "It")) == ("", "Is it?", False)


@pytest.mark.parametrize("odd", [3, ["a"], "\ud800"])
def test_odd_words_are_told(odd):
    with pytest.raises(InputError):
        words(odd, "The question")
    with pytest.raises(InputError):
        ticked(odd, "The box")


# -- words and pictures -----------------------------------------------------------------------------------------------
def test_words_of_visitor_and_model_are_no_markup():
    hostile = "<img src=x onerror=alert(1)>"
    for shown in (
        error_html(hostile),
        answer_html(Answer(hostile, clue=hostile)),
        answer_html(Answer("", no_clue=hostile, has_ended=True), True),
        changes_html([], [], [hostile]),
    ):
        assert "<img" not in shown
        assert "&lt;img src=x onerror=alert(1)&gt;" in shown


@pytest.mark.parametrize(
    ("size", "rows", "expected"),
    [((100, 100), [0, 1], 0.5), ((200, 100), [1, 2], 1.0), ((200, 100), [1], 0.5), ((200, 100), [0, 3], 0.0),
     ((400, 100), [1], 0.5), ((400, 100), [0, 3], 0.0)],
)  # fmt: skip
def test_share_of_a_wide_picture_is_without_its_padding(size, rows, expected):
    """A picture twice as wide as high lies under the two middle rows of four; it could never pass one half."""
    change_map = np.zeros((4, 4))
    change_map[rows] = 0.9
    assert changed_share(change_map, size) == pytest.approx(expected)
    assert changed_share(change_map.T, size[::-1]) == pytest.approx(expected)


def test_slider_holds_three_pictures_with_their_names():
    shown = slider_html(picture(1), picture(2), picture(3))
    assert shown.count("src='data:image/jpeg;base64,") == 3
    for name in ("alt='The earlier date'", "alt='The later date'", "aria-label='Share of the earlier date, in"):
        assert name in shown


def test_examples_are_generated_scenes_of_one_place_each(tmp_path):
    made = write_examples(tmp_path)
    expected = single_sample(FIRST).images[0].convert("RGB")
    with Image.open(made.pictures[0][0]) as first:
        assert np.array_equal(np.asarray(first), np.asarray(expected))
    with rasterio.open(made.maps[0][0]) as before, rasterio.open(made.maps[0][1]) as after:
        assert (before.bounds, before.shape, before.crs) == (after.bounds, after.shape, after.crs)
        assert not np.array_equal(before.read(), after.read())
    assert [len(kind) for kind in (made.pictures, made.pairs, made.clips)] == [3, 2, 2]


# -- who asks ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def asker(processor):
    return Asker(tiny_model(processor), processor, None, Limits(new_tokens=12, map_seconds=60))


def talkative(processor, new_tokens):
    """An asker whose model never ends by itself, and a count of its steps."""
    model = tiny_model(processor)
    model.generation_config.suppress_tokens += [model.config.text_config.eos_token_id]
    steps = []
    model.register_forward_hook(lambda *_: steps.append(1))
    return Asker(model, processor, None, Limits(new_tokens=new_tokens, seconds=600)), steps


def test_last_answer_is_the_pipelines(asker, processor):
    found = list(asker.ask("picture", [picture(1)], "What?", clue=False))
    pipe = pipeline("rs-visual-question-answering", model=tiny_model(processor), processor=processor)
    assert found[-1].text == pipe(picture(1), "What?", max_new_tokens=12)["answer"]
    assert found[-1].has_ended
    *_, pair = asker.ask("pair", [picture(1, 56, 28), picture(2, 56, 28)], "", clue=False, change_map=True)
    assert pair.changed == changed_share(pair.change_map, (56, 28))


def test_answer_ends_when_its_visitor_leaves(processor):
    asker, steps = talkative(processor, 700)
    *_, whole_answer = asker.ask("picture", [picture(1)], "What?", clue=False)
    assert whole_answer.has_ended
    assert len(steps) >= 700
    steps.clear()
    answers = asker.ask("picture", [picture(1)], "What?", clue=False)
    next(answers)
    answers.close()
    asker.thread.submit(int).result()  # the model is free again
    assert len(steps) < 350


def test_clue_ends_when_its_visitor_leaves(processor):
    """The time and the visitor's leaving were the answer's alone, and nothing woke who waited for the clue."""
    asker, steps = talkative(processor, 700)
    has_gone = threading.Event()

    def wait_at_the_third(*given):
        if len(steps) == 3:
            has_gone.wait(5)

    asker.network.register_forward_hook(wait_at_the_third)
    answers = asker.ask("picture", [picture(1)], "What?", clue=True)
    assert next(answers) == Answer()
    answers.close()
    has_gone.set()
    asker.thread.submit(int).result()
    assert len(steps) <= 3


def test_clue_and_answer_share_the_time(processor):
    asker, steps = talkative(processor, 700)
    asker.limits = dataclasses.replace(asker.limits, seconds=-1)
    assert list(asker.ask("picture", [picture(1)], "What?", clue=True))[-1].has_ended
    assert len(steps) == 2  # a token of each


def test_fault_of_ours_is_not_told_as_the_visitors(asker, monkeypatch):
    def broken(*given, **options):
        raise ValueError("tensors of other sizes")

    monkeypatch.setitem(asker.pipes, "picture", broken)
    with pytest.raises(ValueError, match="tensors of other sizes"):
        list(asker.ask("picture", [picture(1)], "What?", clue=False))


@pytest.mark.parametrize(("question", "sentence"), [(" ", "Type a question first"), ("x" * 2001, "2,001 characters")])
def test_questions_that_are_not_asked_are_told(asker, question, sentence):
    with pytest.raises(InputError, match=sentence):
        next(asker.ask("picture", [picture(1)], question, clue=False))


@pytest.mark.parametrize(
    ("task", "shown", "question"),
    [("picture", [picture(1)], "\U0001f6f0" * 500), ("clip", [[picture(1)] * 60], "")],
)
def test_more_tokens_than_the_model_reads_are_told(processor, task, shown, question):
    """A question that is short in characters, and a clip of few pixels, were "The page failed on this"."""
    model = tiny_model(processor)
    model.config.text_config.max_position_embeddings = 40
    options = {"num_frames": 60} if task == "clip" else {}
    with pytest.raises(InputError, match=r"tokens and the model reads 40; .* fewer pictures or frames\.$"):
        list(Asker(model, processor, None, Limits()).ask(task, shown, question, clue=False, **options))


def test_a_clip_of_the_most_frames_is_answered_and_no_page_offers_more(processor):
    model = tiny_model(processor)
    model.config.text_config.max_position_embeddings = 850
    asker = Asker(model, processor, None, Limits())
    most = asker.most_frames
    assert 1 < most < Limits().files
    assert list(asker.ask("clip", [[picture(1)] * most], "", clue=False, num_frames=most))[-1].has_ended
    with pytest.raises(InputError, match="the model reads 850"):
        list(asker.ask("clip", [[picture(1)] * 64], "", clue=False, num_frames=64))
    assert Asker(model, processor, None, Limits(files=3)).most_frames == 3


@pytest.fixture
def dates(tmp_path):
    folder = tmp_path / "dates"
    folder.mkdir()
    return [rasters.write(folder / f"{date}.tif", rasters.scene(date)) for date in (1, 2)]


def test_map_tells_its_tiles_and_leaves_its_files(asker, dates, tmp_path):
    """128 x 128 pixels of 10 m are 16 tiles of 320 m a side, all of which pass a threshold of 0."""
    *steps, made = asker.map(dates, tmp_path, TILE)
    assert steps == [(0, 16), (16, 16)]
    assert isinstance(made, SceneMap)
    assert made.areas == [pytest.approx(320.0**2, rel=1e-3)] * 16
    assert sorted(path.name for path in made.files) == ["change.tif", "changes.geojson", "map.html"]
    assert sorted(path.name for path in made.files[0].parent.iterdir()) == [
        "change.tif",
        "changes.geojson",
        "map.html",
    ]


def test_map_does_not_tell_where_the_server_keeps_its_files(asker, dates, tmp_path):
    """Its notes did, on the page and in the files to take along, for rasters that are warped."""
    finer = rasterio.transform.from_origin(rasters.LEFT, rasters.TOP, 8, 8)
    warped = rasters.write(dates[0].parent / "finer.tif", rasters.scene(2), transform=finer)
    *_, made = asker.map([dates[0], warped], tmp_path, TILE)
    assert "finer.tif is warped onto the first date's grid." in made.notes
    assert not [path for path in made.files if bytes(tmp_path) in path.read_bytes()]


def test_map_that_takes_too_long_is_ended_without_leftovers(processor, dates, tmp_path):
    asker = Asker(tiny_model(processor), processor, None, Limits(map_seconds=-1))
    with pytest.raises(InputError, match="stopped after -1 seconds, with 0 of 16 tiles"):
        list(asker.map(dates, tmp_path, TILE))
    assert list(tmp_path.iterdir()) == [dates[0].parent]


def test_map_ends_when_its_visitor_leaves(asker, dates, tmp_path):
    steps = asker.map(dates, tmp_path, TILE)
    assert next(steps) == (0, 16)
    steps.close()
    asker.thread.submit(int).result()
    assert list(tmp_path.iterdir()) == [dates[0].parent]


def test_map_waits_for_the_answer_before_it(processor, dates, tmp_path):
    """The network is in one thread only."""
    asker, _ = talkative(processor, 20)
    threads = set()
    asker.network.register_forward_hook(lambda *_: threads.add(threading.current_thread().name))
    asker.network.model.vision_tower.register_forward_hook(lambda *_: threads.add(threading.current_thread().name))
    answers = asker.ask("picture", [picture(1)], "What?", clue=False)
    next(answers)
    assert isinstance([*asker.map(dates, tmp_path, TILE)][-1], SceneMap)
    assert list(answers)[-1].has_ended
    assert len(threads) == 1


def test_rasters_that_do_not_overlap_are_told_without_folders(asker, dates, tmp_path):
    far = rasterio.transform.from_origin(600_000, 5_000_000, 10, 10)
    other = rasters.write(tmp_path / "dates" / "far.tif", rasters.scene(2), transform=far)
    with pytest.raises(InputError, match=r"far\.tif") as told:
        list(asker.map([dates[0], other], tmp_path, TILE))
    assert str(tmp_path) not in str(told.value)
    assert list(tmp_path.iterdir()) == [dates[0].parent]


# -- the command line -------------------------------------------------------------------------------------------------
def test_nobody_imports_the_command_line():
    """The page took two functions from `unirs map`'s module, and `unirs app` its socket from `unirs serve`'s."""
    root = Path(__file__).parents[1]
    folders = ("modeling_unirs", "processing", "trainers", "evaluation", "geo", "hub", "src/unirs")
    importing = {
        str(path.relative_to(root))
        for folder in folders
        for path in (root / folder).rglob("*.py")
        if re.search(
            r"^ *(from|import) (\.+|unirs\.|.*import )cli(_\w+)?\b", path.read_text(encoding="utf-8"), re.MULTILINE
        )
    }
    # the package's own door, and the two that gather commands
    assert importing == {"src/unirs/__main__.py", "src/unirs/cli.py", "src/unirs/cli_data.py"}


@pytest.mark.parametrize("command", ["serve", "app"])
def test_a_megapixel_is_a_million_pixels(unirs, monkeypatch, command):
    """It was 2**20 for one of the two."""
    if command == "app":
        pytest.importorskip("gradio", reason="gradio is not installed: pip install 'unirs[app]'")
    seen = {}

    def stop(**limits):
        seen.update(limits)
        raise InputError("seen")

    monkeypatch.setattr(f"unirs.{'serving' if command == 'serve' else 'app'}.limits.Limits", stop)
    assert unirs(command, "--max-megapixels", 3) == (2, "", "unirs: seen\n")
    assert seen["pixels"] == 3_000_000


@pytest.mark.parametrize(
    ("host", "shown", "own"),
    [("127.0.0.1", "127.0.0.1", True), ("::1", "[::1]", True), ("0.0.0.0", "0.0.0.0", False), ("::", "[::]", False)],
)
def test_a_server_on_loopback_answers_to_its_own_names_alone(host, shown, own):
    assert address(host, 8000) == f"http://{shown}:8000"
    names = {"127.0.0.1", "localhost", "::1", "[::1]"}
    assert own_names(host) == (names if own else None)


def test_a_model_is_called_by_its_folder_or_its_id(tmp_path):
    (tmp_path / "mine").mkdir()
    named = [served_name(one) for one in (None, str(tmp_path / "mine"), "someone/theirs")]
    assert named == ["unirs-tiny", "mine", "someone/theirs"]
