"""RSVQA: questions on one image, made from OpenStreetMap; low and high resolution."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..rows import Row, conversation, image_items
from .errors import DataError
from .files import Records, check_split, read_json

LR_ORIGIN = "https://zenodo.org/records/6344334 (RSVQA-LR)"
HR_ORIGIN = "https://zenodo.org/records/6344367 (RSVQA-HR)"


class _RSVQA:
    """Three JSON files a split: lists indexed by id, of which only `active` entries count."""

    name: str

    def __init__(self, path: str | Path, prefix: str, folder: str, origin: str):
        self.path = Path(path).expanduser()
        self.folder = self.path / folder
        self.files = (self.path / f"{prefix}_questions.json", self.path / f"{prefix}_answers.json")
        questions = self._entries(self.files[0], "questions", origin)
        answers = {one["id"]: one for one in self._entries(self.files[1], "answers", origin)}
        records = []
        for question in questions:
            given = [answers[number]["answer"] for number in question["answers_ids"] if number in answers]
            if not given:
                raise DataError(f"{self.path}: question {question['id']} of {prefix} has no answer; download it again")
            records.append(
                {**{key: question[key] for key in ("id", "img_id", "type", "question")}, "answer": given[0]}
            )
        self.records = Records(records)

    def _entries(self, file: Path, key: str, origin: str) -> list[dict[str, Any]]:
        found = read_json(self.name, file, origin)
        try:
            return [one for one in found[key] if one.get("active")]
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{file}: holds no list of {key}; download it again") from error

    def __len__(self) -> int:
        return len(self.records)

    def kind(self, index: int) -> str:
        """Type of the question: presence, comp, count, area, rural_urban."""
        return self.records[index]["type"]

    def row(self, index: int, repetition: int = 0) -> Row:
        record = self.records[index]
        image = str(self.folder / f"{record['img_id']}.tif")
        messages = conversation(image_items([image]), [(record["question"], record["answer"])])
        return {"id": f"{self.name}-{record['id']}", "task": "single", "messages": messages}


class RSVQALR(_RSVQA):
    """RSVQA-LR (Lobry et al., IEEE TGRS 2020).

    - Source: nine Sentinel-2 tiles over the Netherlands, questions from OpenStreetMap; CC BY 4.0 by its page.
    - Pictures: 772 RGB pictures of 256x256 pixels, 10 m a pixel, `Images_LR/<id>.tif`.
    - Labels: presence, comparison, rural or urban, count; the paper leaves count out. Test questions without it:
      2,955 presence, 4,002 comparison, 100 rural or urban.
    - Splits: `LR_split_{train,val,test}_{questions,answers,images}.json`; 77,232 questions, 11.1 % of them in test.

    Args:
        path: Folder with the JSON files and `Images_LR/`.
        split: "train", "val" or "test".
    """

    name = "rsvqa_lr"

    def __init__(self, path: str | Path, split: str = "train"):
        check_split(self.name, split, ("train", "val", "test"))
        super().__init__(path, f"LR_split_{split}", "Images_LR", LR_ORIGIN)


class RSVQAHR(_RSVQA):
    """RSVQA-HR (Lobry et al., IEEE TGRS 2020).

    - Source: USGS aerial pictures of the north-eastern United States, questions from OpenStreetMap.
    - Pictures: 10,659 RGB pictures of 512x512 pixels, 0.15 m a pixel, `Data/<id>.tif`.
    - Labels: presence, comparison, count, area; the paper leaves count and area out.
    - Splits: train, val, test1 and test2, which is another city (Philadelphia):
      `USGS_split_{train,val,test,test_phili}_{questions,answers,images}.json`. 1,066,316 questions, 20.5 % of them in
      test1 and 6.8 % in test2.

    Args:
        path: Folder with the JSON files and `Data/`.
        split: "train", "val", "test1" or "test2".
    """

    name = "rsvqa_hr"

    def __init__(self, path: str | Path, split: str = "train"):
        files = {"train": "train", "val": "val", "test1": "test", "test2": "test_phili"}
        check_split(self.name, split, tuple(files))
        super().__init__(path, f"USGS_split_{files[split]}", "Data", HR_ORIGIN)
