"""What the user typed, looked at before anything heavy is loaded: the commonest slips are told at once."""

from __future__ import annotations

import os
from pathlib import Path

from .terminal import InputError

PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".jp2", ".ppm"}
PICTURES_OR_CLIPS = {".tif", ".tiff", ".webp", ".gif"}  # may hold one picture or many
CLIPS = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".ts", ".flv", ".wmv", ".ogv", ".mpg", ".mpeg", ".m4v"}

DEMO_TITLE = "UniRS on generated scenes it has never seen"
DEMO_FILES = ("scene.png", "before.png", "after.png", "clip.mp4")  # to try the other commands on
DEMO_FILES_TOLD = f"To try the other commands on: {', '.join(DEMO_FILES)} beside this page."
DEMO_HEAD = 10_000  # bytes of a report that hold both sentences


def ending(file: str) -> str:
    return os.path.splitext(file)[1].lower()


def is_a_file(word: str) -> bool:
    """Whether the last word of a command is one more file; a misspelt file must not become an instruction."""
    known = ending(word) in PICTURES | PICTURES_OR_CLIPS | CLIPS
    return os.path.exists(word) or known or (" " not in word and len(ending(word)) > 1)


def check_words(words: str, what: str) -> None:
    if not words.strip():
        raise InputError(f"{what} is empty")
    try:
        words.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{what} is no valid UTF-8 text; check the terminal's encoding") from error


def check_files(files: list[str]) -> None:
    for file in files:
        if not file:
            raise InputError("a file name is empty; check the variable that it came from")
        if "://" not in file and not file.lower().startswith("data:") and not os.path.exists(file):
            raise InputError(f"{file}: no such file; check the path")


def check_pictures(files: list[str], instead: str) -> None:
    """All are there and none is a clip, for which the user is told what to type instead."""
    check_files(files)
    for file in files:
        if ending(file) in CLIPS:
            raise InputError(f"{file}: is a video, and a picture is wanted; try `{instead}`")


def check_pair(before: str, after: str, instruction: str | None) -> None:
    check_pictures([before, after], "unirs video CLIP")
    if instruction is None:
        return
    check_words(instruction, "the instruction")
    if os.path.exists(instruction) or (" " not in instruction and ending(instruction) in PICTURES | CLIPS):
        raise InputError(f"{instruction}: is a third file; for three and more dates use `unirs video`")


def check_clip(files: list[str]) -> None:
    """One clip, or three and more dated pictures."""
    check_files(files)
    if len(files) > 1:
        check_pictures(files, "unirs video CLIP, one at a time")
    if len(files) == 2:
        raise InputError(f"two pictures are a pair; try `unirs change {files[0]} {files[1]}`")
    if len(files) == 1 and ending(files[0]) in PICTURES:
        raise InputError(f"{files[0]}: is one picture; give a video or three and more, or try `unirs ask`")


def check_heatmap(path: Path, inputs: tuple[str, ...]) -> None:
    """A wrong name is told before the model is loaded, and never costs the user a picture."""
    if path.is_dir():
        raise InputError(f"--heatmap {path}: is a folder; give the name of a PNG in it")
    if path.suffix.lower() != ".png":
        raise InputError(f"--heatmap {path}: is written as PNG; give a name that ends in .png")
    if path.exists() and any(path.samefile(one) for one in inputs if os.path.exists(one)):
        raise InputError(f"--heatmap {path}: is one of the two pictures; give another name")
    check_writable(path)


def check_page(page: Path, samples: Path | None) -> None:
    """Makes the report's folder where it is missing; what an earlier demo has not written is the user's, and stays.

    Args:
        page: The report, which `unirs demo` writes first and knows by its words, also where it was cut off.
        samples: Folder for `DEMO_FILES`.
    """
    make_folder(page.parent, "--output")
    sheet = page.with_suffix(".png")
    check_writable(page)
    check_writable(sheet)
    told = ""
    if page.exists():
        with page.open(encoding="utf-8", errors="replace") as file:
            told = file.read(DEMO_HEAD)
    of_others = [] if DEMO_TITLE in told else [page, sheet]
    if samples is not None and DEMO_FILES_TOLD not in told:
        of_others += [samples / name for name in DEMO_FILES]
    for one in of_others:
        if one.exists():
            raise InputError(f"{one}: is there, and of no earlier `unirs demo`; move it, or give another --output")


def make_folder(folder: Path, option: str) -> None:
    """Makes it where it is missing: what forbids it is told by no other means than trying."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{option} {folder}: cannot be made ({error.strerror})") from error
    if not os.access(folder, os.W_OK):
        raise InputError(f"{option} {folder}: no permission to write there")


def check_writable(path: Path) -> None:
    folder = path.absolute().parent
    if not folder.is_dir():
        raise InputError(f"{path}: the folder {folder} does not exist; make it, or give another")
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give a file name")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise InputError(f"{path}: no permission to write there")
