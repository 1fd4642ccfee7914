"""Small tables of every kind for tests, and what a model says of their rows when it is asked by other means."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from unirs.evaluation.models import load_model

from tests.tiny import picture, save_tiny_model
from tests.training import ROOT

NEW_TOKENS = 6
COUNT = 18
SLOW = (
    "import sys, time; from unirs.predicting.ledger import Ledger; add = Ledger.add\n"
    "Ledger.add = lambda self, lines: (add(self, lines), time.sleep(0.3))\n"  # time to be killed in
    "from unirs import cli; sys.argv = ['unirs', 'predict', *sys.argv[1:]]; cli.main()"
)


def predict_until_killed(words, folder, journal, lines):
    """`unirs predict WORDS` in `folder`, killed as soon as `journal` has that many lines."""
    command = [sys.executable, "-c", SLOW, *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        until = time.monotonic() + 600  # a machine may be busy
        while not journal.exists() or journal.read_bytes().count(b"\n") < lines:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < until
            time.sleep(0.02)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()


def write_table(folder, count):
    """Singles, pairs, sequences and clips (as pictures) in turn, with pictures of noise beside the file."""
    rows = []
    for number in range(count):
        names = [f"{number}_{place}.png" for place in range(4)]
        kind = number % 4
        needed = (1, 2, 3, 4)[kind]
        for place, name in enumerate(names[:needed]):
            picture(100 * number + place, 20 + number % 7, 28).save(folder / name)
        visuals = (
            {"image": names[0]},
            {"before": names[0], "after": names[1]},
            {"images": names[:3]},
            {"images": names},
        )[kind]
        rows.append({"id": f"row-{number}", "question": f"Question {number}" + "?" * (number % 3), **visuals})
    file = folder / "table.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def chat_of(row, folder):
    """The conversation of a row, written by hand."""
    names = row.get("images") or [row[name] for name in ("image", "before", "after") if name in row]
    items = [{"type": "image", "image": str(folder / name)} for name in names]
    return [{"role": "user", "content": [*items, {"type": "text", "text": row["question"]}]}]


def expected_answers(table, model):
    """Every row asked on its own."""
    asked = load_model(str(model))
    rows = map(json.loads, table.read_text().splitlines())
    return [asked.answer([chat_of(row, table.parent)], NEW_TOKENS)[0] for row in rows]


def lines_of(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def failing_at(method, error, questions):
    """A model's `prepare` or `generate` that fails if one of the questions is among those of the batch."""

    def fails(self, batch, max_new_tokens):
        shown = batch.prompts if hasattr(batch, "prompts") else [chat[-1]["content"][-1]["text"] for chat in batch]
        if any(re.search(rf"\b{question}\b", words) for question in questions for words in shown):
            raise error
        return method(self, batch, max_new_tokens)

    return fails


@pytest.fixture(scope="module")
def folder(processor, tmp_path_factory):
    """A tiny UniRS, saved."""
    return save_tiny_model(processor, tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_table(tmp_path_factory.mktemp("table"), COUNT)


@pytest.fixture(scope="module")
def expected(table, folder):
    return expected_answers(table, folder)


@pytest.fixture
def predict(unirs, folder):
    def run(table, output, *more):
        words = ("--model", folder, "--output", output, "--max-new-tokens", NEW_TOKENS)
        return unirs("predict", table, *words, *more)

    return run


def answers(rows):
    return [row["answer"] for row in rows]
