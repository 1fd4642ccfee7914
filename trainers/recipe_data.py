"""The data sets that a recipe names, and their rows for the Trainer."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset

from .clues import WithClues
from .collator import Collator
from .data_sets import DATA_SETS, DataError
from .mixture import Mixture
from .recipe import closest
from .rows import Row

Say = Callable[[str], None]
LARGE = 1 << 30  # bytes of a file of which the ends alone are hashed, as of a Parquet file with pictures in it


def make_mixture(entries: dict[str, dict[str, Any]], say: Say = lambda line: None, kind: str = "") -> Mixture:
    """Data sets as a recipe names them: `{name: {source, repeat, ...}}`."""
    parts = []
    for name, entry in entries.items():
        if entry is None:  # switched off by --set data.name=null
            continue
        data, repeat = make_data_set(name, entry), entry.get("repeat", 1)
        if type(repeat) is not int or repeat < 1:
            raise DataError(f"data.{name}: repeat is {repeat!r}; give 1 or more, or leave the data set out")
        parts.append((data, repeat))
        if isinstance(data, WithClues):
            say(f"{kind}clues: {data.known:,} of {len(data):,} samples of {data.name}")
    mixture = Mixture(parts)
    for name, count, repeat in mixture.describe():
        say(f"{kind}data: {name}, {count:,} samples x{repeat}")
    return mixture


def make_data_set(name: str, entry: dict[str, Any]) -> Any:
    """One data set of a recipe; `clues` names a table that `unirs data clues` made of it.

    Raises:
        DataError: An unknown source, or arguments that the data set does not take; or its files are missing.
    """
    source = entry.get("source") if isinstance(entry, dict) else None
    if source not in DATA_SETS:
        raise DataError(f"data.{name}: source is {source!r}; the sources are {', '.join(DATA_SETS)}")
    arguments = {key: value for key, value in entry.items() if key not in ("source", "repeat", "clues")}
    taken = inspect.signature(DATA_SETS[source]).parameters
    for key in arguments:
        if key not in taken:
            raise DataError(
                f"data.{name}: {source} has no {key}{closest(key, list(taken))}; it takes {', '.join(taken)}"
            )
    missing = [key for key, one in taken.items() if one.default is one.empty and key not in arguments]
    if missing:
        raise DataError(f"data.{name}: {source} needs {', '.join(missing)}")
    try:
        data = DATA_SETS[source](**arguments)
        return data if entry.get("clues") is None else WithClues(data, entry["clues"])
    except TypeError as error:  # a word where a number belongs
        raise DataError(f"data.{name}: {source} cannot be made of {arguments} ({error})") from error


def data_record(kind: str, entries: dict[str, dict[str, Any]], sets: Sequence[Any]) -> dict[str, Any]:
    """What tells data sets from others under the same paths: name, samples, hash of the label files."""
    named = (name for name, entry in entries.items() if entry is not None)
    return {
        f"{kind}.{name}": {"name": data.name, "samples": len(data), "labels": hash_of(label_files(data))}
        for name, data in zip(named, sets, strict=True)
    }


def label_files(data: Any) -> list[Path]:
    """What a data set calls its `files`, or its `path`; none of one that is drawn, or whose labels are folders."""
    if isinstance(data, WithClues):
        return [*label_files(data.data), data.path]
    if hasattr(data, "files"):
        return list(data.files)
    path = getattr(data, "path", None)
    if path is None:
        return []
    # Of a folder of save_to_disk the tables alone: pictures and runs may lie there too, and the caches of `map`.
    tables = (one for one in path.rglob("*.arrow") if not one.name.startswith("cache-"))
    return sorted(tables) if path.is_dir() else [path]


def hash_of(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        size = path.stat().st_size
        digest.update(f"{path.name} {size} ".encode())
        with path.open("rb") as file:
            if size <= LARGE:
                digest.update(hashlib.file_digest(file, "sha256").digest())
            else:
                digest.update(file.read(LARGE // 16))
                file.seek(-LARGE // 16, 2)
                digest.update(file.read())
    return digest.hexdigest()


def places(first: int, count: int) -> Dataset:
    """What the Trainer holds: numbers only; rows are read by the collator, in the loader's processes."""
    return Dataset.from_dict({"place": list(range(first, first + count))})


class PlacesCollator:
    """Looks rows up and collates them; places behind the training mixture are those of the validation mixture."""

    def __init__(self, collator: Collator, train: Mixture, validation: Mixture | None):
        self.collator, self.train, self.validation = collator, train, validation

    def row(self, place: int) -> Row:
        if self.validation is not None and place >= len(self.train):
            return self.validation.row(place - len(self.train))
        return self.train.row(place)

    def __call__(self, places: list[dict[str, int]]) -> dict[str, torch.Tensor]:
        rows = []
        for one in places:
            try:
                rows.append(self.row(one["place"]))
            except DataError as error:  # not in the form: it has no id that could be told
                self.collator.bad(None, str(error), error)
        return self.collator(rows, len(places) - len(rows))
