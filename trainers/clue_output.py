"""A user's rows with their clues, in the form in which they came."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .clues import Found
from .data_sets import DataError, DataSet, OwnData
from .rows import visuals_of

PICTURE_FIELDS = ("images", "image", "videos", "video", "video_id")
ITEM_FIELDS = (*PICTURE_FIELDS, "path", "url")


def check_output(data: OwnData, output: Path) -> None:
    """Looks, before anything is asked, whether the rows can be written again in their kind of file.

    Raises:
        DataError: The output's name says another kind, or is the data itself; or a line of the data is broken.
    """
    if output.exists() and output.samefile(data.path):
        raise DataError(f"{output}: is the data itself; give another name for the rows with clues")
    if not data.path.is_dir() and output.suffix.lower() != data.path.suffix.lower():
        raise DataError(
            f"{output}: rows of {data.path.name} stay in their form; give a name ending in {data.path.suffix}"
        )

    for place in range(len(data)):
        data.records[place]  # raises


def check_ids(data: DataSet) -> None:
    """In a table of clues an id may stand for one clue only.

    Raises:
        DataError: Two rows with other pictures have the same id.
    """
    keys: dict[str, str] = {}
    for place in range(len(data)):
        row = data.row(place)
        key = repr(visuals_of(row["messages"]))
        if keys.setdefault(row["id"], key) != key:
            raise DataError(
                f"{data.name}: two rows have the id {row['id']} and other pictures; give them ids of their own"
            )


def write_rows(data: OwnData, found: dict[int, Found], output: Path) -> None:
    """Every row of the data with a `clue`, whole or not at all; relative paths are told from the output's folder."""
    partial = output.with_name(f"{output.name}.writing")
    folder = partial if data.path.is_dir() else output.absolute().parent
    records = data.records
    if data.path.is_dir() or data.path.suffix.lower() == ".parquet":
        _write_table(records, found, data.base, folder, partial, data.path.is_dir())
    elif data.path.suffix.lower() == ".json":
        rows = list(_rows(records, found, data.base, folder))
        partial.write_text(json.dumps(rows, ensure_ascii=False, indent=1), encoding="utf-8")
    else:
        with partial.open("w", encoding="utf-8") as file:
            for row in _rows(records, found, data.base, folder):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
    if output.is_dir():
        shutil.rmtree(output)
    os.replace(partial, output)


def write_table(data: DataSet, found: dict[int, Found], output: Path) -> None:
    """`id` and `clue` of every row as JSONL, for `clues` of a recipe's data set."""
    partial = output.with_name(f"{output.name}.writing")
    with partial.open("w", encoding="utf-8") as file:
        for place in range(len(data)):
            file.write(json.dumps({"id": found[place].id, "clue": found[place].clue}, ensure_ascii=False) + "\n")
    os.replace(partial, output)


def _rows(records: Any, found: dict[int, Found], base: Path, folder: Path) -> Iterator[Any]:
    for place in range(len(records)):
        record = records[place]
        if isinstance(record, dict):  # others are no rows, and stay as they are
            record = {**moved(record, base, folder), "clue": found[place].clue or record.get("clue")}
        yield record


def _write_table(table: Any, found: dict[int, Found], base: Path, folder: Path, target: Path, is_folder: bool) -> None:
    from datasets import Features, Image, List, Value, Video

    def with_clue(record: dict[str, Any], place: int) -> dict[str, Any]:
        return {**moved(record, base, folder), "clue": found[place].clue or record.get("clue")}

    def decoded(feature: Any) -> Any:  # they were opened as paths and bytes
        if isinstance(feature, List):
            return List(decoded(feature.feature))
        return type(feature)() if isinstance(feature, (Image, Video)) else feature

    features = Features({**table.features, "clue": Value("string")})
    with TemporaryDirectory(dir=target.absolute().parent) as cache:  # a table may be larger than the memory
        table = table.map(with_clue, with_indices=True, features=features, cache_file_name=f"{cache}/rows.arrow")
        table = table.cast(Features({name: decoded(one) for name, one in features.items()}), batch_size=100)
        if is_folder:
            table.save_to_disk(str(target))
        else:
            table.to_parquet(
                str(target), batch_size=100
            )  # without a size datasets looks for the pictures to guess one


def moved(
    record: dict[str, Any], base: Path, folder: Path, fields: tuple[str, ...] = PICTURE_FIELDS
) -> dict[str, Any]:
    """The record with the paths of its pictures told from another folder."""
    base, folder = base.resolve(), folder.resolve()  # `..` leads out of where a link points to
    if base == folder:
        return record

    def move(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [move(one) for one in value]
        if isinstance(value, dict):  # of Parquet and `datasets`: bytes or a path
            return value if value.get("bytes") else moved(value, base, folder, ITEM_FIELDS)
        if not isinstance(value, str) or not value or "://" in value or value.startswith("data:"):
            return value
        return "###".join(one if os.path.isabs(one) else os.path.relpath(base / one, folder) for one in names(value))

    def names(value: str) -> list[str]:
        return [one.strip() for one in value.split("###")]  # LLaVA's pairs

    def items(value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            return value
        return [moved(one, base, folder, ITEM_FIELDS) if isinstance(one, dict) else one for one in value]

    turns = ("messages", "prompt", "content")
    nested: dict[str, Any] = {name: items(record[name]) for name in turns if name in record}
    return {**record, **nested, **{name: move(record[name]) for name in fields if name in record}}
