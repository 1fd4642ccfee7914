"""A user's own rows as a benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from ..trainers.data_sets import DataError, OwnData
from .captions import normalise
from .change_captions import KINDS
from .classes import letters
from .questions import normalise_answer
from .samples import Benchmark, Sample, Scoring

# What datasets.save_to_disk writes. Pictures and a run's own output may lie in the same folder.
SAVED = ("*.arrow", "state.json", "dataset_info.json", "dataset_dict.json")


def own_benchmark(path: Path, split: str | None, metric: Scoring | None) -> Benchmark:
    """Rows in the form of training data (`trainers/data_sets/own.py`); the last answer is the reference.

    A row may have `references`, further right answers, and `kind`, by which scores are told apart (else: single,
    pair, video, text). With metric "classes" the classes are all references that occur; name them in the question.

    Args:
        split: Of a `datasets` folder that has several.
        metric: "vqa", "captions" or "classes".

    Raises:
        DataError: The file or each of its rows cannot be read, or the metric is not named.
    """
    if metric is None or metric not in get_args(Scoring):
        raise DataError(f"own data need a metric: {', '.join(get_args(Scoring))}")
    data = OwnData(path, split)
    samples, problems = [], []
    for index in range(len(data)):
        try:
            samples.append(_sample(data, index, metric))
        except DataError as error:
            problems.append(f"left out, it cannot be asked: {error}")
    if problems and not samples:
        raise DataError(f"{path}: none of its {len(problems)} rows can be asked; {problems[0].partition(': ')[2]}")
    classes = _classes(samples, path) if metric == "classes" else ()
    several = [sample.id for sample in samples if len(sample.references) > 1] if metric == "classes" else []
    if several:
        problems.append(
            f"further references of {len(several)} rows are not used, {several[0]} first: a class has one name"
        )
    strange = [sample.id for sample in samples if sample.kind not in KINDS]
    if metric == "captions" and strange and len(strange) < len(samples):
        problems.append(
            f"{len(strange)} rows are neither of the kind change nor no_change, {strange[0]} first: there is no "
            "change flag and no change_only"
        )
    return Benchmark("own", split or "all", metric, samples, classes, _label_files(path), problems)


def _label_files(path: Path) -> tuple[Path, ...]:
    if not path.is_dir():
        return (path,)
    found = (file for name in SAVED for file in path.rglob(name))
    return tuple(sorted(one for one in found if not one.name.startswith("cache-")))  # of others' `map`


def _classes(samples: list[Sample], path: Path) -> tuple[str, ...]:
    """The answers that occur; spellings that differ in case and punctuation are one class, by its first spelling."""
    names: dict[str, str] = {}
    for sample in sorted(samples, key=lambda one: one.references[0]):
        name = sample.references[0]
        if not letters(name):
            raise DataError(f"{path}: row {sample.id} has the class {name!r}, without a letter or digit to compare")
        names.setdefault(letters(name), name)
    return tuple(names.values())


def _sample(data: OwnData, index: int, metric: Scoring) -> Sample:
    row, record = data.row(index), data.records[index]
    *messages, answer = row["messages"]
    more = record.get("references") or []
    if not isinstance(more, list) or not all(isinstance(one, str) and one.strip() for one in more):
        raise DataError(f"{data.path}, row {index + 1}: references must be a list of answers in words")
    references = tuple(dict.fromkeys([answer["content"], *more]))
    if metric != "classes":
        compared = normalise if metric == "captions" else normalise_answer
        if not any(compared(one) for one in references):
            what = "caption" if metric == "captions" else "answer to compare with"
            raise DataError(f"{data.path}, row {index + 1}: {references[0]!r} is no {what}; write one in words")
        references = tuple(one for one in references if compared(one))
    kind: Any = record.get("kind") or row["task"]
    known = [row["id"], str(kind), *more]
    if any("\ud800" <= character <= "\udfff" for words in known for character in words):
        raise DataError(
            f"{data.path}, row {index + 1}: id, kind or references hold half characters; write it as UTF-8 again"
        )
    return Sample(row["id"], messages, references, str(kind))
