"""What a chat shows, what the markers in a text take, and where tokens lie in the text as given."""

import os
import re
from bisect import bisect_left, bisect_right

from .frame_sampling_unirs import DatedSequence
from .image_loading_unirs import load_image
from .prompts_unirs import CHANGE_MARKER, IMAGE_MARKER, ITEM_TYPES, UNKNOWN_ITEM, VIDEO_MARKER

MARKER = re.compile("|".join(re.escape(marker) for marker in (IMAGE_MARKER, CHANGE_MARKER, VIDEO_MARKER)))
IMAGES_TAKEN = {IMAGE_MARKER: 1, CHANGE_MARKER: 2}
FIELDS = {"image": ("image", "url", "path", "base64"), "video": ("video", "url", "path")}  # that hold what is shown


def chat_as_shown(conversation: list[dict], with_values: bool) -> list[dict]:
    """A chat in the form that every transformers reads alike: OpenAI's items under transformers' names.

    With values, each picture and clip stands under the name of its type, and three or more images of a message are
    the one sequence that the template takes them for.
    """
    chat = []
    for message in conversation:
        content = message.get("content")
        if isinstance(content, (list, tuple)):
            items = [_named(item) for item in content]
            message = {**message, "content": _with_values(items) if with_values else items}
        chat.append(message)
    return chat


def chat_to_continue(chat: list[dict]) -> list[dict]:
    """The chat with an empty item behind the words that the model is to go on with.

    transformers looks for the last item in the finished prompt, where the template has escaped every "<".
    """
    if not chat:
        return chat  # refused by the template
    *before, last = chat
    content = last.get("content")
    items = [{"type": "text", "text": content}] if isinstance(content, str) else list(content or [])
    return [*before, {**last, "content": [*items, {"type": "text", "text": ""}]}]


def _named(item: dict) -> dict:
    """An `image_url` or `video_url` of OpenAI's form as transformers writes it; other items as they are."""
    kind = item.get("type")
    if kind not in ("image_url", "video_url") or kind not in item:
        return item
    given = item[kind]
    return {"type": kind.removesuffix("_url"), "url": given.get("url") if isinstance(given, dict) else given}


def _with_values(items: list[dict]) -> list[dict]:
    shown = []
    for item in items:
        kind = item.get("type")
        if kind not in ITEM_TYPES:  # the template says so too, unless the folder has an older one
            raise ValueError(UNKNOWN_ITEM.replace("TYPE", str(kind)))
        shown.append({"type": kind, kind: _value(item, *FIELDS[kind])} if kind in FIELDS else item)
    images = [item["image"] for item in shown if item["type"] == "image"]
    if len(images) <= 2:
        return shown
    sequence = {"type": "video", "video": DatedSequence(images)}
    return [sequence, *(item for item in shown if item["type"] != "image")]


def _value(item: dict, *names: str):
    """The first of the named fields that is set (Arrow tables fill missing ones with None)."""
    for name in names:
        if item.get(name) is not None:
            # Bare base64 is told from a path by its field alone.
            bare = name == "base64" and not str(item[name]).startswith("data:")
            return f"data:image/unknown;base64,{item[name]}" if bare else item[name]
    raise ValueError(f"a message item of type {item['type']!r} needs one of the fields {', '.join(names)}")


def images_by_text(images, markers: list[list[str]]) -> list[list]:
    """One list of images for each text, from nested or flat images."""
    if images is None:
        return [[] for _ in markers]
    if not isinstance(images, (list, tuple)):
        images = [images]
    nested = [one for one in images if isinstance(one, (list, tuple))]
    if nested and len(nested) == len(images) == len(markers):
        return [list(one) for one in images]
    if nested:
        raise ValueError(f"images are {len(images)} lists for {len(markers)} texts; give one list for each text")
    if len(markers) == 1:
        return [list(images)]
    wanted = [sum(IMAGES_TAKEN.get(name, 0) for name in names) for names in markers]
    if sum(wanted) != len(images):
        raise ValueError(f"the texts have markers for {sum(wanted)} images, but {len(images)} images were given")
    rest = iter(images)
    return [[next(rest) for _ in range(count)] for count in wanted]


def videos_by_text(videos, markers: list[list[str]]) -> list[list]:
    """One list of clips for each text. A list of pictures is one clip; lists of clips nest one level more.

    An empty list belongs to a text whose sequence came as images.
    """
    counts = [names.count(VIDEO_MARKER) for names in markers]
    if videos is None:
        return [[] for _ in markers]
    videos = list_of_clips(videos)
    if len(videos) == len(markers) and all(
        isinstance(one, (list, tuple)) and len(one) in (0, count) and not any(map(_is_picture, one))
        for one, count in zip(videos, counts, strict=True)
    ):
        return [list(one) for one in videos]
    if sum(counts) != len(videos):
        raise ValueError(f"the texts have {sum(counts)} <video> markers, but {len(videos)} videos were given")
    rest = iter(videos)
    return [[next(rest) for _ in range(count)] for count in counts]


def list_of_clips(videos) -> list:
    """A list of clips, from such a list or from one clip: a file, an array, or a list of decoded pictures."""
    if not isinstance(videos, (list, tuple)) or (videos and all(_is_picture(one) for one in videos)):
        return [videos]
    return list(videos)


def _is_picture(value) -> bool:
    """A decoded picture; a path may be either and counts as a clip."""
    if isinstance(value, (str, os.PathLike, bytes, bytearray, memoryview, list, tuple)):
        return False
    return getattr(value, "ndim", 3) <= 3


def deal_out(
    index: int, names: list[str], images: list, videos: list, singles: list, pairs: list, clips: list
) -> None:
    """Hands the images and videos of one text to its markers, in order; all must be used up."""
    if VIDEO_MARKER in names and not videos and names.count(VIDEO_MARKER) == 1:
        # A dated sequence that came as images: what the other markers leave is the sequence.
        before = sum(IMAGES_TAKEN.get(name, 0) for name in names[: names.index(VIDEO_MARKER)])
        after = sum(IMAGES_TAKEN.get(name, 0) for name in names[names.index(VIDEO_MARKER) + 1 :])
        sequence = images[before : len(images) - after]
        if sequence:
            videos, images = [DatedSequence(sequence)], images[:before] + images[len(images) - after :]
    wanted = sum(IMAGES_TAKEN.get(name, 0) for name in names)
    if wanted != len(images):
        hint = " (<Change Feature> takes two, before and after)" if CHANGE_MARKER in names else ""
        raise ValueError(f"text {index} has markers for {wanted} images{hint}, but {len(images)} images were given")
    if names.count(VIDEO_MARKER) != len(videos):
        raise ValueError(
            f"text {index} has {names.count(VIDEO_MARKER)} <video> markers, but {len(videos)} videos were given"
        )
    image, video = iter(images), iter(videos)
    for name in names:
        if name == IMAGE_MARKER:
            singles.append(load_image(next(image)))
        elif name == CHANGE_MARKER:
            pairs += [load_image(next(image)), load_image(next(image))]
        else:
            clips.append(next(video))


def offsets_in_given_text(tokens, replaced: list[dict], space: int) -> list[tuple[int, int]]:
    """Moves the character spans of tokens back from the text with placeholders to the text with markers.

    A placeholder gets its marker's span. The `space` characters that end a replacement belong to the next token.
    Padding (no width) stays in order: at the start on the left, at the end on the right.
    """
    starts = [one["new_span"][0] for one in replaced]

    def position(char: int, of_end: bool) -> int:
        index = bisect_left(starts, char) if of_end else bisect_right(starts, char)
        if index == 0:
            return char
        one = replaced[index - 1]
        behind = char - one["new_span"][1]
        if behind >= 0:
            return one["span"][1] + behind
        return one["span"][1] if of_end or behind >= -space else one["span"][0]

    moved: list[tuple[int, int]] = []
    last = 0
    for start, end in tokens:
        if end > start:
            moved.append((position(int(start), False), position(int(end), True)))
            last = moved[-1][1]
        else:
            moved.append((last, last))
    return moved
