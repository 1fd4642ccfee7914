"""A table or a folder, record by record: one that cannot be read is told, and the next one follows."""

from __future__ import annotations

import csv
import io
import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from unirs.given import CLIPS, PICTURES, PICTURES_OR_CLIPS, ending
from unirs.trainers.data_sets import DataError

from .stores import exists, file_system, is_remote, open_file, parent, reason, without_scheme

VISUALS = ("image", "before", "after", "images", "video")
COLUMNS = ("id", *VISUALS, "question", "clue")
WANTED = "image, before and after, images, or video"
KINDS = "CSV (.csv, .tsv), JSONL (.jsonl), Parquet (.parquet), or a folder of pictures and clips"
DELIMITERS = ",;\t"
LONGEST_FIELD = 2**27  # characters of a CSV field: a picture as a data URI
LONGEST_LINE = 2**29  # bytes of a line of JSON, of several
LONGEST_RECORD = 10_000  # lines of a record of CSV: where a quote is not closed, as many are read again
PARQUET_ROWS = 32  # read at a time: rows may hold whole pictures


@dataclass(frozen=True)
class Record:
    """A line of the table; where `error` says why it is none, `values` is empty. Numbers count from 1."""

    number: int
    values: dict[str, Any]
    error: str | None = None

    @property
    def id(self) -> str:
        """The table's own, or else the number."""
        given = self.values.get("id")
        if isinstance(given, bytes):  # of Parquet, where a column of text is not marked as such
            given = given.decode(errors="replace")
        return str(self.number if given is None or given == "" else given).encode(errors="replace").decode()


class Table:
    """Records of a file or folder, from the start each time. `len` counts them by one pass (of Parquet it is known).

    Args:
        path: Local, or of a store that fsspec knows.

    Attributes:
        unread: Columns that nothing is taken from; of lines of JSON, the first line's.

    Raises:
        DataError: It is not there, of no known kind, holds no rows, or has no column of pictures.
    """

    def __init__(self, path: str):
        self.path = path.rstrip("/") if is_remote(path) else without_scheme(path)
        files, place = file_system(self.path)
        try:
            self.is_folder = files.isdir(place)
        except Exception as error:  # each store has its own kinds
            raise DataError(f"{path}: cannot be read ({reason(error)}); check the store's credentials") from error
        if not self.is_folder and not exists(self.path):
            raise DataError(f"{path}: no such file or folder; check the path")
        self.base = self.path if self.is_folder else parent(self.path)
        self.kind = "folder" if self.is_folder else ending(self.path)
        if self.kind not in ("folder", ".csv", ".tsv", ".jsonl", ".ndjson", ".parquet"):
            raise DataError(f"{path}: its kind is not known; give {KINDS}")
        self._check_columns()
        self.count = self._count()
        if not self.count:
            raise DataError(f"{path}: holds no {'pictures or clips' if self.is_folder else 'rows'}; check the path")

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Record]:
        try:
            yield from self._records()
        except Exception as error:  # each store has its own kinds
            if isinstance(error, DataError) or not is_remote(self.path):
                raise
            raise DataError(
                f"{self.path}: cannot be read to its end ({reason(error)}); run the command again"
            ) from error

    def _records(self) -> Iterator[Record]:
        if self.is_folder:
            return self._of_folder()
        if self.kind == ".parquet":
            return self._of_parquet()
        return self._of_json_lines() if self.kind in (".jsonl", ".ndjson") else self._of_csv()

    def _count(self) -> int:
        if self.kind == ".parquet":
            with open_file(self.path) as file:
                return pq.ParquetFile(file).metadata.num_rows
        return sum(1 for _ in self)

    def _check_columns(self) -> None:
        if self.kind == ".parquet":
            with open_file(self.path) as file:
                try:
                    names = pq.ParquetFile(file).schema_arrow.names
                except (pa.ArrowException, OSError) as error:
                    raise DataError(f"{self.path}: is no whole Parquet file; write it again") from error
        elif self.kind in (".csv", ".tsv"):
            with self._csv() as text:
                try:
                    names = _head(next(self._reader(text)[0], []))
                except csv.Error as error:
                    raise DataError(f"{self.path}: its head is no line of CSV ({error}); mend it") from error
        else:  # lines of JSON each have their own
            first = next(iter(self), None) if not self.is_folder else None
            self.unread = [name for name in first.values if name not in COLUMNS] if first else []
            return
        for name in COLUMNS:
            if names.count(name) > 1:
                raise DataError(f"{self.path}: has {names.count(name)} columns named {name}; leave one")
        self.unread = [name for name in names if name not in ("", *COLUMNS)]  # pandas' index has no name
        if not set(names) & set(VISUALS):
            if any("\udc80" <= letter <= "\udcff" for letter in "".join(names)):
                raise DataError(f"{self.path}: its head is no UTF-8 text; save the table as UTF-8")
            raise DataError(
                f"{self.path}: has the columns {', '.join(names[:20]) or '(none)'}; pictures belong into {WANTED}"
            )

    @cached_property
    def _in_folder(self) -> list[str]:
        """Each picture and clip below the folder, hidden ones left out, by name.

        Listed once: a file that comes later would push the last one out of the rows that were counted.
        """
        files, place = file_system(self.path)
        root = place.rstrip("/")
        names = sorted(one[len(root) + 1 :] for one in files.find(root))
        shown = [one for one in names if not any(part.startswith(".") for part in one.split("/"))]
        return [one for one in shown if ending(one) in PICTURES | PICTURES_OR_CLIPS | CLIPS]

    def _of_folder(self) -> Iterator[Record]:
        for number, name in enumerate(self._in_folder, 1):
            yield Record(number, {"id": name, "video" if ending(name) in CLIPS else "image": name})

    def _of_json_lines(self) -> Iterator[Record]:
        number = 0
        with open_file(self.path) as file:
            for line in _bounded_lines(file):
                if line is not None and not line.strip():
                    continue
                number += 1
                if line is None:
                    yield Record(number, {}, f"has more than {LONGEST_LINE:,} bytes")
                    continue
                try:
                    values = json.loads(line)
                except (ValueError, RecursionError) as error:
                    yield Record(number, {}, f"is no JSON ({reason(error)})")
                    continue
                if isinstance(values, dict):
                    yield Record(number, values)
                else:
                    yield Record(number, {}, "is no JSON object")

    def _of_csv(self) -> Iterator[Record]:
        with self._csv() as text:
            reader, lines = self._reader(text)
            names = _head(next(reader))
            number = 0
            while True:
                lines.begin()
                wrong = ""
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    wrong = f"is no line of CSV ({error}; {lines.where()})"
                else:
                    if not cells:
                        continue
                    if len(cells) != len(names):
                        wrong = f"has {len(cells)} cells, and the head has {len(names)} ({lines.where()})"
                number += 1
                if wrong:
                    lines.put_back()
                    yield Record(number, {}, wrong)
                else:
                    yield Record(number, dict(zip(names, cells, strict=True)))

    def _of_parquet(self) -> Iterator[Record]:
        number = 0
        with open_file(self.path) as file:
            try:
                table = pq.ParquetFile(file)
                names = [name for name in table.schema_arrow.names if name in COLUMNS]
                for batch in table.iter_batches(PARQUET_ROWS, columns=names):
                    for place in range(batch.num_rows):
                        number += 1
                        yield _of_row(number, batch.slice(place, 1))
            except (pa.ArrowException, OSError) as error:
                raise DataError(f"{self.path}, behind row {number}: is damaged ({reason(error)})") from error

    def _csv(self) -> io.TextIOWrapper:
        # What is no UTF-8 becomes half characters, which its own row is refused for.
        return io.TextIOWrapper(open_file(self.path), "utf-8-sig", errors="surrogateescape", newline="")

    def _reader(self, text: io.TextIOWrapper) -> tuple[Any, _Lines]:
        csv.field_size_limit(LONGEST_FIELD)
        head = text.readline(100_000)
        text.seek(0)
        lines = _Lines(text)
        # Strict: or a quote that is not closed would make one cell of all lines behind it.
        return csv.reader(lines, delimiter=max(DELIMITERS, key=head.count), strict=True), lines


class _Lines:
    """Lines of a text for a reader of CSV: those behind the first of a record that is none can be read again.

    Attributes:
        taken: Lines of the record that is being read.
        first: Number of its first one, from 1.
    """

    def __init__(self, text: io.TextIOWrapper):
        self.text, self.again = text, deque[str]()
        self.taken: list[str] = []
        self.first = 1

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if len(self.taken) == LONGEST_RECORD:
            raise csv.Error(f"a quote is not closed within {LONGEST_RECORD:,} lines")
        line = self.again.popleft() if self.again else next(self.text)
        self.taken.append(line)
        return line

    def begin(self) -> None:
        """The next line is the first of a record."""
        self.first += len(self.taken)
        self.taken.clear()

    def put_back(self) -> None:
        """Of a record that is none only the first line is lost: a quote that is not closed makes it of good ones."""
        self.again.extendleft(reversed(self.taken[1:]))
        del self.taken[1:]

    def where(self) -> str:
        last = self.first + len(self.taken) - 1
        return f"line {self.first} of the file" + (f", read on to line {last}" if last > self.first else "")


def _head(cells: list[str]) -> list[str]:
    """Names of columns: a space behind a comma belongs to none."""
    return [cell.strip() for cell in cells]


def _bounded_lines(file: IO[bytes]) -> Iterator[bytes | None]:
    """Lines, None for each that is longer than LONGEST_LINE: a file without line ends is not read into memory."""
    buffered = io.BufferedReader(file)  # type: ignore[type-var]  # fsspec's own files read no part of a line
    while line := buffered.readline(LONGEST_LINE + 1):
        if len(line) <= LONGEST_LINE or line.endswith(b"\n"):
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = buffered.readline(2**20)
        yield None


def _of_row(number: int, batch: pa.RecordBatch) -> Record:
    """A single row of Parquet: text that is no UTF-8, or a time that Python has none for, harms no other row."""
    try:
        return Record(number, batch.to_pylist()[0])
    except (pa.ArrowException, ValueError, OverflowError) as error:
        return Record(number, {}, f"cannot be read ({reason(error)})")
