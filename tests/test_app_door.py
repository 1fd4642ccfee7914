"""The web page's door, asked by programs: no file of the machine, no address, no other site gets through it."""

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager

import pytest

from tests.tiny import picture, tiny_model

pytest.importorskip("gradio", reason="gradio is not installed: pip install 'unirs[app]'")
from starlette.responses import PlainTextResponse

from tests.serving import png, running
from unirs.app.door import Door
from unirs.app.limits import Limits
from unirs.app.uploads import Uploads

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


def ask(page, method, path, body=None, **headers):
    """Status and body; the path goes as it is, with its dots."""
    connection = http.client.HTTPConnection(page[0], timeout=30)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace")
    finally:
        connection.close()


def upload(page, content, name="scene.png", **headers):
    mark = uuid.uuid4().hex
    head = f'--{mark}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    body = head.encode() + content + f"\r\n--{mark}--\r\n".encode()
    kind = f"multipart/form-data; boundary={mark}"
    return ask(page, "POST", "/gradio_api/upload", body, Content_Type=kind, **headers)


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


def test_large_and_odd_requests_are_refused_with_a_sentence(page):
    assert ask(page, "POST", "/gradio_api/upload", b"", Content_Length="2000000") == (
        413,
        "The upload has more than 1 MB.",
    )
    assert event(page, "ask_about_picture", None, "x" * 2**20, False) == (413, "The request is too large.")
    for body in ("{", "[" * 100_000, b"\xff"):
        status, _ = ask(page, "POST", "/gradio_api/queue/join", body, Content_Type="application/json")
        assert status == 400


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


def test_a_full_folder_takes_no_more(tmp_path):
    async def behind(scope, receive, send):
        if scope["type"] == "http":
            await PlainTextResponse("taken")(scope, receive, send)

    with running(Door(behind, Uploads(tmp_path, Limits(folder_bytes=1000)), None)) as address:
        page = (address.removeprefix("http://"), tmp_path)
        assert upload(page, b"x") == (200, "taken")
        (tmp_path / "scene.png").write_bytes(bytes(1000))
        assert upload(page, b"x") == (503, "The page holds as many uploads as it may. Try again later.")


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
    assert (code, err) == (2, "unirs: the page needs more packages (gradio): pip install 'unirs[app]'\n")
