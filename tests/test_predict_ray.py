"""`unirs predict --engine ray`: the same answers from several processes, also when one of them dies."""

import json
import os
import signal
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from unirs.evaluation.asking import Asked
from unirs.evaluation.models import Said
from unirs.trainers.data_sets import DataError

from tests.predicting import (  # noqa: F401 - fixtures
    NEW_TOKENS,
    expected_answers,
    failing_at,
    folder,
    lines_of,
    table,
    write_table,
)
from unirs.cli_predict import load
from unirs.predicting.ledger import Ledger
from unirs.predicting.running import answer_table
from unirs.predicting.table import Table

pytest.importorskip("ray", reason="ray is not installed: pip install 'unirs[ray]'")


@pytest.fixture
def local_ray(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))  # workers unpickle what tests define
    monkeypatch.setenv("RAY_worker_niceness", "0")  # 15 is for ever on a busy machine


@pytest.fixture
def engine(local_ray):
    """Starts an engine on this machine."""
    from unirs.predicting.ray_engine import RayEngine

    started = []

    def start(load, batch_size=2, workers=2):
        started.append(RayEngine(load, batch_size, NEW_TOKENS, workers))
        return started[0]

    yield start
    for one in started:
        one.close()


def noting_load(model, pids):
    """As the command loads, and leaves the process's number for whoever wants to kill it."""

    def loaded():
        (pids / str(os.getpid())).touch()
        return load(str(model), False, None, None)

    return loaded


def test_worker_killed_in_the_middle_costs_no_row(engine, table, folder, tmp_path):  # noqa: F811
    pids = tmp_path / "pids"
    pids.mkdir()
    killed = []

    def progress(done, total):
        if done >= 4 and not killed:
            killed.extend(sorted(pids.iterdir())[:1])
            os.kill(int(killed[0].name), signal.SIGKILL)

    asking = engine(noting_load(folder, pids))
    rows = Table(str(table))
    with closing(Ledger(tmp_path / "journal", asking.settings, len(rows))) as ledger:
        answer_table(rows, asking, ledger, progress=progress)
        lines = [line["row"] for _, line in ledger.lines()]
        assert sorted(lines) == list(range(1, len(rows) + 1))  # none twice
        assert [line["answer"] for line in ledger.in_order()] == expected_answers(table, folder)
    assert len(list(pids.iterdir())) == 3  # two workers, and the one that took the place of the dead


@pytest.mark.parametrize(
    ("machines", "workers", "each"),
    [
        ([2], 1, 2),
        ([2], 2, 1),
        ([2], 3, 0.5),
        ([8], 3, 2),
        ([2, 6], 2, 3),
        ([2, 6], 3, 2),
        ([2, 6], 9, 0.5),
        ([1], 3, 0.3333),
    ],
)
def test_all_workers_find_room(machines, workers, each):
    from unirs.predicting.ray_engine import processors_each

    assert processors_each(machines, workers) == each
    assert sum(int(processors / each + 1e-9) for processors in machines) >= workers


def test_more_workers_than_processors_start_and_answer(engine, table, folder, tmp_path):  # noqa: F811
    asking = engine(partial(load, str(folder), False, None, None), workers=(os.cpu_count() or 1) + 1)
    rows = Table(str(table))
    with closing(Ledger(tmp_path / "journal", asking.settings, len(rows))) as ledger:
        answer_table(rows, asking, ledger)
        assert [line["answer"] for line in ledger.in_order()] == expected_answers(table, folder)


def test_workers_that_do_not_start_or_hold_other_models_are_told(engine, folder, tmp_path, monkeypatch):  # noqa: F811
    from unirs.predicting import ray_engine

    def another():
        network, settings = load(str(folder), False, None, None)
        return network, settings | {"model_sha256": os.getpid()}

    with pytest.raises(DataError, match="hold different models; copy the same folder"):
        engine(another)
    monkeypatch.setattr(ray_engine, "START_SECONDS", 0.5)
    with pytest.raises(DataError, match="2 workers of Ray did not start within 0 minutes; give fewer --workers"):
        engine(partial(load, str(folder), False, None, None))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nonsense", "host:abc"])
def test_cluster_that_is_not_there_is_told_at_once(engine, folder, monkeypatch, address):  # noqa: F811
    """Ray looked for it for a quarter of an hour; what is no address was a traceback."""
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(DataError, match=f"RAY_ADDRESS is {address}, and no cluster of Ray answers there"):
        engine(partial(load, str(folder), False, None, None))


@pytest.fixture
def engine_of(monkeypatch):
    """An engine without Ray. Each worker answers so many batches; then it is dead, and cannot start again."""
    from unirs.predicting.ray_engine import RayEngine, ray

    class Died(ray.exceptions.ActorDiedError):
        def __str__(self):
            return "The actor died because of an error raised in its creation task\nOSError: no space left on device"

    class Worker:
        def __init__(self, most):
            self.most, self.answer = most, self

        def remote(self, rows):
            self.most -= 1
            return partial(self.result, rows, self.most < 0)

        def result(self, rows, is_dead):
            if is_dead:
                raise Died
            return [Asked(row, Said("yes")) for row in rows], None

    def start(*most):
        found = object.__new__(RayEngine)
        found.workers = [Worker(one) for one in most]
        return found

    monkeypatch.setattr(ray, "get", lambda asked: asked())
    monkeypatch.setattr(ray, "wait", lambda running: (running[:1], running[1:]))
    return start


def answered_by(engine):
    return [asked for found in engine.answers(iter([[2 * n, 2 * n + 1] for n in range(6)])) for asked in found]


@pytest.mark.parametrize("most", [(2, 99), (99, 2), (0, 99)])
def test_rows_of_a_worker_that_cannot_start_again_are_answered_by_others(engine_of, most):
    """They, and all that came after them, got the error "its worker dies of it"."""
    found = answered_by(engine_of(*most))
    assert sorted(asked.question for asked in found) == list(range(12))
    assert not any(asked.error for asked in found)


def test_last_worker_that_cannot_start_again_ends_the_run(engine_of):
    with pytest.raises(
        DataError, match=r"no worker of Ray is left; .*: OSError: no space left on device; the answers"
    ):
        answered_by(engine_of(2, 1))


def test_ray_that_does_not_start_is_one_sentence(monkeypatch):
    """Where others kept the machine busy it was a traceback."""
    from unirs.predicting.ray_engine import RayEngine, ray

    asked = []

    def late(address, **options):
        asked.append(address)
        raise Exception("The current node timed out during startup.\nThis could happen because ...")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", late)
    with pytest.raises(DataError, match="Ray does not start: The current node timed out during startup"):
        RayEngine(lambda: None, 2, NEW_TOKENS)
    # with no address Ray took the last one noted down in /tmp, and waited a quarter of an hour where that is gone
    assert asked == ["local"]


def test_row_that_kills_its_worker_is_the_only_one_with_an_error(engine, folder, tmp_path):  # noqa: F811
    table = write_table(tmp_path, 6)  # noqa: F811
    expected = expected_answers(table, folder)
    table.write_text(table.read_text().replace("Question 2", "Poison 2"))

    def fragile():
        model, settings = load(str(folder), False, None, None)
        generate = model.generate

        def crashing(prepared, max_new_tokens):
            if any("Poison" in prompt for prompt in prepared.prompts):
                os._exit(1)
            return generate(prepared, max_new_tokens)

        model.generate = crashing
        return model, settings

    asking = engine(fragile, batch_size=6, workers=1)
    rows = Table(str(table))
    with closing(Ledger(tmp_path / "journal", asking.settings, len(rows))) as ledger:
        answer_table(rows, asking, ledger)
        found = list(ledger.in_order())
    assert [row["error"] is None for row in found] == [True, True, False, True, True, True]
    assert "its worker dies of it" in found[2]["error"]
    assert [row["answer"] for row in found if not row["error"]] == expected[:2] + expected[3:]


def failing_load(model, questions, error):
    """As the command loads; the model then fails at some questions."""

    def loaded():
        network, settings = load(str(model), False, None, None)
        network.generate = partial(failing_at(type(network).generate, error, questions), network)
        return network, settings

    return loaded


def test_row_that_the_model_fails_at_is_the_only_one_with_an_error(engine, table, folder, tmp_path):  # noqa: F811
    asking = engine(failing_load(folder, ["Question 5"], IndexError("index out of range")), batch_size=4)
    rows = Table(str(table))
    with closing(Ledger(tmp_path / "journal", asking.settings, len(rows))) as ledger:
        answer_table(rows, asking, ledger)
        found = list(ledger.in_order())
    assert [row["row"] for row in found if row["error"]] == [6]
    assert found[5]["error"] == "the model fails at it even alone (IndexError: index out of range)"
    expected = expected_answers(table, folder)
    assert [row["answer"] for row in found] == [*expected[:5], None, *expected[6:]]


def test_model_that_fails_at_one_row_after_another_ends_the_run(engine, table, folder, tmp_path):  # noqa: F811
    later = [f"Question {number}" for number in range(4, 18)]
    asking = engine(failing_load(folder, later, RuntimeError("the device is gone")), batch_size=2, workers=1)
    rows = Table(str(table))
    with closing(Ledger(tmp_path / "journal", asking.settings, len(rows))) as ledger:
        with pytest.raises(DataError, match=r"failed 10 times in a row, .* RuntimeError: the device is gone"):
            answer_table(rows, asking, ledger)
        answered = {line["row"]: line["answer"] for _, line in ledger.lines() if line["error"] is None}
    expected = expected_answers(table, folder)
    assert answered == {number: expected[number - 1] for number in range(1, 5)}


def test_command_gives_what_the_local_engine_gives(unirs, table, folder, local_ray, tmp_path):  # noqa: F811
    words = ["predict", table, "--model", folder, "--max-new-tokens", NEW_TOKENS, "--output"]
    assert unirs(*words, "local.jsonl")[0] == 0
    code, out, err = unirs(*words, "ray.jsonl", "--engine", "ray", "--workers", "2", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["answered"] == len(lines_of(table))
    told = ("row", "id", "answer", "score", "error")
    local, by_ray = (
        [[row[name] for name in told] for row in lines_of(tmp_path / name)] for name in ("local.jsonl", "ray.jsonl")
    )
    assert by_ray == local
    code, _, err = unirs(*words, "out.jsonl", "--workers", "2")
    assert (code, "add --engine ray" in err) == (2, True)
