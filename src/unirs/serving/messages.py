"""Messages of OpenAI's form become chats of transformers, with every picture and clip opened and counted."""

from __future__ import annotations

import base64
import binascii
import time
from typing import Any

from unirs.processing.image_loading_unirs import VisualInputError, load_image
from unirs.processing.video_loading_unirs import load_video

from .fetching import fetch
from .limits import Limits, RequestError

ROLES = ("system", "developer", "user", "assistant")
MOST_MESSAGES = 256
EMPTY: tuple[Any, ...] = (None, 0, False, "", [])  # values of fields that ask for nothing; {} may switch one on
VISUAL_ITEMS = {"image_url": "image", "video_url": "video"}


class Opener:
    """Opens what one request shows, within its limits.

    Args:
        num_frames: Taken from a clip.
        allow_fetch: Whether URLs are fetched; pictures as data always are taken, files of the server never.
        characters: Most words of a request.
        until: When it must be done, by `time.monotonic`: nobody waits any longer.
    """

    def __init__(self, limits: Limits, num_frames: int, allow_fetch: bool, characters: int, until: float):
        self.limits, self.num_frames, self.allow_fetch, self.characters = limits, num_frames, allow_fetch, characters
        self.until = until
        self.pixels = limits.pixels  # that may still be shown
        self.pictures = limits.pictures

    def chat(self, messages: Any) -> list[dict[str, Any]]:
        """The chat of a request.

        Raises:
            RequestError: It is not in the form, or too large, or shows what cannot be opened, or takes too long.
        """
        if not isinstance(messages, list) or not messages:
            raise RequestError(400, "messages must be a list of turns, at least one")
        if len(messages) > MOST_MESSAGES:
            raise RequestError(400, f"there are {len(messages)} messages, and {MOST_MESSAGES} are read")
        chat = [self._turn(message, f"message {number}") for number, message in enumerate(messages, 1)]
        # Answered, they would get inventions.
        if self.pictures == self.limits.pictures:
            raise RequestError(400, "no picture is shown; send one as an item image_url, or a clip as video_url")
        if chat[-1]["role"] != "user":
            raise RequestError(400, "the last message must be the user's: it is what is answered")
        if not any(item["type"] == "text" and item["text"].strip() for item in chat[-1]["content"]):
            raise RequestError(400, "the last message asks nothing; add words to it")
        return chat

    def _turn(self, message: Any, where: str) -> dict[str, Any]:
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ROLES:
            raise RequestError(400, f"{where} must have a role: {', '.join(ROLES)}")
        _check_names(message, {"role", "content", "name", "id"}, where)
        content = message.get("content")
        items = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if not isinstance(items, list) or not items:
            raise RequestError(400, f"{where} must have content: words, or a list of items")
        visuals = [item for item in items if isinstance(item, dict) and str(item.get("type")) in VISUAL_ITEMS]
        opened = [self._item(item, _placed(item, visuals, where)) for item in items]
        if role != "user" and any(item["type"] != "text" for item in opened):
            raise RequestError(400, f"{where} shows a picture; only the user can")
        return {"role": "system" if role == "developer" else role, "content": opened}

    def _item(self, item: Any, where: str) -> dict[str, Any]:
        self._seconds_left()
        kind = item.get("type") if isinstance(item, dict) else None
        if kind == "text":
            _check_names(item, {"type", "text", "cache_control", "id"}, where)
            text = item.get("text")
            if not isinstance(text, str):
                raise RequestError(400, f"{where} has a text item without words")
            if any("\ud800" <= character <= "\udfff" for character in text):
                raise RequestError(400, f"{where} holds half characters (lone surrogates)")
            self.characters -= len(text)
            if self.characters < 0:
                raise RequestError(400, "the words are more than the model reads; shorten them")
            return {"type": "text", "text": text}
        if not isinstance(kind, str) or kind not in VISUAL_ITEMS:
            raise RequestError(400, f"{where} has an item of type {kind!r:.40}; there are text, image_url, video_url")
        given = item.get(kind)
        _check_names(item, {"type", kind, "cache_control", "id"}, where)
        if isinstance(given, dict):
            _check_names(given, {"url", "detail"}, f"{where}, {kind}")
        url = given.get("url") if isinstance(given, dict) else given
        if not isinstance(url, str):
            raise RequestError(400, f"{where} has an item {kind} without a url")
        self.pictures -= 1
        if self.pictures < 0:
            raise RequestError(400, f"more than {self.limits.pictures} pictures and clips are shown")
        return self._opened(VISUAL_ITEMS[kind], self._bytes(url, where), where)

    def _bytes(self, url: str, where: str) -> bytes:
        head, comma, body = url.partition(",")
        if head[:5].lower() == "data:" and comma and head.lower().endswith(";base64"):
            try:
                return base64.b64decode("".join(body.split()), validate=True)
            except (binascii.Error, ValueError) as error:
                raise RequestError(400, f"{where}: a data URI is no valid base64") from error
        if not url.lower().startswith(("http://", "https://")):
            raise RequestError(400, f"{where}: a url must be data:image/...;base64,... or an address of http(s)")
        if not self.allow_fetch:
            raise RequestError(400, f"{where}: this server fetches no URLs; send data:image/...;base64,...")
        return fetch(url, self.limits.fetched_bytes, self._seconds_of_an_item())

    def _seconds_of_an_item(self) -> float:
        """To fetch it, and as many to read a clip, which may hold days of frames in a few bytes."""
        return min(self.limits.seconds / 4, self._seconds_left())

    def _seconds_left(self) -> float:
        left = self.until - time.monotonic()
        if left <= 0:
            raise RequestError(503, "reading the request took longer than this server allows")
        return left

    def _opened(self, kind: str, content: bytes, where: str) -> dict[str, Any]:
        # For each frame of a clip, since they may change their size.
        most = max(1, self.pixels if kind == "image" else self.pixels // self.num_frames)
        try:
            if kind == "image":
                picture = load_image(content, max_pixels=most)
                self.pixels -= picture.width * picture.height
                return {"type": "image", "image": picture}
            frames = load_video(content, self.num_frames, most, self._seconds_of_an_item())
        except VisualInputError as error:
            sentence = str(error).removeprefix("<bytes>: ")
            if f" {most} pixels" in sentence:  # a number that the sender could not make sense of
                sentence += f" (all pictures and frames of a request may have {self.limits.pixels:,} together)"
            raise RequestError(400, f"{where}: {sentence}") from error
        self.pixels -= sum(frame.width * frame.height for frame in frames)
        return {"type": "video", "video": frames}


def _check_names(given: dict[str, Any], known: set[str], where: str) -> None:
    """What stands under another name would change the answer: refused, not ignored."""
    for name, value in given.items():
        if name not in known and value not in EMPTY:
            raise RequestError(400, f"{where}: {name:.40} is not supported; leave it away")


def _placed(item: Any, visuals: list[Any], where: str) -> str:
    """Which of several pictures it is."""
    number = next((number for number, one in enumerate(visuals, 1) if one is item), 0)
    return f"{where}, picture {number}" if number and len(visuals) > 1 else where
