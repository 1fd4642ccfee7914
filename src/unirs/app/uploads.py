"""Files that visitors have uploaded: found in their folder and nowhere else, measured, and read as the commands do."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unirs.given import CLIPS, PICTURES, ending
from unirs.picture_files import RASTERS, notes_on_bands, read_dates
from unirs.processing.frame_sampling_unirs import DatedSequence, sample_date_indices
from unirs.processing.image_loading_unirs import open_header
from unirs.processing.video_loading_unirs import load_video
from unirs.terminal import InputError

from .limits import Limits

if TYPE_CHECKING:
    from PIL import Image

SHOWN_BY_BROWSERS = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp"}
PREVIEW = ".preview.png"  # added to the name of a picture that browsers do not show
LONGEST_SHOWN = 1600  # pixels of a side: what people see; the model is given the file itself
FEWEST_DATES = 3
# Readers know the options of the commands; what the page has of them is called otherwise, the rest it has not.
CALLED_HERE = {
    "add --pixel": "tick “pixel by pixel” under Settings",
    "(or --pixel)": "(or tick “pixel by pixel” under Settings)",
    "--pixel needs equal sizes": "“pixel by pixel” needs equal sizes",
    "a larger --tile": "tiles a larger side",
}
NOT_HERE = " (an option of the `unirs` commands, which this page has not)"


@dataclass(frozen=True)
class Shown:
    """Args:
    pictures: What the model is shown.
    names: Of each, for the visitor.
    notes: What the visitor should know of how they were read.
    """

    pictures: list[Image.Image]
    names: list[str]
    notes: list[str]


class Uploads:
    """Args:
    folder: Where the page keeps uploads and results.
    """

    def __init__(self, folder: Path, limits: Limits):
        self.folder, self.limits = folder.resolve(), limits

    def holds(self, path: str) -> bool:
        """Whether it is a name of something in the folder, with links and `..` followed."""
        try:
            return Path(path).resolve().is_relative_to(self.folder)
        except (OSError, ValueError):  # too long, or a zero byte
            return False

    def bytes_held(self) -> int:
        """Of all files together."""
        size = 0
        for path in self.folder.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                size += path.lstat().st_size
        return size

    def sweep(self, spared: Iterable[Path] = ()) -> None:
        """Removes what has not been written to for its time: uploads also that were cut off, previews, maps.

        Args:
            spared: What stays whatever its age.
        """
        oldest, spared = time.time() - self.limits.kept_seconds, set(spared)
        for path in sorted(self.folder.rglob("*"), reverse=True):  # what a folder holds comes before the folder
            # Removed meanwhile; or a folder that is not empty.
            with contextlib.suppress(OSError):
                if path in spared or path.lstat().st_mtime > oldest:
                    continue
                if path.is_dir() and not path.is_symlink():
                    path.rmdir()
                else:
                    path.unlink()

    def path(self, given: Any, what: str) -> Path:
        """The file of a component's value; of a preview, the file that it stands for.

        Raises:
            InputError: There is none, or it lies elsewhere.
        """
        if not given:
            raise InputError(f"Choose {what} first.")
        name = given.get("path") if isinstance(given, dict) else None
        if not isinstance(name, str) or not self.holds(name):
            raise InputError(f"This is no uploaded file. Choose {what} again.")
        path = Path(name).resolve()
        shown = path.with_name(path.name.removesuffix(PREVIEW)) if path.name != PREVIEW else path
        if os.path.isfile(shown):  # else it is no preview: an upload may be called like one
            path = shown
        if not os.path.isfile(path):
            minutes = self.limits.kept_seconds // 60
            raise InputError(f"The file has been removed, as all are after {minutes} minutes. Choose {what} again.")
        return path

    def pictures(self, *given: tuple[Any, str]) -> Shown:
        """Pictures of one question, as `unirs.picture_files` reads them.

        Args:
            given: A component's value, and what to call it, for each.

        Raises:
            InputError: One cannot be read, or together they are too large.
        """
        paths = [self.path(value, what) for value, what in given]
        return self._read(paths)

    def frames(self, given: Any, num_frames: int) -> Shown:
        """Frames of a clip, or the dated pictures of a sequence.

        Raises:
            InputError: As for `pictures`.
        """
        values = given if isinstance(given, list) else [given]
        what = "a clip, or three and more pictures,"
        if len(values) > self.limits.files:
            raise InputError(f"{len(values)} files are chosen, and {self.limits.files} are read. Choose fewer.")
        if not 1 <= num_frames <= self.limits.files:
            raise InputError(f"{num_frames} frames are asked for; 1 to {self.limits.files} are taken.")
        paths = [self.path(value, what) for value in values]
        if len(paths) > 1:
            return self._sequence(paths, num_frames)
        if ending(paths[0].name) in PICTURES | RASTERS:
            raise InputError(
                f"{paths[0].name} is one picture: ask about it under “Picture”, or choose three and more."
            )
        try:
            # For each frame, since a clip's frames may change their size.
            frames = load_video(paths[0], num_frames, self.limits.pixels // num_frames, self.limits.clip_seconds)
        except ValueError as error:
            raise readable(error, paths) from error
        return Shown(frames, [f"Frame {number}" for number in range(1, len(frames) + 1)], [])

    def _sequence(self, paths: Sequence[Path], num_frames: int) -> Shown:
        for path in paths:
            if ending(path.name) in CLIPS:
                raise InputError(f"{path.name} is a video: choose one alone, or pictures only.")
        if len(paths) < FEWEST_DATES:
            raise InputError("Two pictures are a pair: show them under “Change”.")
        shown = self._read(paths)
        taken = [index + 1 for index in sample_date_indices(len(paths), num_frames)]
        notes = shown.notes
        if len(taken) < len(paths):
            places = ", ".join(map(str, taken))
            told = (
                f"Of {len(paths)} pictures the model looks at {len(taken)}: {places}. With more frames it sees more."
            )
            notes = [told, *notes]
        pictures = load_video(DatedSequence(shown.pictures), num_frames)
        return Shown(pictures, [f"Picture {place}" for place in taken], notes)

    def _read(self, paths: Sequence[Path]) -> Shown:
        self._check_pixels(paths)
        names = [path.name for path in paths]
        try:
            pictures, compositions = read_dates([str(path) for path in paths])
        except ValueError as error:
            raise readable(error, paths) from error
        return Shown(pictures, names, notes_on_bands(names, compositions) if compositions else [])

    def rasters(self, *given: tuple[Any, str]) -> list[Path]:
        """Rasters for a map; each may have as many pixels as a question.

        Raises:
            InputError: One is missing, is no raster, or is too large.
        """
        paths = [self.path(value, what) for value, what in given]
        for path in paths:
            self._check_pixels([path])
        return paths

    def preview(self, given: Any, what: str) -> Path | None:
        """A small picture beside a file that browsers do not show; None if they do.

        Raises:
            InputError: The file cannot be read, or is too large.
        """
        path = self.path(given, what)
        if ending(path.name) in SHOWN_BY_BROWSERS:
            self._check_pixels([path])
            return None
        (picture,) = self.pictures((given, what)).pictures
        shown = path.with_name(path.name + PREVIEW)
        small(picture).save(shown)
        return shown

    def _check_pixels(self, paths: Sequence[Path]) -> None:
        """From the headers alone."""
        try:
            sizes = [width * height for width, height in map(_size, paths)]
        except ValueError as error:
            raise readable(error, paths) from error
        # Rasters are read on the grid of one of them, small ones too.
        aligned = all(ending(path.name) in RASTERS for path in paths)
        pixels = max(sizes) * len(sizes) if aligned else sum(sizes)
        if pixels > self.limits.pixels:
            together = "The pictures together have" if len(paths) > 1 else f"{paths[0].name} has"
            most = _megapixels(self.limits.pixels)
            raise InputError(f"{together} {_megapixels(pixels)}, and {most} are read. Choose a smaller part.")


def readable(error: Exception, paths: Sequence[Path]) -> InputError:
    """The sentence of a reader, with files as the visitor knows them."""
    return InputError(f"{known(str(error), paths).rstrip('.')}.")


def known(sentence: str, paths: Sequence[Path]) -> str:
    """With files as the visitor knows them, not by their place on the server, and in the page's words."""
    for path in paths:
        sentence = sentence.replace(f"{path.parent}/", "")
    for option, called in CALLED_HERE.items():
        sentence = sentence.replace(option, called)
    words = sentence
    for path in paths:  # a file may be named like an option
        words = words.replace(path.name, "")
    return sentence + NOT_HERE if re.search(r"(^| )--[a-z]", words) else sentence


def small(picture: Image.Image) -> Image.Image:
    """As people are shown it."""
    picture = picture.copy()
    picture.thumbnail((LONGEST_SHOWN, LONGEST_SHOWN))
    return picture


def _size(path: Path) -> tuple[int, int]:
    if ending(path.name) in RASTERS and importlib.util.find_spec("rasterio") is not None:
        from unirs.geo import open_raster

        with open_raster(path) as raster:
            return raster.size
    with path.open("rb") as file:
        return open_header(file, path.name).size


def _megapixels(pixels: int) -> str:
    return f"{pixels / 1e6:,.1f} million pixels"
