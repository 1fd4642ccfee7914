"""Pictures and clips of a conversation, opened before a model sees them, or blank ones in their place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from functools import lru_cache
from typing import Any

from PIL import Image

from ..processing.image_loading_unirs import load_image
from ..processing.video_loading_unirs import load_video
from ..trainers.rows import visuals_of

Messages = list[dict[str, Any]]
GREY = (128, 128, 128)
USUAL_SIZE = (256, 256)  # of LEVIR-CC and RSVQA-LR, where the file is not there to ask


def open_visuals(conversations: Sequence[Messages], num_frames: int, pool: Executor) -> list[Messages]:
    """The same conversations with pictures as PIL images and clips as lists of at most `num_frames` of them.

    Raises:
        ValueError: One of them cannot be read; says which (`VisualInputError`).
    """
    jobs = [
        pool.submit(load_video, item["video"], num_frames)
        if item["type"] == "video"
        else pool.submit(load_image, item["image"])
        for messages in conversations
        for item in _visual_items(messages)
    ]
    opened = iter([job.result() for job in jobs])
    return [_with_visuals(messages, lambda item: next(opened)) for messages in conversations]


def blank(messages: Messages, num_frames: int) -> Messages:
    """The same words with grey pictures of the same number and size; of a clip, `num_frames` of them."""

    def grey(item: dict[str, Any]) -> Any:
        if item["type"] == "image":
            return Image.new("RGB", _size(item["image"]), GREY)
        clip = item["video"]
        if isinstance(clip, (list, tuple)):
            return [Image.new("RGB", _size(clip[0]), GREY)] * min(len(clip), num_frames)
        return [Image.new("RGB", _size(clip, is_clip=True), GREY)] * num_frames

    return _with_visuals(messages, grey)


def named_files(conversations: Iterable[Messages]) -> list[str]:
    """Files of pictures and clips that conversations name, each once."""
    named = {
        source: None
        for messages in conversations
        for visual in visuals_of(messages)
        for source in visual.sources
        if isinstance(source, str) and "://" not in source and not source.startswith("data:")
    }
    return list(named)


def _size(source: Any, is_clip: bool = False) -> tuple[int, int]:
    """Width and height; of a file that is not there, the usual ones: a blind run needs no file."""
    if isinstance(source, Image.Image):
        return source.size
    try:
        return (_size_of_file if isinstance(source, str) else _size_of_decoded)(source, is_clip)
    except ValueError:
        return USUAL_SIZE


def _size_of_decoded(source: Any, is_clip: bool) -> tuple[int, int]:
    return (load_video(source, 1)[0] if is_clip else load_image(source)).size


# A hundred questions may be asked of one picture.
_size_of_file = lru_cache(maxsize=4096)(_size_of_decoded)


def _visual_items(messages: Messages) -> list[dict[str, Any]]:
    return [
        item
        for message in messages
        if not isinstance(message["content"], str)
        for item in message["content"]
        if item["type"] in ("image", "video")
    ]


def _with_visuals(messages: Messages, new: Callable[[dict[str, Any]], Any]) -> Messages:
    return [
        message
        if isinstance(message["content"], str)
        else {
            **message,
            "content": [
                {"type": item["type"], item["type"]: new(item)} if item["type"] in ("image", "video") else item
                for item in message["content"]
            ],
        }
        for message in messages
    ]
