"""A record of a table becomes a question: its pictures, its words."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

from unirs.evaluation.visuals import Messages
from unirs.given import ending
from unirs.picture_files import RASTERS, details_of_bands, read_dates
from unirs.trainers.data_sets import DataError
from unirs.trainers.feature_cache import identity
from unirs.trainers.rows import add_clue, image_items, video_item, visuals_of

from .stores import STORES, fetch, is_remote, without_scheme
from .table import VISUALS, WANTED, Record

BETWEEN = ";"  # of several pictures in one cell


@dataclass(frozen=True)
class TableRow:
    """A question of a table.

    Args:
        number: Counts from 1.
        key: Another where its words or pictures are others.
        reading: How its rasters became pictures, once they have.
    """

    number: int
    id: str
    messages: Messages
    key: str
    reading: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def shape(self) -> tuple:
        """Equal for rows that one batch may hold: of as many pictures each."""
        return tuple((one.kind, len(one.sources)) for one in visuals_of(self.messages))


def read_row(record: Record, base: str, question: str | None = None) -> TableRow:
    """The question that a record asks.

    Args:
        base: Folder that paths are relative to, local or remote.
        question: For records without words of their own; without any, the model is asked what it was trained for.

    Raises:
        DataError: The record is none, names no pictures, or not in the form; without row number.
    """
    if record.error:
        raise DataError(record.error)
    values = {name: value for name, value in record.values.items() if not _is_empty(value)}
    words = values.get("question", question) or ""
    clue = values.get("clue", "")
    for name, text in (("question", words), ("clue", clue)):
        if not isinstance(text, str):
            raise DataError(f"its {name} is {text!r:.80}; write words")
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise DataError(f"its {name} is no valid UTF-8 text; write the table as UTF-8")
    visuals = _visuals({name: values[name] for name in VISUALS if name in values}, base)
    messages = [{"role": "user", "content": [*visuals, {"type": "text", "text": words}]}]
    add_clue(messages, clue)
    digest = hashlib.sha256(repr((words, clue)).encode())
    for visual in visuals_of(messages):
        digest.update(visual.kind.encode() + b"".join(identity(one) + b"\0" for one in visual.sources))
    return TableRow(record.number, record.id, messages, digest.hexdigest()[:16])


def _is_empty(value: Any) -> bool:
    """A cell of blanks is one too: nobody sees them in a table."""
    return value is None or (isinstance(value, str) and not value.strip())


def _visuals(given: dict[str, Any], base: str) -> list[dict[str, Any]]:
    names = set(given)
    if names == {"image"}:
        return image_items([_source(given["image"], base)])
    if names == {"before", "after"}:
        return image_items([_source(given[name], base) for name in ("before", "after")])
    if names == {"images"}:
        images = given["images"]
        images = images.split(BETWEEN) if isinstance(images, str) else images
        if not isinstance(images, (list, tuple)) or not images:
            raise DataError("its images are no list; write several paths")
        return image_items([_source(one, base) for one in images])
    if names == {"video"}:
        return video_item(_source(given["video"], base))
    raise DataError(f"names {' and '.join(sorted(names)) or 'no picture'}; give {WANTED}")


def _source(value: Any, base: str) -> Any:
    """A local path, a path in a store, or bytes; Parquet wraps either in a dictionary."""
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes) and value:
        return value
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"a picture or clip is {value!r:.80}; give its path")
    value = value.strip()
    if value.startswith("data:"):
        return value
    if value.lower().startswith("file://"):
        return without_scheme(value)
    if "://" in value:
        if value.split("://")[0].lower() not in STORES:
            raise DataError(f"{value:.200}: is fetched from nowhere but {', '.join(STORES)}; download it first")
        return value
    return f"{base.removesuffix('/')}/{value}" if is_remote(base) else os.path.join(base, value)


def fetched(rows: Sequence[TableRow], pool: Executor) -> list[Messages]:
    """The chats of rows, with the bytes of pictures and clips that lie in a store.

    Raises:
        DataError: One of them cannot be fetched; names it.
    """
    remote = [
        source
        for row in rows
        for visual in visuals_of(row.messages)
        for source in visual.sources
        if isinstance(source, str) and is_remote(source) and not source.startswith("data:")
    ]
    content = dict(zip(remote, pool.map(fetch, remote), strict=True))
    return [
        [{**turn, "content": [_filled(item, content) for item in turn["content"]]} for turn in row.messages]
        for row in rows
    ]


def with_rasters(row: TableRow, messages: Messages, bands: str | None = None) -> Messages:
    """The row's chat with its local rasters read as `unirs ask` and `unirs change` do: two of a pair on one grid.

    How they were read is noted in the row.

    Raises:
        ValueError: One cannot be read, or two do not overlap; names it.
    """
    return [{**turn, "content": _rasters_read(row, turn["content"], bands)} for turn in messages]


def _rasters_read(row: TableRow, content: list[dict[str, Any]], bands: str | None) -> list[dict[str, Any]]:
    files = [item["image"] for item in content if item["type"] == "image"]
    if not files or not all(isinstance(file, str) and ending(file) in RASTERS for file in files):
        return content
    pictures, compositions = read_dates(files, bands)
    row.reading.update(details_of_bands(compositions))
    rest = iter(pictures)
    return [{**item, "image": next(rest)} if item["type"] == "image" else item for item in content]


def _filled(item: dict[str, Any], content: dict[str, bytes]) -> dict[str, Any]:
    source = item.get(item["type"])
    return {**item, item["type"]: content[source]} if isinstance(source, str) and source in content else item
