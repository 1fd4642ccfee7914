"""LLaVA's JSON of conversations, as GeoChat and the released UniRS code have it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..rows import Row, conversation, image_items, task_of, video_item
from .errors import DataError
from .files import JsonLines, Records, find, read_json

MARKER = re.compile(r"<(?:image|video)>\n?|\n?<(?:image|video)>")
ROLES = {"human": 0, "user": 0, "gpt": 1, "assistant": 1}


class LlavaJson:
    """Conversations in LLaVA's form: a JSON array, or JSON lines.

    - `image`: one name, `"A.png###B.png"` or a list of two (a pair, before first), more are a sequence; none is text.
    - `video`: a name; the released ERA files may have `video_id` with `q` and `a` instead of a conversation.
    - `conversations`: `[{"from": "human", "value": ...}, {"from": "gpt", "value": ...}, ...]`, any number of turns.

    `<image>` and `<video>` in the words are taken out: the chat template writes its own markers, pictures first.

    Args:
        path: The file.
        images: Folder of the pictures and clips; the file's own without it.
    """

    name = "llava_json"

    def __init__(self, path: str | Path, images: str | Path | None = None):
        self.path = find(self.name, Path(path).expanduser(), "you; check the path")
        self.images = Path(images).expanduser() if images else self.path.parent
        with self.path.open("rb") as file:
            is_array = file.read(1024).lstrip()[:1] == b"["
        self.records: Records | JsonLines = JsonLines(self.path)
        if is_array:
            self.records = Records(read_json(self.name, self.path, "you"))

    def __len__(self) -> int:
        return len(self.records)

    def row(self, index: int, repetition: int = 0) -> Row:
        """Raises `DataError` for a record that is not in the form; it names file and row."""
        record = self.records[index]
        where = f"{self.path}, row {index + 1}"
        if not isinstance(record, dict):
            raise DataError(f"{where}: is no record; it must be a JSON object with conversations")
        messages = conversation(self._visuals(record), _turns(record, where))
        return {"id": str(record.get("id", index)), "task": task_of(messages), "messages": messages}

    def _visuals(self, record: dict[str, Any]) -> list[dict[str, Any]]:
        names = record.get("image") or []
        names = names.split("###") if isinstance(names, str) else names
        if names:
            return image_items([str(self.images / one) for one in names])
        clip = record.get("video") or (f"{record['video_id']}.mp4" if "video_id" in record else None)
        return video_item(str(self.images / clip)) if clip else []


def _turns(record: dict[str, Any], where: str) -> list[tuple[str, str]]:
    if "conversations" not in record and {"q", "a"} <= record.keys():
        return [(_plain(record["q"]), str(record["a"]).strip())]
    spoken = record.get("conversations")
    if not isinstance(spoken, list) or not spoken or len(spoken) % 2:
        raise DataError(f"{where}: conversations must be turns of human and gpt in pairs")
    for number, turn in enumerate(spoken):
        if ROLES.get(turn.get("from")) != number % 2 or not isinstance(turn.get("value"), str):
            raise DataError(
                f"{where}: turn {number + 1} of the conversation must be of {'gpt' if number % 2 else 'human'}"
            )
        if number % 2 and not turn["value"].strip():
            raise DataError(f"{where}: turn {number + 1} is an empty answer")
    values = [turn["value"] for turn in spoken]
    return [(_plain(question), answer.strip()) for question, answer in zip(values[::2], values[1::2], strict=True)]


def _plain(question: str) -> str:
    return MARKER.sub("", question).strip()
