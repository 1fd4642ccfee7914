"""`unirs publish --push`: one commit of exactly the folder, to a hub on this machine."""

# ruff: noqa: F811 - tests take the imported fixture by its name

import base64
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForImageTextToText

from tests.publishing import run_unirs, source  # noqa: F401 - a fixture


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's HTTP interface as an upload uses; every file goes into the commit itself."""

    calls: list
    commits: list

    def reply(self, body, code=200):
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        self.server.calls.append(self.path)
        names = ["SHA256SUMS", "stale.py", "config.json", "theirs.bin"]
        if "/tree/" in self.path:
            self.reply([{"type": "file", "path": name, "oid": "0" * 40, "size": 1} for name in names])
        elif "/resolve/" in self.path:
            self.send_sums()
        else:
            siblings = [{"rfilename": name} for name in names]
            self.reply({"id": "me/unirs", "sha": "0" * 40, "siblings": siblings, "private": True})

    def do_HEAD(self):
        self.send_sums()

    def send_sums(self):
        """What an earlier push left."""
        content = "".join(f"{'0' * 64}  {name}\n" for name in ("stale.py", "config.json", "gone.py")).encode()
        self.send_response(200)
        self.send_header("ETag", '"0123"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.server.calls.append(self.path)
        if self.headers["Authorization"] != "Bearer hf_secret":
            return self.reply({"error": "Invalid username or password."}, 401)
        if self.path.endswith("/repos/create"):
            self.server.created = json.loads(body)
            return self.reply({"url": "https://huggingface.co/me/unirs", "name": "me/unirs", "id": "me/unirs"})
        if "/preupload/" in self.path:
            files = [one["path"] for one in json.loads(body)["files"]]
            modes = [{"path": one, "uploadMode": "regular", "shouldIgnore": False} for one in files]
            return self.reply({"files": modes})
        if "/commit/" in self.path:
            self.server.commits.append([json.loads(line) for line in body.splitlines()])
            address = "https://huggingface.co/me/unirs/commit/0123"
            return self.reply({"commitUrl": address, "commitOid": "0123", "hookOutput": "", "success": True})
        return self.reply({})

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.calls, server.commits = [], []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def push_to(hub, tmp_path, source, *options, token="hf_secret"):
    return run_unirs(
        *("publish", source, tmp_path / "out", "--no-check", "--push", "me/unirs", *options),
        HF_ENDPOINT=f"http://127.0.0.1:{hub.server_port}",
        HF_TOKEN=token,
        HF_HOME=str(tmp_path / "hf"),
        HF_HUB_OFFLINE="0",
        HF_HUB_DISABLE_XET="1",
    )


def test_a_push_is_one_commit_of_exactly_the_folder(hub, source, tmp_path):
    done = push_to(hub, tmp_path, source, "--private", "--revision", "v1")
    assert done.returncode == 0, done.stderr
    assert "https://huggingface.co/me/unirs/commit/0123" in done.stdout
    assert hub.created.get("visibility") == "private" or hub.created.get("private")
    assert any(path.endswith("/branch/v1") for path in hub.calls)
    assert [path for path in hub.calls if "/commit/" in path] == ["/api/models/me/unirs/commit/v1"]
    sent = {one["value"]["path"]: one["value"] for one in hub.commits[0] if one["key"] == "file"}
    folder = tmp_path / "out"
    assert {name: base64.b64decode(one["content"]) for name, one in sent.items()} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }
    # neither what is not there any more, nor what somebody else put there
    assert [one["value"]["path"] for one in hub.commits[0] if one["key"] == "deletedFile"] == ["stale.py"]
    assert (
        'from_pretrained("me/unirs"' in (folder / "README.md").read_text()
        or '"me/unirs"' in (folder / "README.md").read_text()
    )


def test_a_dry_run_lists_exactly_the_folder_and_asks_the_hub_nothing(hub, source, tmp_path):
    done = push_to(hub, tmp_path, source, "--dry-run")
    assert done.returncode == 0, done.stderr
    listed = dict(reversed(line.split()) for line in done.stdout.splitlines() if re.match(r"\s+[\d,]+  \S+$", line))
    assert {name: int(size.replace(",", "")) for name, size in listed.items()} == {
        path.name: path.stat().st_size for path in (tmp_path / "out").iterdir()
    }
    assert hub.calls == []


def test_a_refused_push_is_one_line_and_the_folder_stays(hub, source, tmp_path):
    done = push_to(hub, tmp_path, source, token="hf_wrong")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "hf auth login" in done.stderr
    again = f"unirs publish {tmp_path / 'out'} --push me/unirs"
    assert again in done.stderr
    settings = {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_TOKEN": "hf_secret", "HF_HUB_OFFLINE": "0"}
    done = run_unirs(*again.split()[1:], **settings)
    assert done.returncode == 0, done.stderr
    assert len(hub.commits) == 1
    (tmp_path / "out" / "README.md").write_text("mine")
    done = run_unirs(*again.split()[1:], **settings)
    assert (done.returncode, len(hub.commits)) == (2, 1)
    assert "README.md" in done.stderr


def test_an_adapter_over_a_folder_of_this_machine_is_not_pushed(hub, source, tmp_path):
    """Whoever downloaded it could not load it."""
    network = get_peft_model(
        AutoModelForImageTextToText.from_pretrained(source),
        LoraConfig(r=2, target_modules=r".*language_model.*\.(q_proj|v_proj)"),
    )
    network.save_pretrained(tmp_path / "lora")
    done = push_to(hub, tmp_path, tmp_path / "lora")
    assert done.returncode == 2
    assert f"lora: sits on {source}, a folder of this machine; push that too" in done.stderr
    assert (hub.calls, (tmp_path / "out").exists()) == ([], False)
