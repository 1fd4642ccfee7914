"""Reading the files of data sets: JSON that must be there, records by number without holding them as objects."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from .errors import DataError, DataMissingError


def find(name: str, path: Path, origin: str) -> Path:
    """The path, if it is there.

    Raises:
        DataMissingError: It is not; says where the data come from.
    """
    if not path.exists():
        raise DataMissingError(name, path, origin)
    return path


def read_json(name: str, path: Path, origin: str) -> Any:
    find(name, path, origin)
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))  # Windows editors put a byte-order mark first
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: is no whole JSON ({error}); copy or download the file again") from error


def check_split(name: str, split: str, splits: Sequence[str]) -> None:
    if split not in splits:
        raise DataError(f"{name}: the splits are {', '.join(splits)}, not {split!r}")


class Records:
    """Many records as JSON text in one Arrow buffer: the loader's processes share it, dictionaries they would copy."""

    def __init__(self, records: Sequence[Any]):
        self.texts = pa.array([json.dumps(record) for record in records], pa.large_string())

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> Any:
        return json.loads(self.texts[index].as_py())

    def __iter__(self) -> Iterator[Any]:
        return (json.loads(text.as_py()) for text in self.texts)


class JsonLines:
    """Lines of a JSONL file by number; only their places are held. Empty lines do not count."""

    def __init__(self, path: Path):
        self.path = path
        places, start = [], 0
        with path.open("rb") as file:
            for line in file:
                if line.strip():
                    places.append(start)
                start += len(line)
        self.places = np.array(places, np.int64)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Any:
        with self.path.open("rb") as file:
            file.seek(self.places[index])
            line = file.readline()
        try:
            return json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{self.path}, row {index + 1}: is no JSON ({error}); mend or remove the line") from error
