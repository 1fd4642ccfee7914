"""CRSVQA: questions that need more than one look."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..rows import Row, conversation, image_items
from .errors import DataError, DataMissingError
from .files import check_split, find

ORIGIN = "https://github.com/MeimeiZhang-data/MQVQA (CRSVQA)"
TEST_SHARE = 10  # one picture of so many


class CRSVQA:
    """CRSVQA (Zhang et al., IEEE TGRS 2023), questions on scenes and on relations between objects.

    - Source: pictures with questions written by people; terms not stated in the repository.
    - Pictures: 4,639, `image/<name>.png`; sizes and resolution not known here.
    - Labels: 4,644 questions with one answer each (both counts by the paper). `text/<name>.txt` belongs to the picture
      of that name: a line with a question, a line with its answer, and so on. The form is that which the authors' own
      reader takes (MQVQA_code/dataset.py); the archive itself was not at hand. As there, answers are in small letters.
    - Splits: none are published, and the UniRS paper speaks of both "10 %" and 1,000 questions. Ours: a tenth of the
      pictures, chosen by a hash of their names, is "test", so no picture is in both. Scores are not comparable with
      published ones.

    Args:
        path: Folder with `image/` and `text/`, or one with these in `data/`.
        split: "train" or "test".
    """

    name = "crsvqa"

    def __init__(self, path: str | Path, split: str = "train"):
        check_split(self.name, split, ("train", "test"))
        folder = Path(path).expanduser()
        if not (folder / "text").is_dir() and (folder / "data" / "text").is_dir():
            folder = folder / "data"
        self.images = folder / "image"
        files = sorted(find(self.name, folder / "text", ORIGIN).glob("*.txt"))
        if not files:
            raise DataMissingError(self.name, folder / "text" / "*.txt", ORIGIN)
        self.files = tuple(file for file in files if _split_of(file.stem) == split)
        self.questions = [
            (file.stem, question, answer) for file in self.files for question, answer in _questions_of(file)
        ]

    def __len__(self) -> int:
        return len(self.questions)

    def row(self, index: int, repetition: int = 0) -> Row:
        image, question, answer = self.questions[index]
        messages = conversation(image_items([str(self.images / f"{image}.png")]), [(question, answer)])
        return {"id": f"{self.name}-{image}-{index}", "task": "single", "messages": messages}


def _split_of(image: str) -> str:
    return "train" if int(hashlib.sha256(image.encode()).hexdigest(), 16) % TEST_SHARE else "test"


def _questions_of(file: Path) -> list[tuple[str, str]]:
    """Empty lines are kept but at the end: one left out in the middle would give every question another's answer."""
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").rstrip().splitlines()]
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: is no UTF-8 text; download it again") from error
    if len(lines) % 2 or not all(lines):
        raise DataError(f"{file}: has a question without an answer; mend the file or move it away")
    pairs = zip(lines[::2], lines[1::2], strict=True)
    return [(question.replace("\N{FULLWIDTH QUESTION MARK}", "?"), answer.lower()) for question, answer in pairs]
