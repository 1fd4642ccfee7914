"""What a long run has done, kept line by line, so that it goes on after a kill."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..file_lock import lock
from .data_sets import DataError


class JournalFile:
    """Rows as they come, one JSON object a line, behind a first line that says what they were made with.

    What is written is on the disk when `write` returns. A line that was cut by a kill is taken off.

    Raises:
        DataError: The file was made with other settings, is none of ours, or another run is writing it.
    """

    holds = "rows"  # in messages

    def __init__(self, path: Path, settings: dict[str, Any]):
        self.path = path
        self.file = path.open("a+b")
        try:
            self._lock()
            self.start = self._begin(settings)
        except BaseException:
            self.file.close()
            raise

    def _begin(self, settings: dict[str, Any]) -> int:
        """Place of the first row; whatever was not ended is cut off."""
        self.file.seek(0)
        first = self.file.readline()
        if not first.endswith(b"\n"):
            if not _line(settings).startswith(first):
                raise DataError(
                    f"{self.path}: is no file of {self.holds}, and {self.holds} are kept there; move it away"
                )
            self.file.truncate(0)
            self.write([settings])
            return len(_line(settings))
        self._check(first, settings)
        whole = len(first)
        for line in self.file:
            whole += len(line) if line.endswith(b"\n") else 0
        self.file.truncate(whole)
        return len(first)

    def lines(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Place in the file, and row."""
        place = self.start
        self.file.seek(place)
        for line in self.file:
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(f"{self.path}, at byte {place}: is no JSON; remove the line") from error
            yield place, row
            place += len(line)

    def at(self, place: int) -> dict[str, Any]:
        self.file.seek(place)
        return json.loads(self.file.readline())

    def write(self, rows: Sequence[dict[str, Any]]) -> list[int]:
        """Appends rows; gives their places."""
        place = self.file.seek(0, os.SEEK_END)
        places, lines = [], []
        for row in rows:
            lines.append(_line(row))
            places.append(place)
            place += len(lines[-1])
        self.file.write(b"".join(lines))
        self.file.flush()
        os.fsync(self.file.fileno())
        return places

    def close(self) -> None:
        self.file.close()

    def _lock(self) -> None:
        if not lock(self.file.fileno(), self.path):
            raise DataError(f"{self.path}: another run is writing it; wait for that one")

    def _check(self, first: bytes, settings: dict[str, Any]) -> None:
        try:
            made_with = json.loads(first)
            differ = sorted(name for name in {*made_with, *settings} if made_with.get(name) != settings.get(name))
        except (ValueError, TypeError, AttributeError) as error:
            raise DataError(
                f"{self.path}: is no file of {self.holds}, and {self.holds} are kept there; move it away"
            ) from error
        if differ:
            before, now = (repr(one.get(differ[0]))[:80] for one in (made_with, settings))
            raise DataError(
                f"{self.path}: was begun with {differ[0]}={before}, and now it is {now}; go on with the first, or "
                "remove the file to start anew"
            )


def _line(values: dict[str, Any]) -> bytes:
    return json.dumps(values, ensure_ascii=False).encode() + b"\n"
