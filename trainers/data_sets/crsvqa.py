"""CRSVQA: questions that need more than one look."""

from __future__ import annotations

from pathlib import Path

from .files import check_split, find
from .llava_json import LlavaJson

ORIGIN = "https://github.com/MeimeiZhang-data/MQVQA (CRSVQA), turned into LLaVA's form"


class CRSVQA(LlavaJson):
    """CRSVQA (Zhang et al., IEEE TGRS 2023), questions on scenes and on relations between objects.

    - Source: pictures of ground objects and scenes with questions written by people; its archive was not at hand, so
      its own file form is not read: give LLaVA's form, as the released UniRS code (`CRSVQA_Train_Plus.json`) did.
    - Labels: one question and answer a record.
    - Splits: not settled; the paper speaks of "10 %" and of 1,000 questions.

    Args:
        path: Folder with `CRSVQA_{train,test}.json` in LLaVA's form, or such a file.
        split: "train" or "test".
        images: Folder of the pictures; `images` beside the file, or the file's own folder, without it.
    """

    name = "crsvqa"

    def __init__(self, path: str | Path, split: str = "train", images: str | Path | None = None):
        check_split(self.name, split, ("train", "test"))
        path = Path(path).expanduser()
        file = find(self.name, path / f"CRSVQA_{split}.json" if path.is_dir() else path, ORIGIN)
        beside = file.parent / "images"
        super().__init__(file, images or (beside if beside.is_dir() else None))
