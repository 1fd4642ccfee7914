"""Paths and small models that many tests share."""

import signal
import sys
from pathlib import Path

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # by a shell that put pytest into the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what tests start is to heed Ctrl-C

SHARED = Path(__file__).resolve().parents[2] / "shared"
REFERENCE = SHARED / "reference"
DATA = SHARED / "data"


def pytest_collection_modifyitems(items):
    """`reference` and `data` mark what needs the oracles and the real pictures, which do not ship."""
    for item in items:
        for name, folder in (("reference", REFERENCE), ("data", DATA)):
            if name in item.keywords and not folder.is_dir():
                item.add_marker(pytest.mark.skip(reason=f"{folder} is not on this machine"))


@pytest.fixture(scope="session")
def tokenizer():
    """A sentencepiece-style fast tokenizer of bytes and a few words, with the markers."""
    from tests.tiny import tiny_tokenizer

    return tiny_tokenizer()


@pytest.fixture(scope="session")
def processor(tokenizer):
    from tests.tiny import tiny_processor

    return tiny_processor(tokenizer)


@pytest.fixture
def model(processor):
    from tests.tiny import tiny_model

    return tiny_model(processor)


@pytest.fixture(scope="module")
def checkpoint(processor, tmp_path_factory):
    """The tiny model in a folder, as `--model` takes it."""
    from tests.tiny import tiny_model

    path = tmp_path_factory.mktemp("model") / "checkpoint"
    tiny_model(processor).save_pretrained(path)
    processor.save_pretrained(path)
    return str(path)


@pytest.fixture
def unirs(monkeypatch, capsys, tmp_path):
    """Runs a command in this process: exit code, lines of stdout, lines of stderr."""
    from unirs import cli

    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["unirs", *map(str, words)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run
