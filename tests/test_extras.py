"""What a message tells to install leads back to where this installation came from; UniRS is on no package index."""

import json
import shlex
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from unirs import extras
from unirs.extras import install_command

ROOT = Path(__file__).parents[1]


class Installed:
    def __init__(self, told: str | None):
        self.told = told

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return self.told


def told(monkeypatch, text: str | None) -> str:
    monkeypatch.setattr(extras, "distributions", lambda name: [Installed(None), Installed(text)])
    return install_command("geo")


def test_this_checkout_is_named_by_its_folder():
    words = shlex.split(install_command("geo"))
    assert words[:2] == ["pip", "install"]
    assert Path(words[-1].removesuffix("[geo]")) == ROOT


@pytest.mark.parametrize("folder", ["/home/a/UniRS", "/home/with blanks/it's"])
def test_a_folder_is_one_word_for_the_shell(monkeypatch, folder):
    url = Path(folder).as_uri()
    command = told(monkeypatch, json.dumps({"url": url, "dir_info": {}}))
    assert shlex.split(command) == ["pip", "install", f"{folder}[geo]"]
    command = told(monkeypatch, json.dumps({"url": url, "dir_info": {"editable": True}}))
    assert shlex.split(command) == ["pip", "install", "-e", f"{folder}[geo]"]


def test_a_repository_is_named_with_its_commit(monkeypatch):
    vcs = {"vcs": "git", "commit_id": "0123abcd"}
    command = told(monkeypatch, json.dumps({"url": "https://example.org/unirs.git", "vcs_info": vcs}))
    wanted = Requirement(shlex.split(command)[-1])  # pip's own reading of it
    assert (wanted.name, wanted.extras) == ("unirs", {"geo"})
    assert wanted.url == "git+https://example.org/unirs.git@0123abcd"
    told_more = {"url": "https://example.org/all.git", "vcs_info": vcs, "subdirectory": "unirs"}
    assert told(monkeypatch, json.dumps(told_more)).endswith(".git@0123abcd#subdirectory=unirs'")


def test_a_wheel_is_named_where_it_lay(monkeypatch):
    """As the container has it: the index is no place to look."""
    url = "file:///wheels/unirs-0.1.0-py3-none-any.whl"
    command = told(monkeypatch, json.dumps({"url": url, "archive_info": {}}))
    wanted = Requirement(shlex.split(command)[-1])
    assert (wanted.name, wanted.extras, wanted.url) == ("unirs", {"geo"}, url)


@pytest.mark.parametrize("text", [None, "", "{half"])
def test_an_index_is_assumed_where_nothing_is_told(monkeypatch, text):
    assert told(monkeypatch, text) == "pip install 'unirs[geo]'"
