"""Is a user's file fit for training? Every row is read, in parallel, before a run meets it hours later."""

from __future__ import annotations

import hashlib
import itertools
import json
import multiprocessing
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from ..processing.image_loading_unirs import load_image
from ..processing.video_loading_unirs import load_video
from .collator import text_and_blocks, tokens_of
from .data_sets import DataError, OwnData
from .rows import TASKS, Row, visuals_of

CHUNK = 500  # rows that a process checks at a time


@dataclass
class Problem:
    """One thing that is wrong with one row; rows count from 1, as lines do."""

    row: int
    id: str
    kind: str
    message: str


@dataclass
class Report:
    """What `check` found.

    Attributes:
        tasks: Rows of each task.
        lengths: Shortest, mean and longest row in tokens (text estimated).
        pictures: Pictures and clips that were decoded.
        repeated: Pictures that an earlier row of the same file has, pixel by pixel; no fault by itself.
    """

    rows: int = 0
    tasks: dict[str, int] = field(default_factory=dict)
    lengths: tuple[int, int, int] = (0, 0, 0)
    pictures: int = 0
    repeated: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def kinds(self) -> dict[str, int]:
        """Problems of each kind."""
        return dict(Counter(problem.kind for problem in self.problems))

    @property
    def bad_rows(self) -> int:
        return len({problem.row for problem in self.problems})

    def write(self, file: Path) -> None:
        """Every problem as a line of JSON."""
        lines = [json.dumps(vars(problem), ensure_ascii=False) for problem in self.problems]
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


@dataclass
class _Seen:
    """What a process knows of one row."""

    row: int
    id: str = ""
    task: str = ""
    length: int = 0
    content: bytes = b""  # of words and places of pictures
    pixels: list[bytes] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def check(
    path: str | Path,
    images: bool = True,
    against: str | Path | None = None,
    max_length: int = 4096,
    image_seq_length: int = 196,
    num_frames: int = 8,
    processes: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Reads every row of a user's data (see `OwnData`).

    Found are rows that are not in the form, pictures and clips that are missing or cannot be decoded, rows longer than
    `max_length`, ids and whole rows that are there twice, and, with `against`, pictures that the test data hold too.

    Args:
        images: Open pictures and clips; without, only their files must be there.
        against: Test data; a picture is the same if its decoded pixels are (SHA-256), whatever its name or format.
        image_seq_length, num_frames: Of the model: tokens of a picture, frames of a clip.
        processes: Default: one for each core.
        progress: Is told rows done and rows in all.

    Raises:
        DataError: The data as a whole cannot be read, or a process that reads was killed.
    """
    settings = (images, max_length, image_seq_length, num_frames)
    total = len(OwnData(path)) + (len(OwnData(against)) if against and images else 0)
    ways = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in ways else "spawn")  # Windows has no other
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        told = itertools.count(1)

        def rows_of(data: str | Path) -> Iterator[_Seen]:
            count = len(OwnData(data))
            jobs = [(str(data), start, min(start + CHUNK, count), *settings) for start in range(0, count, CHUNK)]
            try:
                for chunk in pool.map(_check_rows, jobs):
                    for seen in chunk:
                        progress(next(told), total)
                        yield seen
            except BrokenProcessPool as error:
                raise DataError(
                    f"{data}: a process that reads was killed, perhaps for want of memory; give fewer --processes"
                ) from error

        tested: dict[bytes, int] = {}
        if against and images:
            for seen in rows_of(against):
                tested.update((digest, seen.row) for digest in seen.pixels)
        return _gather(rows_of(path), tested, str(against))


def _gather(rows: Iterable[_Seen], tested: dict[bytes, int], against: str) -> Report:
    report = Report()
    ids: dict[str, int] = {}
    contents: dict[bytes, int] = {}
    pixels: dict[bytes, int] = {}
    lengths: list[int] = []
    tasks: dict[str, int] = defaultdict(int)
    for seen in rows:
        report.rows += 1
        report.problems += seen.problems
        if not seen.task:  # it could not be read
            continue
        tasks[seen.task] += 1
        lengths.append(seen.length)

        def tell(kind: str, message: str, seen: _Seen = seen) -> None:
            report.problems.append(Problem(seen.row, seen.id, kind, message))

        if (first := ids.setdefault(seen.id, seen.row)) != seen.row:
            tell("duplicate id", f"row {first} has the id {seen.id} too")
        if (first := contents.setdefault(seen.content, seen.row)) != seen.row:
            tell("duplicate row", f"row {first} has the same pictures and words")
        for digest in seen.pixels:
            report.pictures += 1
            report.repeated += pixels.setdefault(digest, seen.row) != seen.row
            if digest in tested:
                tell("leak", f"a picture of it is in {against} too, row {tested[digest]}")
    report.tasks = {task: tasks[task] for task in TASKS if task in tasks}
    if lengths:
        report.lengths = (min(lengths), round(sum(lengths) / len(lengths)), max(lengths))
    report.problems.sort(key=lambda problem: problem.row)
    return report


_open = lru_cache(maxsize=2)(OwnData)  # finding a hundred thousand lines takes a while; a process has many chunks


def _check_rows(job: tuple[str, int, int, bool, int, int, int]) -> list[_Seen]:
    """Runs in a process of its own."""
    path, start, end, images, max_length, image_seq_length, num_frames = job
    data = _open(path)
    found = []
    for place in range(start, end):
        seen = _Seen(place + 1)
        found.append(seen)
        try:
            row = data.row(place)
        except DataError as error:
            message = str(error).removeprefix(f"{data.path}, row {place + 1}: ")
            seen.problems.append(Problem(seen.row, "", "not in the form", message))
            continue
        seen.id, seen.task = row["id"], row["task"]
        # A row without an id is called by its place, which is no content.
        seen.content = hashlib.sha256(repr(row["messages"]).encode()).digest()
        characters, blocks = text_and_blocks(row, num_frames)
        seen.length = tokens_of(characters, blocks, image_seq_length)
        if blocks * image_seq_length >= max_length or seen.length > max_length:
            message = (
                f"about {seen.length} tokens, {blocks * image_seq_length} of them pictures; max_length is {max_length}"
            )
            seen.problems.append(Problem(seen.row, seen.id, "too long", message))
        _check_pictures(row, seen, images)
    return found


def _check_pictures(row: Row, seen: _Seen, decode: bool) -> None:
    for visual in visuals_of(row["messages"]):
        for source in visual.sources:
            is_clip = visual.kind == "video" and len(visual.sources) == 1
            is_path = isinstance(source, str) and not source.startswith("data:") and "://" not in source
            if not decode:
                if is_path and not os.path.isfile(source):
                    seen.problems.append(Problem(seen.row, seen.id, "missing file", f"{source} is not there"))
                continue
            try:
                seen.pixels.append((_pixels_of_file if isinstance(source, str) else _pixels)(source, is_clip))
            except ValueError as error:  # VisualInputError, which names the file
                kind = "missing file" if is_path and not os.path.exists(source) else "unreadable"
                seen.problems.append(Problem(seen.row, seen.id, kind, str(error)))


def _pixels(source: Any, is_clip: bool) -> bytes:
    picture = load_video(source, 1)[0] if is_clip else load_image(source)
    return pixel_hash(picture, "clip" if is_clip else "picture")


# Many questions are asked of one picture, one after the other. Pictures inside a table are not kept in memory for it.
_pixels_of_file = lru_cache(maxsize=4096)(_pixels)


def pixel_hash(picture: Image.Image, kind: str) -> bytes:
    """Of the decoded pixels: the same picture under another name or in another lossless format is the same."""
    rgb = picture.convert("RGB")
    return hashlib.sha256(f"{kind}{rgb.size}".encode() + rgb.tobytes()).digest()


def as_json(report: Report) -> dict[str, Any]:
    return {
        "rows": report.rows,
        "bad_rows": report.bad_rows,
        "tasks": report.tasks,
        "tokens": dict(zip(("min", "mean", "max"), report.lengths, strict=True)),
        "pictures": report.pictures,
        "repeated_pictures": report.repeated,
        "problems": report.kinds,
    }
