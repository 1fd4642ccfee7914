"""A user's own data: JSONL, Parquet, a `datasets` folder, or LLaVA's JSON."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..rows import TASKS, Row, add_clue, image_items, task_of, video_item, visuals_of
from .errors import DataError
from .files import JsonLines, find
from .llava_json import MARKER, LlavaJson, llava_row

ROLES = ("system", "user", "assistant")
ITEMS = ("text", "image", "video", "clue")
FORMS = "JSONL (.jsonl), Parquet (.parquet), a folder of datasets.save_to_disk, or LLaVA's JSON (.json)"


class OwnData:
    """Rows of a user, in the form of TRL: `messages`, or `prompt` and `completion`; and `images` or `videos`.

    One image is a single image, two are a pair (before first), three and more a dated sequence. Paths are relative to
    the file. Optional: `id`, `clue`. A `{"type": "image"}` item without a value takes the next of `images`; words
    without items have them in the first user turn, or where `<image>` and `<video>` stand in the words.
    A record with `conversations` is read as LLaVA's, whatever the file's kind.

    Args:
        path: The file or folder.
        split: Of a `datasets` folder that has several; no other data have one.
        images: Folder that the paths are relative to, in place of the file's own.
    """

    def __init__(self, path: str | Path, split: str | None = None, images: str | Path | None = None):
        self.path = find("own", Path(path).expanduser(), "you; check the path")
        self.name = self.path.stem
        self.base = Path(images).expanduser() if images else self.path.parent
        self.records = self._open(split, images)

    def _open(self, split: str | None, images: str | Path | None) -> Any:
        from datasets import DatasetDict, load_from_disk

        table = None
        if self.path.is_dir():
            self.base = self.base if images else self.path
            try:
                table = load_from_disk(str(self.path))
            except (OSError, ValueError) as error:
                raise DataError(f"{self.path}: is no folder of datasets.save_to_disk; give {FORMS}") from error
            if isinstance(table, DatasetDict):
                if split not in table:
                    splits, first = ", ".join(table), self.path / next(iter(table))
                    raise DataError(f"{self.path}: has the splits {splits}; name one by split, or give {first}")
                return _undecoded(table[split])
        if split is not None:
            raise DataError(f"{self.path}: has no splits; leave split out")
        if table is not None:
            return _undecoded(table)
        suffix = self.path.suffix.lower()
        if suffix == ".parquet":
            from datasets import Dataset

            try:
                return _undecoded(Dataset.from_parquet(str(self.path), keep_in_memory=False))
            except Exception as error:  # pyarrow's and datasets' many kinds
                raise DataError(f"{self.path}: is no whole Parquet file; write it again") from error
        if suffix in (".jsonl", ".ndjson"):
            return JsonLines(self.path)
        if suffix == ".json":
            return LlavaJson(self.path).records
        raise DataError(f"{self.path}: its kind is not known; give {FORMS}")

    def __len__(self) -> int:
        return len(self.records)

    def row(self, index: int, repetition: int = 0) -> Row:
        """Raises `DataError`, with file and row number, for a row that is not in the form."""
        where = f"{self.path}, row {index + 1}"
        record = self.records[index]
        if not isinstance(record, dict):
            raise DataError(f"{where}: is no row; it must be a JSON object with messages")
        if "conversations" in record or {"q", "a"} <= record.keys():
            return llava_row(record, self.base, where, str(index))
        messages = _messages(record, where)
        images = [self._source(one, where) for one in _either(record, "images", "image", where)]
        shown = images or _name_their_own(messages)  # beside these, `video` may tell where they come from
        listed = _either({**record, "video": None} if shown else record, "videos", "video", where)
        videos = [self._source(one, where) for one in listed]
        messages = _place(messages, images, videos, where, self._source)
        if not visuals_of(messages) and (record.get("before") or record.get("after")):  # fields of `unirs predict`
            raise DataError(f"{where}: before and after are not read here; write a pair as images, before first")
        if record.get("clue"):
            add_clue(messages, str(record["clue"]))
        task = task_of(messages)
        if record.get("task", task) in TASKS and record.get("task", task) != task:  # others are the user's own words
            raise DataError(f"{where}: its task is {record['task']!r}, and its pictures make it {task!r}")
        given = record.get("id")
        return {"id": str(index if given is None else given), "task": task, "messages": messages}

    def _source(self, value: Any, where: str) -> Any:
        """A path relative to the file, or bytes; Parquet and `datasets` wrap either in a dictionary."""
        if isinstance(value, dict):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, (list, tuple)) and value and not any(isinstance(one, (list, tuple)) for one in value):
            return [self._source(one, where) for one in value]
        if isinstance(value, str) and ("://" in value or value.startswith("data:")):
            return value  # the reader's to take or to refuse, by its own name
        if isinstance(value, (str, os.PathLike)) and str(value):
            return str(self.base / value)
        if isinstance(value, bytes) and value:
            return value
        raise DataError(f"{where}: a picture or clip is {value!r}; give its path")


def _undecoded(table: Any) -> Any:
    """Pictures as paths and bytes: they are decoded by our own reader, which refuses hostile files."""
    from datasets import Image, List, Video

    for name, feature in table.features.items():
        inner = feature.feature if isinstance(feature, List) else feature
        if isinstance(inner, (Image, Video)):
            plain = type(inner)(decode=False)
            table = table.cast_column(name, List(plain) if isinstance(feature, List) else plain)
    return table


def _either(record: dict[str, Any], many: str, one: str, where: str) -> list[Any]:
    """What a row shows, as a list under its plural, or as a list or a single one under its singular."""
    listed, single = record.get(many), record.get(one)
    if isinstance(single, str | list | dict) and not (any(single.values()) if isinstance(single, dict) else single):
        single = None  # an empty cell of a table
    if listed is not None and not isinstance(listed, (list, tuple)):
        raise DataError(f"{where}: {many} must be a list")
    if listed and single:
        raise DataError(f"{where}: has {many} and {one}; keep {many}")
    if listed or single is None:
        return list(listed or [])
    return list(single) if one == "image" and isinstance(single, (list, tuple)) else [single]  # a clip may be frames


def _name_their_own(messages: list[dict[str, Any]]) -> bool:
    items = (item for one in messages if isinstance(one["content"], list) for item in one["content"])
    return any(isinstance(item, dict) and (item.get("image") or item.get("video")) for item in items)


def _messages(record: dict[str, Any], where: str) -> list[dict[str, Any]]:
    """`messages`, or `prompt` and `completion` as such, checked for roles and answers; contents are copied."""
    messages = record.get("messages")
    if messages is None:
        if record.get("prompt") is None or record.get("completion") is None:
            raise DataError(f"{where}: has neither messages nor prompt and completion")
        messages = _said(record["prompt"], "user") + _said(record["completion"], "assistant")
    if not isinstance(messages, (list, tuple)) or not messages:
        raise DataError(f"{where}: messages must be a list of turns")
    checked: list[dict[str, Any]] = []
    for number, message in enumerate(messages, 1):
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ROLES:
            raise DataError(f"{where}: turn {number} has the role {role!r}; the roles are {', '.join(ROLES)}")
        content = message.get("content")
        words = content if isinstance(content, str) else _words(content, f"{where}: turn {number}")
        if any("\ud800" <= character <= "\udfff" for character in words):
            raise DataError(f"{where}: turn {number} holds half characters (lone surrogates); write it as UTF-8 again")
        if role == "assistant":
            if not words.strip():
                raise DataError(f"{where}: turn {number} is an empty answer")
            checked.append({"role": role, "content": words})
        else:
            checked.append({"role": role, "content": content if isinstance(content, str) else list(content)})
    roles = [message["role"] for message in checked[checked[0]["role"] == "system" :]]  # one, and at the start only
    if "assistant" not in roles or roles != ["user", "assistant"] * (len(roles) // 2):
        raise DataError(f"{where}: turns must be user and assistant in pairs, with an answer at the end")
    return checked


def _said(value: Any, role: str) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [{"role": role, "content": value}]


def _words(content: Any, where: str) -> str:
    if not isinstance(content, (list, tuple)) or not all(isinstance(item, dict) for item in content):
        raise DataError(f"{where} must have words, or a list of items with a type")
    for item in content:
        if item.get("type") not in ITEMS:
            raise DataError(f"{where} has an item of type {item.get('type')!r}; the types are {', '.join(ITEMS)}")
        if item["type"] in ("text", "clue") and not isinstance(item.get("text"), str):
            raise DataError(f"{where} has a {item['type']} item whose text is {item.get('text')!r}")
    return " ".join(item["text"] for item in content if item["type"] == "text")


def _marked(words: str, has_visuals: bool) -> list[dict[str, Any]]:
    """Words as items. In a row with pictures each `<image>` and `<video>` waits for one; elsewhere it is a word."""
    waiting = [{"type": "video" if "video" in one else "image"} for one in MARKER.findall(words) if has_visuals]
    return [*waiting, {"type": "text", "text": MARKER.sub("", words).strip() if waiting else words}]


def _place(
    messages: list[dict[str, Any]], images: Sequence[Any], videos: Sequence[Any], where: str, source: Any
) -> list[dict[str, Any]]:
    """Pictures and clips into the items that wait for them, or in front of the first user turn."""
    rest = {"image": list(images), "video": list(videos)}
    counts = {kind: len(values) for kind, values in rest.items()}
    waiting = {"image": 0, "video": 0}
    named = {"image": 0, "video": 0}
    placed = []
    for message in messages:
        content = message["content"]
        if message["role"] == "user":
            items = _marked(content, bool(images or videos)) if isinstance(content, str) else content
            content = []
            for item in items:
                kind = item["type"]
                if kind not in rest:
                    content.append({key: value for key, value in item.items() if value is not None})
                elif (given := item.get(kind) or item.get("path") or item.get("url")) is not None:
                    named[kind] += 1
                    content.append({"type": kind, kind: source(given, where)})
                else:
                    waiting[kind] += 1
                    if rest[kind]:
                        content.append({"type": kind, kind: rest[kind].pop(0)})
        placed.append({"role": message["role"], "content": content})
    for kind, many in (("image", "images"), ("video", "videos")):
        if waiting[kind] and waiting[kind] != counts[kind]:
            raise DataError(f"{where}: the messages have {waiting[kind]} {kind} items, {many} holds {counts[kind]}")
        if named[kind] and rest[kind]:  # added to the others they would make a pair of a picture
            raise DataError(f"{where}: {kind} items name their {many}, and {many} holds {counts[kind]} more")
        if not waiting[kind] and rest[kind]:  # no item waits: all go before the words of the first turn
            first = next(message for message in placed if message["role"] == "user")
            items = image_items(rest[kind]) if kind == "image" else [one for v in rest[kind] for one in video_item(v)]
            first["content"] = [*items, *first["content"]]
    return placed
