"""Clues for a whole data set: asked once, in batches, and kept, whatever stops the run in between."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..modeling_unirs.prompt_augmentation_unirs import Clue, Conversation, PromptAugmenter
from .data_sets import DataError, DataSet
from .feature_cache import identity
from .journal import JournalFile
from .rows import Row, add_clue, items_of, visuals_of

Progress = Callable[[int, int], None]
OFTEN = 1000  # rows without a question of their own that are written together


@dataclass(frozen=True)
class Found:
    """The clue of a row: None where it has none, and `failure` says why; rows count from 0.

    `question` names what was asked (its words and pictures), so that a changed row is asked again.
    """

    row: int
    id: str
    clue: str | None
    failure: str | None = None
    question: str = ""


class Journal(JournalFile):
    """The clues that are known already, by row. Failures, whose cause may have been mended, are not."""

    holds = "clues"

    def __init__(self, path: Path, settings: dict[str, Any]):
        super().__init__(path, settings)
        rows = [Found(**line) for _, line in self.lines()]
        self.found = {one.row: one for one in rows if not one.failure}

    def add(self, found: list[Found]) -> None:
        self.write([vars(one) for one in found])
        self.found.update((one.row, one) for one in found)


@dataclass(frozen=True)
class Asked:
    """A question that all rows with the same pictures share."""

    key: str
    question: Conversation


class Rows:
    """The rows of a data set on their way to their clues: who must be asked, who waits for another's answer."""

    def __init__(self, data: DataSet, augmenter: PromptAugmenter, journal: Journal, progress: Progress):
        self.data, self.augmenter, self.journal, self.progress = data, augmenter, journal, progress
        self.waiting: dict[str, list[tuple[int, str]]] = {}  # rows by their question
        self.known: dict[str, Clue] = {}
        self.settled: list[Found] = []  # not yet in the journal

    def questions(self) -> Iterator[Asked]:
        """Those that nobody has asked yet, in the order of the rows."""
        for place in range(len(self.data)):
            try:
                row = self.data.row(place)
            except DataError as error:
                self.settle(place, "", Clue(None, str(error)))
                continue
            asked = self.augmenter.question(row["messages"])
            key = "" if isinstance(asked, Clue) else question_key(asked)
            before = self.journal.found.get(place)
            if before is not None and (before.id, before.question) == (row["id"], key):  # of a run that was stopped
                if key:
                    self.known[key] = Clue(before.clue)
                    continue
                if isinstance(asked, Clue) and asked.text == before.clue:  # the row's own may be another one by now
                    continue
            self.journal.found.pop(place, None)
            if isinstance(asked, Clue):
                self.settle(place, row["id"], asked)
            elif key in self.known:
                self.settle(place, row["id"], self.known[key], key)
            elif key in self.waiting:
                self.waiting[key].append((place, row["id"]))
            else:
                self.waiting[key] = [(place, row["id"])]
                yield Asked(key, asked)
            if len(self.settled) >= OFTEN:
                self.write()

    def answered(self, one: Asked, clue: Clue) -> None:
        self.known[one.key] = clue
        for place, name in self.waiting.pop(one.key):
            self.settle(place, name, clue, one.key)

    def settle(self, place: int, name: str, clue: Clue, key: str = "") -> None:
        self.settled.append(Found(place, name, clue.text, clue.failure, key))

    def write(self) -> None:
        self.journal.add(self.settled)
        self.settled.clear()
        self.progress(len(self.journal.found), len(self.data))


def find_clues(
    data: DataSet,
    augmenter: PromptAugmenter,
    journal: Journal,
    batch_size: int = 8,
    progress: Progress = lambda done, total: None,
    **options: Any,
) -> dict[int, Found]:
    """Asks for the clue of every row that the journal has none for.

    Rows with the same pictures are asked once. A batch holds questions with equally many pictures and always
    `batch_size` of them (the last one is filled up by repeating), so that a clue does not depend on what else is
    asked, or on where a run was stopped, to the last bit of arithmetic. The next batch's pictures are read while the
    model works.

    Args:
        progress: Is told rows done and rows in all.
        options: Of the processor, for instance `num_frames`.

    Returns:
        Every row by its number. Rows that have a clue keep it; rows without pictures, of a wrong form or with
        unreadable pictures have None and a failure.

    Raises:
        RuntimeError: The base model fails, for want of memory for instance; what was answered is in the journal.
    """
    for place in [place for place in journal.found if place >= len(data)]:  # rows that were removed since
        del journal.found[place]
    rows = Rows(data, augmenter, journal, progress)
    asker = _Asker(augmenter, batch_size, options)
    rows.write()
    for batch, encoded in asker.read_ahead(_batches(rows.questions(), batch_size)):
        for one, clue in zip(batch, asker.clues(batch, encoded), strict=True):
            rows.answered(one, clue)
        rows.write()
    rows.write()
    return journal.found


def question_key(question: Conversation) -> str:
    """Equal for questions that have the same answer: the same words about the same pictures."""
    digest = hashlib.sha256(question[0]["content"][-1]["text"].encode())
    for one in visuals_of(question):
        kind = one.kind.encode() + b" dated" * one.dated  # all dates are shown, of a clip some frames
        digest.update(b"".join([kind, *(identity(source) + b"\0" for source in one.sources)]))
    return digest.hexdigest()[:32]


def _batches(questions: Iterable[Asked], size: int) -> Iterator[list[Asked]]:
    """Of as many pictures each: their prompts have one length (of clips that have all frames that are taken)."""
    started: dict[tuple, list[Asked]] = {}
    for one in questions:
        kind = tuple((visual.kind, len(visual.sources)) for visual in visuals_of(one.question))
        started.setdefault(kind, []).append(one)
        if len(started[kind]) == size:
            yield started.pop(kind)
    yield from started.values()


class _Asker:
    def __init__(self, augmenter: PromptAugmenter, size: int, options: dict[str, Any]):
        self.augmenter, self.size, self.options = augmenter, size, options

    def read_ahead(self, batches: Iterator[list[Asked]]) -> Iterator[tuple[list[Asked], Any]]:
        """Each batch with its tensors, or with the error that a picture of it gave; one batch is read ahead."""
        with ThreadPoolExecutor(1) as reader:
            ahead = None
            for batch in batches:
                job = (batch, reader.submit(self.read, batch))
                if ahead is not None:
                    yield ahead[0], ahead[1].result()
                ahead = job
            if ahead is not None:
                yield ahead[0], ahead[1].result()

    def read(self, batch: list[Asked]) -> Any:
        filled = [*batch, *batch[-1:] * (self.size - len(batch))]
        try:
            return self.augmenter.encode([one.question for one in filled], **self.options)
        except ValueError as error:
            return error

    def clues(self, batch: list[Asked], encoded: Any) -> list[Clue]:
        """Where a picture is bad or a prompt too long, the questions of the batch are asked one by one."""
        try:
            if isinstance(encoded, ValueError):
                raise encoded
            return self.augmenter.ask(encoded)[: len(batch)]
        except ValueError as error:
            if len(batch) == 1:
                return [Clue(None, str(error))]
        return [clue for one in batch for clue in self.clues([one], self.read([one]))]


# -- for training ----------------------------------------------------------------------------------------------------
class WithClues:
    """A data set whose rows get their clue from a table that `unirs data clues` made: JSONL of `id` and `clue`.

    Rows that have a clue of their own keep it; rows that the table does not know stay plain.
    """

    def __init__(self, data: DataSet, path: str | Path):
        self.data, self.name = data, data.name
        self.path = path = Path(path).expanduser()
        try:
            with path.open(encoding="utf-8") as file:
                rows = [json.loads(line) for line in file if line.strip()]
            self.clues = {str(one["id"]): str(one["clue"]) for one in rows if one["clue"]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}: is no table of clues ({error}); make one with `unirs data clues` and --source"
            ) from error

        self.known = sum(self.data.row(index)["id"] in self.clues for index in range(len(self.data)))
        if not self.known:
            raise DataError(f"{path}: knows none of the {len(self.data):,} rows of {self.name}; was it made of these?")

    def __len__(self) -> int:
        return len(self.data)

    def row(self, index: int, repetition: int = 0) -> Row:
        row = self.data.row(index, repetition)
        # Some data sets number their answers in the id; the table knows the first.
        first = row["id"] if repetition == 0 else self.data.row(index)["id"]
        if first in self.clues and not items_of(row["messages"], "clue"):
            add_clue(row["messages"], self.clues[first])
        return row
