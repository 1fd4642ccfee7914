"""The answers as JSONL or Parquet, local or in a store: whole, or not there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from unirs.given import check_writable, ending
from unirs.terminal import InputError
from unirs.trainers.data_sets import DataError

from .stores import check_bucket, exists, file_system, is_remote, reason

CHUNK = 10_000  # rows of a Parquet row group
FIELDS = [
    ("row", pa.int64()),
    ("id", pa.string()),
    ("answer", pa.string()),
    ("score", pa.float64()),
    ("seconds", pa.float64()),
    ("error", pa.string()),
    ("in_training_domain", pa.bool_()),
]
CLUE_FIELDS = [("clue", pa.string()), ("no_clue", pa.string())]


def check_output(output: str, table: str, journal: Path) -> None:
    """Told before the model is loaded: a wrong name, no rights, or a file that is not ours to write over.

    Raises:
        InputError: The output cannot be written, or is there and no run of this command is to be ended.
        DataError: The store of the output cannot be asked, or has no such bucket.
    """
    if ending(output) not in (".jsonl", ".parquet"):
        raise InputError(f"--output {output}: give a name that ends in .jsonl or .parquet")
    if not is_remote(output):
        check_writable(Path(output))
    check_writable(journal)
    if output == table or (not is_remote(table) and os.path.abspath(output) == os.path.abspath(table)):
        raise InputError(f"--output {output}: is the table itself; give another name")
    if exists(output) and not journal.exists():
        raise InputError(f"--output {output}: is there already; remove it, or give another name")
    check_bucket(output)


def journal_of(output: str) -> Path:
    """Beside a local output; of one in a store, in the working folder: stores cannot append.

    There its name has a hash of the whole address, since files of several buckets may have one name.
    """
    path = Path(output)
    if not is_remote(output):
        return path.with_name(f"{path.name}.journal")
    return Path(f"{path.name}.{hashlib.sha256(output.encode()).hexdigest()[:8]}.journal")


def write_output(lines: Iterable[dict[str, Any]], output: str, clue: bool) -> None:
    """Writes all lines, by the ending of the name.

    Raises:
        DataError: It cannot be written; the journal has all answers.
    """
    write = _write_parquet if ending(output) == ".parquet" else _write_json_lines
    # Of an output in a store, here first: a store's file that is closed by an error is sent as far as it was written.
    partial = journal_of(output).with_suffix(".writing")
    try:
        with partial.open("wb") as file:
            write(lines, file, clue)
            file.flush()
            os.fsync(file.fileno())
        if is_remote(output):
            files, place = file_system(output)
            files.put_file(str(partial), place)
            partial.unlink()
        else:
            os.replace(partial, output)
    except DataError:
        raise
    except Exception as error:  # each store has its own kinds
        raise DataError(
            f"{output}: cannot be written ({reason(error)}); the answers are kept, run the command again"
        ) from error


def _write_json_lines(lines: Iterable[dict[str, Any]], file: IO[bytes], clue: bool) -> None:
    for line in lines:
        file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")


def _write_parquet(lines: Iterable[dict[str, Any]], file: IO[bytes], clue: bool) -> None:
    schema = pa.schema([*FIELDS, *(CLUE_FIELDS if clue else [])])
    with pq.ParquetWriter(file, schema) as writer:
        for chunk in _chunks(iter(lines)):
            writer.write_table(pa.Table.from_pylist(chunk, schema))


def _chunks(lines: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while chunk := list(islice(lines, CHUNK)):
        yield chunk
