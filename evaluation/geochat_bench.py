"""GeoChat-Bench: its questions on RSVQA's pictures and its scenes of AID and UC Merced."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..trainers.data_sets import RSVQAHR, RSVQALR, DataError
from ..trainers.data_sets.era import letters
from ..trainers.data_sets.files import JsonLines, check_split, find
from ..trainers.rows import image_items
from .samples import Benchmark, Sample, asked

ORIGIN = "https://huggingface.co/datasets/MBZUAI/GeoChat-Bench"
FILES = {"lrben": "lrben.jsonl", "hrben": "hrben.jsonl", "aid": "aid.jsonl", "ucmerced": "UCmerced.jsonl"}
# Where the pictures may lie below the folder: as their own archives unpack, beside the file or in `images`.
FOLDERS = {
    "lrben": ("Images_LR",),
    "hrben": ("Data",),
    "aid": ("AID", "aid"),
    "ucmerced": ("UCMerced_LandUse/Images", "Images"),
}
SUFFIXES = (".tif", ".png", ".jpg")
CLASSES = re.compile(r"classes:([^\n.]*)", re.IGNORECASE)  # "Classes: airport, school. Answer with one word."
SHOWN = 3  # examples in a problem's line


def geochat_questions(name: str, path: Path, split: str) -> Benchmark:
    """`lrben` and `hrben` (Kuckreja et al., CVPR 2024): RSVQA's test questions as GeoChat asks them.

    - Labels: `lrben.jsonl`, `hrben.jsonl`: `question_id`, `image`, `text` (the question with GeoChat's words behind
      it), `category`. The public files have no answers: these are taken by `question_id` from RSVQA's own files
      (`LR_split_test_*.json`; `USGS_split_test_phili_*.json`, Philadelphia), which lie in the same folder. The form
      is that which GeoChat's scripts and scripts of others read; the files themselves were not at hand.
    - Pictures: RSVQA's, in `Images_LR/` or `Data/`, beside the file or in `images/`.

    Args:
        path: Folder of the JSONL file.
    """
    rows = list(_rows(name, path, split))
    source = RSVQALR(path, "test") if name == "lrben" else RSVQAHR(path, "test2")
    known = {str(record["id"]): record for record in source.records}
    samples, unknown, others = [], [], []
    for row in rows:
        number = str(row["question_id"])
        record = known.get(number)
        if record is None:
            unknown.append(number)
        elif not letters(row["text"]).startswith(letters(record["question"])):
            others.append(number)
        else:
            messages = asked(image_items([_picture(name, path, row["image"])]), row["text"])
            samples.append(Sample(number, messages, (str(record["answer"]),), record["type"]))
    problems = [
        *_problem(unknown, f"questions left out: RSVQA has no answer to them in {source.files[0].name}"),
        *_problem(others, f"questions left out: in {source.files[0].name} another question has their number"),
    ]
    files = (path / FILES[name], *source.files)
    return Benchmark(name, split, "vqa", samples, files=files, problems=problems)


def geochat_scenes(name: str, path: Path, split: str) -> Benchmark:
    """`aid` and `ucmerced`: scene classification with the class names in the question.

    - Labels: `aid.jsonl`, `UCmerced.jsonl`: `question_id` (`<class>/<file>`), `image`, `text` (with `Classes: ...`),
      `ground_truth`. As in GeoChat's scorer the folder in `question_id` is the class; the `ground_truth` of AID may
      end in a stray "gt", and its pictures are named with a suffix that they do not have.
    - Pictures: of AID in `AID/`, of UC Merced in `UCMerced_LandUse/Images/` or `Images/`, flat or by class, beside
      the file or in `images/`.

    A sample whose class no question names is a problem of the benchmark, and is not scored.

    Raises:
        DataError: No question names classes, or no sample has one that is named.
    """
    samples, unknown = [], []
    classes: dict[str, str] = {}
    for row in _rows(name, path, split):
        named = CLASSES.search(row["text"])
        for one in (named[1] if named else "").split(","):
            if letters(one):
                classes.setdefault(letters(one), one.strip())
        folder, slash, _ = str(row["question_id"]).partition("/")
        given = folder if slash else str(row.get("ground_truth", ""))
        label = next(
            (classes[key] for key in (letters(given), letters(given).removesuffix("gt")) if key in classes), ""
        )
        if not label:
            unknown.append(f"{row['question_id']} ({given or 'none'})")
        image = _picture(name, path, row["image"], folder if slash else "")
        messages = asked(image_items([image]), row["text"])
        samples.append(Sample(str(row["question_id"]), messages, (label or given,), label or given))
    if samples and not classes:
        raise DataError(f"{path / FILES[name]}: no question names classes (Classes: ...); download the file again")
    if samples and len(unknown) == len(samples):
        raise DataError(
            f"{path / FILES[name]}: no sample has a class that its question names, the first is {unknown[0]}; "
            "download the file again"
        )
    problems = _problem(unknown, "samples have a class that their question does not name; they are not scored")
    return Benchmark(name, split, "classes", samples, tuple(classes.values()), (path / FILES[name],), problems)


def _rows(name: str, path: Path, split: str) -> Iterator[dict[str, Any]]:
    check_split(name, split, ("test",))
    file = find(name, path / FILES[name], ORIGIN)
    lines = JsonLines(file)
    for number in range(len(lines)):
        row = lines[number]
        given = [row.get(key) for key in ("question_id", "image", "text")] if isinstance(row, dict) else [None]
        if not isinstance(given[0], (str, int)) or not all(isinstance(one, str) for one in given[1:]):
            raise DataError(f"{file}, row {number + 1}: lacks question_id, image or text; download the file again")
        yield row


def _picture(name: str, path: Path, image: str, label: str = "") -> str:
    """The file of a picture, wherever it lies; where it would be if it lies nowhere."""
    bases = [path / below / folder for folder in FOLDERS[name] for below in ("", "images")] + [path, path / "images"]
    given = Path(image)
    for base in bases:
        for place in dict.fromkeys((base / given, base / label / given.name)):
            for file in (place, *(place.with_suffix(suffix) for suffix in SUFFIXES)):
                if file.is_file():
                    return str(file)
    return str(bases[0] / given)


def _problem(found: list[str], what: str) -> list[str]:
    return [f"{len(found)} {what}: {', '.join(found[:SHOWN])}{', ...' * (len(found) > SHOWN)}"] if found else []
