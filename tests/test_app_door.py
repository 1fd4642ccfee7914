"""The web page's door, asked by programs: no file of the machine, no address, no other site gets through it."""

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from tests.tiny import picture, tiny_model

pytest.importorskip("gradio", reason="gradio is not installed: pip install 'unirs[app]'")
from tests.serving import png, running
from tests.visiting import ask, form, upload
from unirs.app.limits import Limits
from unirs.extras import install_command

LIMITS = Limits(upload_bytes=2**20, pixels=100 * 100)
SECRET = "not for visitors"
SETTINGS = ("GRADIO_ANALYTICS_ENABLED", "GRADIO_TEMP_DIR", "GRADIO_EXAMPLES_CACHE", "HF_HUB_DISABLE_TELEMETRY")


@contextmanager
def opened(processor, folder, limits):
    """Address and folder of a page in this process; all its files are gone when it has ended."""
    from unirs.app.serving import application

    with pytest.MonkeyPatch.context() as patch:
        for name in SETTINGS:
            patch.setenv(name, "")  # so that it is put back
        patch.setattr("tempfile.tempdir", str(folder))
        made = application(tiny_model(processor), processor, None, "tiny", limits, hosts={"127.0.0.1"})
        with made as app, running(app) as address:
            yield address.removeprefix("http://"), folder
        assert list(folder.iterdir()) == []


@pytest.fixture(scope="module")
def secret(tmp_path_factory):
    file = tmp_path_factory.mktemp("private") / "secret.txt"
    file.write_text(SECRET)
    return file


@pytest.fixture(scope="module")
def page(processor, tmp_path_factory):
    with opened(processor, tmp_path_factory.mktemp("app"), LIMITS) as found:
        yield found


def event(page, name, *values, session="one"):
    """Joins the queue for one of the page's events, as its own script does."""
    config = json.loads(ask(page, "GET", "/config")[1])
    number = next(one["id"] for one in config["dependencies"] if one["api_name"] == name)
    asked = {"data": values, "fn_index": number, "session_hash": session, "trigger_id": None}
    return ask(page, "POST", "/gradio_api/queue/join", json.dumps(asked), Content_Type="application/json")


def given(path, **more):
    return {"path": str(path), "orig_name": "x.png", "meta": {"_type": "gradio.FileData"}, **more}


def outcome(page, session="one"):
    """What the page is sent of an event, up to its end."""
    connection = http.client.HTTPConnection(page[0], timeout=30)
    connection.request("GET", f"/gradio_api/queue/data?session_hash={session}")
    answer, sent = connection.getresponse(), ""
    while "process_completed" not in sent and (line := answer.readline()):
        sent += line.decode()
    connection.close()
    return sent


def test_uploaded_picture_is_answered(page):
    """The requests below would be refused for nothing if this one were not taken."""
    status, body = upload(page, png(picture(1)))
    assert status == 200
    status, _ = event(page, "ask_about_picture", given(json.loads(body)[0]), "What?", False)
    assert status == 200
    assert "class='answer'" in outcome(page)


@pytest.mark.parametrize(
    "name",
    ["{secret}", "//{secret}", "{uploads}/{relative}", "{uploads}/{dotted}", "file://{secret}", "{uploads}/link",
     "/etc/passwd", "%2Fetc%2Fpasswd"],
)  # fmt: skip
def test_no_file_outside_the_uploads_is_served(page, secret, name):
    uploads = next(page[1].glob("*/uploads"))
    link = uploads / "link"
    if not link.is_symlink():
        link.symlink_to(secret)
    relative = os.path.relpath(secret, uploads)
    names = {"secret": secret, "uploads": uploads, "relative": relative, "dotted": relative.replace("..", "%2e%2e")}
    status, body = ask(page, "GET", f"/gradio_api/file={name.format(**names)}")
    assert status == 403
    assert SECRET not in body
    assert "root:" not in body


@pytest.mark.parametrize("name", ["show_picture", "ask_about_picture", "show_frames"])
def test_no_file_outside_the_uploads_is_read(page, secret, name):
    """A mounted Gradio copies whatever a request names into the folder that it serves."""
    values = {"show_picture": (), "ask_about_picture": ("What?", False), "show_frames": (4,)}[name]
    uploads = next(page[1].glob("*/uploads"))
    for path in (str(secret), f"{uploads}/{os.path.relpath(secret, uploads)}", "/etc/passwd", 3):
        for one in (given(path), {"path": path}, [given(path)], {"deeper": [[given(path)]]}):
            assert event(page, name, one, *values)[0] == 403
    assert not list(page[1].rglob("secret.txt"))


def test_no_address_is_fetched(page):
    """Gradio downloads what a request names by URL."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.settimeout(0.5)
        url = f"http://127.0.0.1:{other.getsockname()[1]}/scene.png"
        assert event(page, "ask_about_picture", given(url), "What?", False)[0] == 403
        assert event(page, "ask_about_picture", given(url, url=url), "What?", False)[0] == 403
        assert ask(page, "GET", f"/gradio_api/file={url}")[0] == 403
        assert ask(page, "GET", f"/gradio_api/proxy={url}")[0] == 404
        with pytest.raises(TimeoutError):
            other.accept()


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/gradio_api/run/ask_about_picture"), ("POST", "/gradio_api/call/ask_about_picture"),
     ("POST", "/gradio_api/component_server"), ("POST", "/gradio_api/vibe-edit"), ("POST", "/login"),
     ("GET", "/monitoring"), ("GET", "/gradio_api/runs"), ("GET", "/gradio_api/deep_link"), ("PUT", "/"),
     ("GET", "/gradio_api/dev/reload"), ("GET", "/docs"), ("GET", "/custom_component/x")],
)  # fmt: skip
def test_other_routes_of_gradio_are_closed(page, method, path):
    assert ask(page, method, path, "{}", Content_Type="application/json")[0] == 404


def test_other_names_and_other_sites_are_refused(page):
    assert ask(page, "GET", "/", Host="evil.example")[0] == 403
    assert upload(page, png(picture(1)), Origin="http://evil.example")[0] == 403
    assert upload(page, png(picture(1)), Origin=f"http://{page[0]}")[0] == 200


def test_upload_that_falls_silent_is_ended_behind_gradio_too(page, monkeypatch, caplog):
    """Its reader of forms is stopped in the midst of a file, and the visitor is told why."""
    monkeypatch.setattr("unirs.app.door.SECONDS_OF_SILENCE", 1.0)
    body, kind = form(bytes(100_000))
    slow = http.client.HTTPConnection(page[0], timeout=30)
    slow.putrequest("POST", "/gradio_api/upload")
    for name, value in {"Content-Type": kind, "Content-Length": str(len(body))}.items():
        slow.putheader(name, value)
    slow.endheaders(body[:1000])
    answer = slow.getresponse()
    assert (answer.status, answer.read()) == (408, b"The upload fell silent, or came slower than 50 kB a second.")
    assert "Traceback" not in caplog.text
    assert upload(page, png(picture(1)))[0] == 200


def test_large_and_odd_requests_are_refused_with_a_sentence(page):
    assert ask(page, "POST", "/gradio_api/upload", b"", Content_Length="2000000") == (
        413,
        "The upload has more than 1 MB.",
    )
    assert event(page, "ask_about_picture", None, "x" * 2**20, False) == (
        413,
        "The request has more than 1,048,576 bytes.",
    )
    for body in ("{", "[" * 100_000, b"\xff"):
        status, _ = ask(page, "POST", "/gradio_api/queue/join", body, Content_Type="application/json")
        assert status == 400


@pytest.mark.parametrize(
    ("name", "values", "sentence"),
    [("ask_about_picture", (None, 3, False), "The question is text."),
     ("ask_about_picture", (None, "What?", "yes"), "The box for clues is either ticked or not."),
     ("ask_about_clip", (None, "a", "", False), "The number of frames is a number from 1 to 55."),
     ("show_frames", ([], 1e300), "The number of frames is a number from 1 to 55."),
     ("make_map", (None, None, 6, 0.5, True, False), "The side of a tile is a number from 32 to 1024."),
     ("make_map", (None, None, 33.5, 0.5, True, False), "The side of a tile is a whole number."),
     ("make_map", (None, None, 256, 2, True, False), "The score is a number from 0 to 1.")],
)  # fmt: skip
def test_values_that_no_field_allows_are_told(page, name, values, sentence, caplog):
    """Gradio holds a slider's range against nobody who sends raw values.

    The tiny model reads 1,024 tokens: 55 frames, and twice the longest answer.
    """
    session = f"odd{abs(hash((name, str(values))))}"
    assert event(page, name, *values, session=session)[0] == 200
    assert sentence in outcome(page, session)
    assert "Traceback" not in caplog.text


def test_examples_of_every_tab_outlive_the_uploads(processor, tmp_path):
    """Gradio forgets its copies of some examples, and its own clean-up took them away."""
    with opened(processor, tmp_path, Limits(kept_seconds=1)) as page:
        shown = {path for path in tmp_path.glob("*/uploads/**/*") if path.is_file()}
        assert {"scene-1.png", "before-1.png", "after-2.png"} <= {path.name for path in shown}
        for name in ("one.png", "two.png"):  # one is gone: all have been looked at
            upload(page, png(picture(1)), name)
            until = time.monotonic() + 30
            while list(tmp_path.rglob(name)):
                assert time.monotonic() < until
                time.sleep(0.1)
        assert all(path.exists() for path in shown)
        for number, names in enumerate(("scene-2.png", "after-2.png", "clip-2.mp4")):
            event(page, f"choose_example{f'_{number}' if number else ''}", 1, session=f"tab{number}")
            assert names in outcome(page, f"tab{number}")
        event(page, "choose_example_3", "nonsense", session="map")
        path = re.search(r'"path": ?"([^"]+town_2024-05-01.tif)"', outcome(page, "map"))[1]
        assert ask(page, "GET", f"/gradio_api/file={path}")[0] == 200


def test_uploads_are_removed_after_their_time(processor, tmp_path):
    with opened(processor, tmp_path, Limits(kept_seconds=1)) as page:
        path = json.loads(upload(page, png(picture(1)))[1])[0]
        assert os.path.exists(path)
        until = time.monotonic() + 30
        while os.path.exists(path):
            assert time.monotonic() < until
            time.sleep(0.1)
        event(page, "ask_about_picture", given(path), "What?", False)
        assert "The file has been removed" in outcome(page)


def test_answers_that_nobody_comes_for_are_not_kept(page, monkeypatch):
    """A pair's has up to 6 MB; they were kept for 2,000 sessions, and of one session without end."""
    monkeypatch.setattr("unirs.app.door.SECONDS_TO_LISTEN", 0.5)
    event(page, "choose_example", 0, session="heard")
    assert "process_completed" in outcome(page, "heard")
    event(page, "choose_example", 0, session="unheard")
    time.sleep(1.5)
    assert "process_completed" not in outcome(page, "unheard")
    event(page, "choose_example", 0, session="unheard")  # who comes back is answered
    assert "process_completed" in outcome(page, "unheard")
    nameless = json.dumps({"data": [], "fn_index": 0})
    assert ask(page, "POST", "/gradio_api/queue/join", nameless, Content_Type="application/json") == (
        400,
        "The request names no session.",
    )


# -- the command ------------------------------------------------------------------------------------------------------
def test_help_does_not_load_gradio():
    code = "import sys, unirs.cli; sys.exit('gradio' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_missing_package_and_taken_port_are_one_line(unirs, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = unirs("app", "--port", port)
    assert (code, err.count("\n")) == (2, 1)
    assert re.search(rf"cannot listen on 127.0.0.1:{port}", err)
    monkeypatch.setattr("unirs.cli_app.importlib.util.find_spec", lambda name: None)
    code, _, err = unirs("app")
    assert (code, err) == (2, f"unirs: the page needs more packages (gradio): {install_command('app')}\n")
