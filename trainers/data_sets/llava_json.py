"""LLaVA's JSON of conversations, as GeoChat and the released UniRS code have it."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from pathlib import Path
from typing import Any

from ..rows import Row, add_clue, conversation, image_items, task_of, video_item
from .errors import DataError
from .files import JsonLines, Records, find, read_json

MARKER = re.compile(r"<(?:image|video)>\n?|\n?<(?:image|video)>")
SPEAKERS = (("human", "user"), ("gpt", "assistant"))  # by turns


class LlavaJson:
    """Conversations in LLaVA's form: a JSON array, or JSON lines.

    - `image`: one name, `"A.png###B.png"` or a list of two (a pair, before first), more are a sequence; none is text.
    - `video`: a name; the released ERA files may have `video_id` with `q` and `a` instead of a conversation.
    - `conversations`: `[{"from": "human", "value": ...}, {"from": "gpt", "value": ...}, ...]`, any number of turns.
    - `clue`, where there is one: what the base model said of the pictures (`unirs data clues`).

    `<image>` and `<video>` in the words are counted and taken out: the chat template writes its own, pictures first.

    Args:
        path: The file.
        images: Folder of the pictures and clips; the file's own without it.
    """

    name = "llava_json"

    def __init__(self, path: str | Path, images: str | Path | None = None):
        self.path = find(self.name, Path(path).expanduser(), "you; check the path")
        self.images = Path(images).expanduser() if images else self.path.parent
        with self.path.open("rb") as file:
            is_array = file.read(1024).removeprefix(BOM_UTF8).lstrip()[:1] == b"["
        self.records: Records | JsonLines = JsonLines(self.path)
        if is_array:
            self.records = Records(read_json(self.name, self.path, "you"))

    def __len__(self) -> int:
        return len(self.records)

    def row(self, index: int, repetition: int = 0) -> Row:
        """Raises `DataError` for a record that is not in the form; it names file and row."""
        where = f"{self.path}, row {index + 1}"
        return llava_row(self.records[index], self.images, where, str(index))


def llava_row(record: Any, images: Path, where: str, number: str) -> Row:
    """A record in LLaVA's form as a row; `where` names it in an error, `number` where it has no id of its own."""
    if not isinstance(record, dict):
        raise DataError(f"{where}: is no record; it must be a JSON object with conversations")
    turns = _turns(record, where)
    visuals = _visuals(record, images, where)
    markers = sum(len(MARKER.findall(question)) for question, _ in turns)
    pictures = [item for item in visuals if item["type"] == "image"]
    # One marker may stand for all pictures of a pair, as in the released files; a clip's are one or one a frame.
    if markers and (not visuals or (pictures and markers not in (1, len(pictures)))):
        raise DataError(f"{where}: the words have {markers} markers, the record has {len(visuals)} pictures or clips")
    messages = conversation(visuals, [(MARKER.sub("", question).strip(), answer) for question, answer in turns])
    if record.get("clue"):
        add_clue(messages, str(record["clue"]))
    given = record.get("id")
    return {"id": number if given is None else str(given), "task": task_of(messages), "messages": messages}


def _visuals(record: dict[str, Any], images: Path, where: str) -> list[dict[str, Any]]:
    names, clip = record.get("image") or [], record.get("video") or record.get("video_id")
    if names and clip:
        raise DataError(f"{where}: has an image and a video; keep one of them")
    for other in ("images", "videos"):
        if record.get(other):  # it would be a text without its pictures
            raise DataError(f"{where}: has {other} beside conversations; LLaVA's field is {other[:-1]}")
    names = names.split("###") if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(one, str) and one.strip() for one in names):
        raise DataError(f"{where}: image is {record['image']!r}; give a name, or a list of names")
    if clip is not None and not isinstance(clip, str):
        raise DataError(f"{where}: the name of its clip is {clip!r}; write it as words")
    if clip and not record.get("video") and not Path(clip).suffix:
        clip = f"{clip}.mp4"
    return video_item(str(images / clip)) if clip else image_items([str(images / one.strip()) for one in names])


def _turns(record: dict[str, Any], where: str) -> list[tuple[str, str]]:
    spoken = record.get("conversations")
    if "conversations" not in record and {"q", "a"} <= record.keys():
        spoken = [{"from": "human", "value": record["q"]}, {"from": "gpt", "value": record["a"]}]
    if not isinstance(spoken, list) or not spoken or len(spoken) % 2:
        raise DataError(f"{where}: conversations must be turns of human and gpt in pairs")
    for number, turn in enumerate(spoken):
        speaker, value = (turn.get("from"), turn.get("value")) if isinstance(turn, dict) else (None, None)
        if speaker not in SPEAKERS[number % 2] or not isinstance(value, str):
            raise DataError(
                f"{where}: turn {number + 1} of the conversation must be of {SPEAKERS[number % 2][0]}, in words"
            )
        if number % 2 and not value.strip():
            raise DataError(f"{where}: turn {number + 1} is an empty answer")
    values = [turn["value"] for turn in spoken]
    return [(question, answer.strip()) for question, answer in zip(values[::2], values[1::2], strict=True)]
