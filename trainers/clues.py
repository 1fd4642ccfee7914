"""Clues for a whole data set: asked once, in batches, and kept, whatever stops the run in between."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..modeling_unirs.prompt_augmentation_unirs import Clue, Conversation
from .data_sets import DataError, DataSet
from .feature_cache import identity
from .rows import Row, add_clue, items_of, visuals_of

OFTEN = 1000  # rows without a question of their own that are written together


class Augmenter(Protocol):
    """The part of `PromptAugmenter` that is used here."""

    def question(self, conversation: Conversation) -> Conversation | Clue: ...

    def encode(self, questions: list[Conversation], **options: Any) -> Any: ...

    def ask(self, inputs: Any) -> list[Clue]: ...


@dataclass(frozen=True)
class Found:
    """The clue of a row: None where it has none, and `failure` says why; rows count from 0."""

    row: int
    id: str
    clue: str | None
    failure: str | None = None


class Journal:
    """Clues as they come, one JSON object a line, behind a first line that says what they were made with.

    Each batch is on the disk before the next one is asked. A line that was cut by a kill is taken off and asked again;
    so are failures, whose cause may have been mended.

    Raises:
        DataError: The file was made with other settings.
    """

    def __init__(self, path: Path, settings: dict[str, Any]):
        self.path = path
        self.found: dict[int, Found] = {}
        whole = 0
        if path.exists():
            with path.open("rb") as file:
                lines = [line for line in file if line.endswith(b"\n")]
            whole = sum(map(len, lines))
            made_with, *rest = map(json.loads, lines) if lines else [settings]
            differ = [name for name in settings if made_with.get(name) != settings[name]]
            if differ:
                raise DataError(
                    f"{path}: was begun with another {differ[0]} ({made_with.get(differ[0])!r}, now "
                    f"{settings[differ[0]]!r}); go on with that one, or remove the file to start anew"
                )
            for one in rest:
                self.found[one["row"]] = Found(**one)
        self.found = {row: one for row, one in self.found.items() if not one.failure}
        self.file = path.open("ab")
        self.file.truncate(whole)
        if not whole:
            self._write([settings])

    def add(self, found: list[Found]) -> None:
        self._write([vars(one) for one in found])
        self.found.update((one.row, one) for one in found)

    def _write(self, values: list[dict[str, Any]]) -> None:
        self.file.write(b"".join(json.dumps(one, ensure_ascii=False).encode() + b"\n" for one in values))
        self.file.flush()
        os.fsync(self.file.fileno())

    def close(self) -> None:
        self.file.close()

    def remove(self) -> None:
        self.close()
        self.path.unlink()


@dataclass(frozen=True)
class _Asked:
    """A question that all rows with the same pictures share."""

    key: tuple
    question: Conversation


def find_clues(
    data: DataSet,
    augmenter: Augmenter,
    journal: Journal,
    batch_size: int = 8,
    progress: Callable[[int, int], None] = lambda done, total: None,
    **options: Any,
) -> dict[int, Found]:
    """Asks for the clue of every row that the journal has none for.

    Rows with the same pictures are asked once. A batch holds questions of one kind and always `batch_size` of them
    (the last one is filled up by repeating), so that a clue does not depend on what else is asked, or on where a run
    was stopped, to the last bit of arithmetic. The next batch's pictures are read while the model works.

    Args:
        progress: Is told rows done and rows in all.
        options: Of the processor, for instance `num_frames`.

    Returns:
        Every row by its number. Rows that have a clue keep it; rows without pictures, of a wrong form or with
        unreadable pictures have None and a failure.
    """
    waiting: dict[tuple, list[tuple[int, str]]] = {}  # rows by their question
    known: dict[tuple, Clue] = {}
    settled: list[Found] = []  # not yet in the journal

    def settle(place: int, name: str, clue: Clue) -> None:
        settled.append(Found(place, name, clue.text, clue.failure))

    def write() -> None:
        journal.add(settled)
        settled.clear()
        progress(len(journal.found), len(data))

    def questions() -> Iterator[_Asked]:
        for place in range(len(data)):
            try:
                row = data.row(place)
            except DataError as error:
                settle(place, "", Clue(None, str(error)))
                continue
            asked = augmenter.question(row["messages"])
            if place in journal.found:  # of a run that was stopped
                if not isinstance(asked, Clue):
                    known[_key(row)] = Clue(journal.found[place].clue)
            elif isinstance(asked, Clue):
                settle(place, row["id"], asked)
            elif (key := _key(row)) in known:
                settle(place, row["id"], known[key])
            elif key in waiting:
                waiting[key].append((place, row["id"]))
            else:
                waiting[key] = [(place, row["id"])]
                yield _Asked(key, asked)
            if len(settled) >= OFTEN:
                write()

    progress(len(journal.found), len(data))
    with ThreadPoolExecutor(1) as reader:
        for batch, encoded in _read_ahead(reader, _batches(questions(), batch_size), augmenter, batch_size, options):
            for one, clue in zip(batch, _answers(batch, encoded, augmenter, batch_size, options), strict=True):
                known[one.key] = clue
                for place, name in waiting.pop(one.key):
                    settle(place, name, clue)
            write()
    write()
    return journal.found


def _key(row: Row) -> tuple:
    """Equal for rows whose clue is the same: same pictures, in the same arrangement."""
    visuals = visuals_of(row["messages"])
    return tuple((one.kind, *map(identity, one.sources)) for one in visuals)


def _batches(questions: Iterable[_Asked], size: int) -> Iterator[list[_Asked]]:
    """Of as many pictures each: their prompts have one length."""
    started: dict[tuple, list[_Asked]] = {}
    for one in questions:
        kind = tuple(item["type"] for item in one.question[0]["content"])
        started.setdefault(kind, []).append(one)
        if len(started[kind]) == size:
            yield started.pop(kind)
    yield from started.values()


def _read_ahead(
    reader: ThreadPoolExecutor, batches: Iterator[list[_Asked]], augmenter: Augmenter, size: int, options: dict
) -> Iterator[tuple[list[_Asked], Any]]:
    """Each batch with its tensors, or with the error that a picture of it gave; one batch is read ahead."""

    def read(batch: list[_Asked]) -> Any:
        filled = [*batch, *batch[-1:] * (size - len(batch))]
        try:
            return augmenter.encode([one.question for one in filled], **options)
        except ValueError as error:
            return error

    ahead = None
    for batch in batches:
        job = (batch, reader.submit(read, batch))
        if ahead is not None:
            yield ahead[0], ahead[1].result()
        ahead = job
    if ahead is not None:
        yield ahead[0], ahead[1].result()


def _answers(batch: list[_Asked], encoded: Any, augmenter: Augmenter, size: int, options: dict) -> list[Clue]:
    if not isinstance(encoded, ValueError):
        return augmenter.ask(encoded)[: len(batch)]
    if len(batch) == 1:
        return [Clue(None, str(encoded))]
    found = []  # one picture is bad: the others are asked one by one
    for one in batch:
        try:
            found += augmenter.ask(augmenter.encode([one.question] * size, **options))[:1]
        except ValueError as error:
            found.append(Clue(None, str(error)))
    return found


# -- for training ----------------------------------------------------------------------------------------------------
class WithClues:
    """A data set whose rows get their clue from a table that `unirs data clues` made: JSONL of `id` and `clue`.

    Rows that have a clue of their own keep it; rows that the table does not know stay plain.
    """

    def __init__(self, data: DataSet, path: str | Path):
        self.data, self.name = data, data.name
        path = Path(path).expanduser()
        try:
            with path.open(encoding="utf-8") as file:
                rows = [json.loads(line) for line in file if line.strip()]
            self.clues = {str(one["id"]): one["clue"] for one in rows if one["clue"]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}: is no table of clues ({error}); make one with `unirs data clues` and --source"
            ) from error

    def __len__(self) -> int:
        return len(self.data)

    def row(self, index: int, repetition: int = 0) -> Row:
        row = self.data.row(index, repetition)
        # Some data sets number their answers in the id; the table knows the first.
        first = row["id"] if repetition == 0 else self.data.row(index)["id"]
        if first in self.clues and not items_of(row["messages"], "clue"):
            add_clue(row["messages"], self.clues[first])
        return row
