"""Which rows have their answer: on the disk as soon as it is known, in the table's order at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unirs.trainers.data_sets import DataError
from unirs.trainers.journal import JournalFile


class Ledger(JournalFile):
    """The journal of a table: a line for each row as it is answered, in any order.

    Rows with an error are asked again by the next run, and so are rows whose words or pictures are others now; where
    the id alone is another, the answer stays. An answer outlives an error behind it: pictures of a disk that was away
    may be back. Memory holds 17 bytes for each row of the table, and ids that changed.

    Args:
        path: The journal.
        settings: What answers depend on.
        count: Rows of the table.

    Raises:
        DataError: As `JournalFile`.
    """

    holds = "answers"

    def __init__(self, path: Path, settings: dict[str, Any], count: int):
        super().__init__(path, settings)
        self.places = np.full(count, -1, np.int64)  # of each row's last line in the journal
        self.keys = np.zeros(count, np.uint64)
        self.failed = np.zeros(count, bool)
        self.new_ids: dict[int, str] = {}  # by row, where the journal has another
        self.begun_with = 0  # rows that had their answer before this run
        for place, line in self.lines():
            try:
                if 1 <= line["row"] <= count and line["error"] is None:  # the table may be shorter now
                    self._note(line, place)
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(f"{path}, at byte {place}: is no line of answers; remove the line") from error
        self.begun_with = self.done

    def _note(self, line: dict[str, Any], place: int) -> None:
        index = line["row"] - 1
        self.places[index], self.keys[index] = place, int(line["key"] or "0", 16)
        self.failed[index] = line["error"] is not None

    def has(self, number: int, key: str, id: str) -> bool:
        """Whether the row has an answer to this very question. If it is another now, its old answer is forgotten.

        Args:
            id: The row's, by which the answer goes from now on.
        """
        if self.places[number - 1] < 0:
            return False
        if self.keys[number - 1] != int(key, 16):
            self.places[number - 1] = -1
            return False
        if self.at(int(self.places[number - 1]))["id"] != id:
            self.new_ids[number] = id
        return True

    def add(self, lines: Sequence[dict[str, Any]]) -> None:
        """Lines of the output, each with the `key` of its question."""
        for line, place in zip(lines, self.write(lines), strict=True):
            self._note(line, place)

    @property
    def done(self) -> int:
        return int((self.places >= 0).sum())

    @property
    def errors(self) -> int:
        return int(self.failed.sum())

    def first_error(self) -> dict[str, Any]:
        """The line of the first row that has one."""
        return self.at(int(self.places[self.failed.argmax()]))

    def in_order(self) -> Iterator[dict[str, Any]]:
        """Lines of the output by the table's rows.

        Raises:
            DataError: Not every row was asked.
        """
        if (self.places < 0).any():
            row = int((self.places < 0).argmax()) + 1
            raise DataError(f"row {row} was not there when it was to be asked: the table was changed; run it again")
        for number, place in enumerate(self.places, 1):
            line = self.at(int(place))
            line["id"] = self.new_ids.get(number, line["id"])
            del line["key"]
            yield line
