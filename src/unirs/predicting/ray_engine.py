"""Batches answered by several processes, on one machine or many, through Ray: one actor for each worker."""

from __future__ import annotations

import itertools
import logging
import math
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import ray

from unirs.evaluation.asking import Asked
from unirs.evaluation.models import ImageTextModel, Said
from unirs.trainers.data_sets import DataError

from .rows import TableRow
from .running import LocalEngine
from .stores import reason

AHEAD = 2  # batches that a worker has: one is read while the other is answered
RETRIES = 2  # of a batch whose worker died
CONNECT_SECONDS = 10
START_SECONDS = 1800  # for all workers to load the model: others may keep the cluster busy
Load = Callable[[], tuple[ImageTextModel, dict[str, Any]]]
Answered = tuple[list[Asked[TableRow]], str | None]  # what became of a batch, and why its worker is of no more use


class Worker:
    """One process: its own model, and a thread more, which reads the next batch meanwhile."""

    def __init__(self, load: Load, batch_size: int, max_new_tokens: int, bands: str | None):
        model, self.settings = load()
        self.asker = LocalEngine(model, batch_size, max_new_tokens, bands)
        self.answering = threading.Lock()

    def made_with(self) -> dict[str, Any]:
        return self.settings

    def answer(self, rows: list[TableRow]) -> Answered:
        batch = self.asker.prepare(rows)
        with self.answering:
            return self.asker.ask(batch), self.asker.broken


class RayEngine:
    """Shares batches out among workers, the next one to whoever is free.

    A worker that dies is started again and gets its batches once more; one that cannot start again is left out. The
    rows of a batch that kills its worker each time are asked alone at the end, so that only the bad one gets an error.

    Ray is the running cluster that `RAY_ADDRESS` names, or one on this machine; `close` gives it back.

    Args:
        load: Loads the model, in each worker, and tells what its answers depend on.
        batch_size: Rows asked at a time.
        workers: Default: one for each accelerator that Ray knows, or one.
        bands: Of local rasters; by default the usual ones.

    Raises:
        DataError: Ray does not start or is not at `RAY_ADDRESS`, or a worker cannot load the model.
    """

    def __init__(
        self,
        load: Load,
        batch_size: int,
        max_new_tokens: int,
        workers: int | None = None,
        bands: str | None = None,
    ):
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers
        # By default Ray would join what another user has started, or wait for what it noted down and is gone.
        address = os.environ.get("RAY_ADDRESS") or "local"
        _check_cluster(address)
        try:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
        except Exception as error:  # bare, for a machine too busy to start it in half a minute
            raise DataError(
                f"Ray does not start: {reason(error).rstrip('.')}; mend the cause, or leave --engine ray out"
            ) from error
        accelerators = int(ray.cluster_resources().get("GPU", 0))
        count = workers or accelerators or 1
        if accelerators:
            resources = {"num_gpus": 1 / math.ceil(count / accelerators)}
        else:
            resources = {"num_cpus": processors_each(_processors(), count)}
        self.batch_size = batch_size
        remote: Any = ray.remote(Worker).options(
            max_restarts=-1, max_task_retries=RETRIES, max_concurrency=AHEAD, **resources
        )
        self.workers = [remote.remote(load, batch_size, max_new_tokens, bands) for _ in range(count)]
        try:
            self.settings = self._loaded()
        except DataError:
            ray.shutdown()
            raise

    def _loaded(self) -> dict[str, Any]:
        """What all workers have loaded."""
        asked = [worker.made_with.remote() for worker in self.workers]
        try:
            first, *others = ray.get(asked, timeout=START_SECONDS)
        except ray.exceptions.GetTimeoutError as error:
            raise DataError(
                f"{len(asked)} workers of Ray did not start within {START_SECONDS / 60:.0f} minutes; "
                "give fewer --workers, or wait until the cluster is free"
            ) from error
        except ray.exceptions.RayError as error:
            last = _last_line(error)
            raise DataError(f"a worker of Ray cannot load the model: {last}; is it there on every machine?") from error
        if any(other != first for other in others):
            raise DataError("workers of Ray hold different models; copy the same folder to every machine")
        return first

    def answers(self, batches: Iterator[list[TableRow]]) -> Iterator[list[Asked[TableRow]]]:
        """What became of each batch, in the order of their ends.

        Raises:
            DataError: The model or the machine of a worker fails, whatever it is asked; or no worker is left.
        """
        free = self.workers * AHEAD
        running: dict[Any, tuple[Any, list[TableRow]]] = {}
        suspect: list[TableRow] = []  # of batches that killed their worker, or were there when it died
        while True:
            while free and (rows := next(batches, None)):
                worker = free.pop(0)
                running[worker.answer.remote(rows)] = worker, rows
            if not running:
                break
            (done, *_), _ = ray.wait(list(running))
            worker, rows = running.pop(done)
            try:
                answered = _result(done)
            except ray.exceptions.ActorDiedError as error:
                self._leave_out(worker, error)
                free = [one for one in free if one in self.workers]
                suspect += rows
                continue
            free.append(worker)
            if answered is None:
                suspect += rows
            else:
                yield from _told(answered)
        for row in suspect:  # with nothing beside them, so that only the guilty get an error
            dead = [Asked(row, Said(""), error="its worker dies of it; look at its pictures")]
            yield from _told(self._alone(row) or (dead, None))

    def _alone(self, row: TableRow) -> Answered | None:
        """What became of a row; None if its worker died of it, each time."""
        while True:
            worker = self.workers[0]
            try:
                return _result(worker.answer.remote([row]))
            except ray.exceptions.ActorDiedError as error:
                self._leave_out(worker, error)

    def _leave_out(self, worker: Any, error: Exception) -> None:
        """A worker that died and could not start again.

        Raises:
            DataError: It was the last one.
        """
        self.workers = [one for one in self.workers if one is not worker]
        if not self.workers:
            raise DataError(
                f"no worker of Ray is left; the last one cannot start again: {_last_line(error)}; the answers are "
                "kept: mend the cause, and run the command again"
            ) from error

    def close(self) -> None:
        ray.shutdown()


def _check_cluster(address: str) -> None:
    """Before Ray does: it looks a quarter of an hour for a cluster that is not there.

    Raises:
        DataError: Nobody listens there, or it is no address.
    """
    place = address.removeprefix("ray://")
    if place in ("auto", "local") or "://" in place:  # Ray's own to find, or to start
        return
    try:
        found = urlsplit(f"//{place}")
        if found.port is None:
            raise ValueError("it has no port")
        socket.create_connection((found.hostname, found.port), CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise DataError(
            f"RAY_ADDRESS is {address}, and no cluster of Ray answers there ({error}); give HOST:PORT of its head "
            "node, or unset it for workers on this machine"
        ) from error


def _processors() -> list[int]:
    """Of each machine."""
    return [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]


def processors_each(machines: Sequence[int], workers: int) -> float:
    """How many processors a worker may have, so that all of them find room.

    Args:
        machines: Processors of each.
    """
    for whole in range(max(machines, default=0), 0, -1):
        if sum(processors // whole for processors in machines) >= workers:
            return whole
    share = next(n for n in itertools.count(2) if max(1, sum(machines)) * n >= workers)  # workers of one processor
    return math.floor(10_000 / share) / 10_000  # Ray counts in ten thousandths


def _told(answered: Answered) -> Iterator[list[Asked[TableRow]]]:
    """What became of a batch; then, once that is kept, the end if its worker is of no more use."""
    found, broken = answered
    yield found
    if broken:
        raise DataError(broken)


def _result(done: Any) -> Answered | None:
    """What became of a batch; None if its worker died of it, each time.

    Raises:
        ActorDiedError: Its worker died, and cannot start again.
        RuntimeError: A fault of the worker that is none of its model's.
    """
    try:
        return ray.get(done)
    except ray.exceptions.ActorDiedError:
        raise
    except (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError):
        return None
    except ray.exceptions.RayTaskError as error:
        raise RuntimeError(str(error.cause)) from error


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]
