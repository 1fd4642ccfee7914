"""One training sample: a conversation whose pictures and clips are named where they stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from ..processing.clue_text_unirs import clean_clue

LONGEST_CLUE = 4000  # characters
Task = Literal["text", "single", "pair", "video"]
TASKS: tuple[Task, ...] = ("text", "single", "pair", "video")


class Row(TypedDict):
    """What every data set gives and the collator takes.

    `messages` is a chat of transformers: the content of a user turn is a list of items, that of an assistant turn a
    string. Items are `{"type": "image", "image": path}`, `{"type": "video", "video": path or list of paths}`,
    `{"type": "text", "text": words}` and, last, `{"type": "clue", "text": words}`. One image in a turn is a single
    image, two are a pair, three and more a dated sequence. In place of a path may stand a PIL image or bytes.
    """

    id: str
    task: Task
    messages: list[dict[str, Any]]


def image_items(images: Sequence[Any]) -> list[dict[str, Any]]:
    return [{"type": "image", "image": image} for image in images]


def video_item(video: Any) -> list[dict[str, Any]]:
    return [{"type": "video", "video": video}]


def conversation(visuals: list[dict[str, Any]], turns: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Messages of a conversation: pictures in its first turn, then question and answer by turns."""
    messages: list[dict[str, Any]] = []
    for number, (question, answer) in enumerate(turns):
        content: list[dict[str, Any]] = [{"type": "text", "text": question}]
        if number == 0:
            content = [*visuals, *content]
        messages += [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]
    return messages


def add_clue(messages: list[dict[str, Any]], clue: str) -> None:
    """Puts a clue, in place, into the last user turn that has pictures, as `PromptAugmenter` does; else the first.

    Others' words: roles and markers in it are taken out; nothing is put in if no word is left.
    """
    clue = clean_clue(clue, longest=LONGEST_CLUE)
    if not clue:
        return
    turns = [message for message in messages if message["role"] == "user"]
    shown = [one for one in turns if items_of([one], "image") or items_of([one], "video")]
    turn = (shown or turns[:1])[-1]
    if isinstance(turn["content"], str):
        turn["content"] = [{"type": "text", "text": turn["content"]}]
    turn["content"].append({"type": "clue", "text": clue})


def items_of(messages: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Content items of a type, in reading order."""
    contents = [message["content"] for message in messages if not isinstance(message["content"], str)]
    return [item for content in contents for item in content if item["type"] == kind]


@dataclass(frozen=True)
class Visual:
    """What one marker stands for: an image, a pair that is fused, or a clip (a file, or its pictures).

    `dated` marks the pictures of a sequence, of which others are taken than of a clip's frames (`DatedSequence`).
    """

    kind: Literal["image", "change", "video"]
    sources: tuple[Any, ...]
    dated: bool = False


def visuals_of(messages: list[dict[str, Any]]) -> list[Visual]:
    """What the chat template makes of the pictures: by turn, its images (one, a pair, a sequence), then its clips."""
    found: list[Visual] = []
    for message in messages:
        images = tuple(item["image"] for item in items_of([message], "image"))
        if len(images) > 2:
            found.append(Visual("video", images, dated=True))
        elif images:
            found.append(Visual("change" if len(images) == 2 else "image", images))
        for item in items_of([message], "video"):
            clip = item["video"]
            found.append(Visual("video", tuple(clip) if isinstance(clip, (list, tuple)) else (clip,)))
    return found


def task_of(messages: list[dict[str, Any]]) -> Task:
    """The kind of sight that a conversation needs: the widest that one of its turns has."""
    kinds = {visual.kind for visual in visuals_of(messages)}
    return "video" if "video" in kinds else "pair" if "change" in kinds else "single" if kinds else "text"
