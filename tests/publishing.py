"""A small model to publish, and the command in a process of its own, for tests."""

import os
import subprocess
import sys

import pytest

from tests.tiny import save_tiny_model


@pytest.fixture(scope="module")
def source(processor, tmp_path_factory):
    """A saved model without scores and records."""
    return save_tiny_model(processor, tmp_path_factory.mktemp("source") / "model")


def run_unirs(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "unirs", *map(str, arguments)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "NO_PROXY": "127.0.0.1", **environment},
        timeout=240,
    )
