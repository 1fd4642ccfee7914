"""Asks every row of a table that has no answer yet, and writes the output when all have one."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from unirs.evaluation.asking import Asked, Asker
from unirs.evaluation.models import READERS, ImageTextModel, Said
from unirs.evaluation.visuals import Messages
from unirs.trainers.data_sets import DataError

from .ledger import Ledger
from .rows import TableRow, fetched, read_row, with_rasters
from .stores import is_remote
from .table import Table

Progress = Callable[[int, int], None]
BAD_ROWS = 1000  # that are written together
WAITING = 64  # batches of rows that wait for others of their shape


class Engine(Protocol):
    """What answers batches, in any order."""

    batch_size: int

    def answers(self, batches: Iterator[list[TableRow]]) -> Iterable[list[Asked[TableRow]]]: ...


class LocalEngine(Asker[TableRow]):
    """The model in this process.

    Args:
        bands: Of local rasters; by default the usual ones.
    """

    def __init__(self, model: ImageTextModel, batch_size: int, max_new_tokens: int, bands: str | None = None):
        self.bands = bands
        self.pool = ThreadPoolExecutor(READERS)
        super().__init__(model, batch_size, max_new_tokens, self.chats)

    def chats(self, rows: Sequence[TableRow]) -> list[Messages]:
        """Chats with what lies in stores fetched and rasters read."""
        return list(self.pool.map(partial(with_rasters, bands=self.bands), rows, fetched(rows, self.pool)))

    def close(self) -> None:
        self.pool.shutdown()


def answer_table(
    table: Table,
    engine: Engine,
    ledger: Ledger,
    question: str | None = None,
    base: str | None = None,
    clue: bool = False,
    progress: Progress = lambda done, total: None,
) -> None:
    """Asks all rows that the ledger has no answer for; rows that cannot be asked get an error.

    Args:
        question: For rows without words.
        base: Folder that paths are relative to, in place of the table's.
        clue: Whether lines have `clue` and `no_clue`.
        progress: Is told rows done and rows in all.

    Raises:
        DataError: The model or the machine fails, whatever is asked; what is answered is in the ledger.
    """
    total = len(table)
    base = base or table.base
    if not is_remote(base):
        base = os.path.join(os.getcwd(), base)  # workers of Ray may stand in another folder
    progress(ledger.done, total)
    bad: list[Asked[TableRow]] = []

    def write(found: list[Asked[TableRow]]) -> None:
        ledger.add([line_of(one, clue) for one in found])
        progress(ledger.done, total)

    def rows() -> Iterator[TableRow]:
        for record in table:
            if record.number > total:  # it has grown since
                return
            try:
                row = read_row(record, base, question)
            except DataError as error:
                bad.append(Asked(TableRow(record.number, record.id, [], ""), Said(""), error=str(error)))
                if len(bad) >= BAD_ROWS:
                    write(bad)
                    bad.clear()
                continue
            if not ledger.has(row.number, row.key, row.id):
                yield row

    for found in engine.answers(batches(rows(), lambda: engine.batch_size)):
        write(found)
    write(bad)


def batches(rows: Iterator[TableRow], size: Callable[[], int]) -> Iterator[list[TableRow]]:
    """Of one shape each; made one by one, since the size may shrink."""
    started: dict[tuple, list[TableRow]] = {}
    for row in rows:
        shape = row.shape
        started.setdefault(shape, []).append(row)
        if len(started[shape]) >= size():
            yield started.pop(shape)
        elif sum(map(len, started.values())) > WAITING * size():
            yield started.pop(max(started, key=lambda one: len(started[one])))
    yield from started.values()


def line_of(asked: Asked[TableRow], clue: bool) -> dict[str, Any]:
    """A line of the output, and the key of its question for the journal."""
    row, said = asked.question, asked.said
    if said.score is not None and math.isnan(said.score):  # JSON has no such number, and the words are of no sense
        asked = replace(asked, error="the model's numbers are none (NaN); look at its weights, or try --dtype float32")
    error = asked.error and asked.error.encode(errors="replace").decode()  # may quote a name that is no UTF-8
    known: dict[str, Any] = {"answer": None, "score": None, "seconds": None, "error": error}
    if not asked.error:
        score = None if said.score is None else round(said.score, 6)
        known |= {"answer": said.text, "score": score, "seconds": round(asked.seconds, 4)}
        if "in_training_domain" in row.reading:
            known["in_training_domain"] = row.reading["in_training_domain"]
    clues = {"clue": said.clue, "no_clue": said.no_clue} if clue else {}
    return {"row": row.number, "id": row.id, **known, **clues, "key": row.key}
