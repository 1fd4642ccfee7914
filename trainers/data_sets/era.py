"""ERA: clips from unmanned aircraft, each of one of 25 events."""

from __future__ import annotations

from pathlib import Path

from ...processing.prompts_unirs import DEFAULT_INSTRUCTIONS, ERA_CLASSES
from ..rows import Row, conversation, video_item
from .errors import DataError, DataMissingError
from .files import check_split, find

ORIGIN = "https://lcmou.github.io/ERA_Dataset (ERA)"
CLIPS = (".mp4", ".avi", ".mov", ".mkv")


class ERA:
    """ERA, event recognition in aerial videos (Mou et al., IEEE GRSM 2020).

    - Source: 2,864 clips cut from YouTube videos; for research.
    - Pictures: clips of 5 s, 24 frames a second, 640x640 pixels.
    - Labels: one of 25 classes, given by the folder: `{Train,Test}/<Class>/<Class>_<number>.mp4`. Folders are in
      CamelCase and file names may hold a space ("Baseball_008 .mp4"), so names are compared by letters and
      digits.
    - Splits: test 1,391 clips (the UniRS paper), which leaves 1,473 for train.

    Args:
        path: Folder with the folders of both splits.
        split: "train" or "test".
        strangers: Takes folders that are none of the 25 classes, which are left out; without it they are an error.
    """

    name = "era"

    def __init__(self, path: str | Path, split: str = "train", strangers: list[Path] | None = None):
        check_split(self.name, split, ("train", "test"))
        root = find(self.name, Path(path).expanduser(), ORIGIN)
        folders = [one for one in root.iterdir() if one.is_dir() and letters(one.name) == split]
        if not folders:
            raise DataMissingError(self.name, root / split.capitalize(), ORIGIN)
        self.clips: list[tuple[str, str]] = []
        for folder in sorted(one for one in folders[0].iterdir() if one.is_dir()):
            try:
                label = era_class(folder)
            except DataError:
                if strangers is None:
                    raise
                strangers.append(folder)
                continue
            self.clips += [(str(file), label) for file in sorted(folder.iterdir()) if file.suffix.lower() in CLIPS]
        if not self.clips:
            raise DataMissingError(self.name, folders[0] / "Baseball" / "*.mp4", ORIGIN)

    def __len__(self) -> int:
        return len(self.clips)

    def label(self, index: int) -> str:
        """The class, written as in `ERA_CLASSES`."""
        return self.clips[index][1]

    def row(self, index: int, repetition: int = 0) -> Row:
        file, label = self.clips[index]
        messages = conversation(video_item(file), [(DEFAULT_INSTRUCTIONS["video"], label)])
        return {"id": f"{self.name}-{Path(file).stem}", "task": "video", "messages": messages}


def letters(name: str) -> str:
    """Letters and digits alone, small: what is left of a class's name however it is written."""
    return "".join(character for character in name.lower() if character.isalnum())


def era_class(folder: Path) -> str:
    by_letters = {letters(name): name for name in ERA_CLASSES}
    if letters(folder.name) not in by_letters:
        raise DataError(f"{folder}: is none of ERA's 25 classes; move the folder away")
    return by_letters[letters(folder.name)]
