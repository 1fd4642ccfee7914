"""Predictions read from a file and put beside the samples they belong to; whatever does not fit is named."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

from ..trainers.data_sets.errors import DataError
from ..trainers.rows import visuals_of
from .samples import Benchmark, Prediction, Sample

Problems = dict[str, list[str]]  # kind of problem -> one line for each


def read_predictions(path: Path) -> tuple[list[Prediction], Problems]:
    """Rows of a JSONL file with at least `id` and `prediction`; an `id` may be a number.

    Returns:
        The usable rows in the file's order, and what was wrong with the others, line by line.

    Raises:
        DataError: The file cannot be read, or not one of its lines can be used.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    whole = lines[-1] == b""  # every finished line ends with a line feed
    rows: list[Prediction] = []
    problems: Problems = defaultdict(list)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            cut = number == len(lines) and not whole
            kind, reason = ("half-written line", "ends early") if cut else ("unreadable line", "is no JSON")
            problems[kind].append(f"line {number} {reason}")
            continue
        if reason := _unusable(row):
            problems["unusable row"].append(f"line {number}: {reason}")
        else:
            words = {"id": _text(str(row["id"])), "prediction": _text(row["prediction"] or "")}
            rows.append(cast(Prediction, {**row, **words}))
    if not rows:
        wrong = next((f"; {one[0]}" for one in problems.values()), ": it is empty")
        form = '{"id": "...", "prediction": "..."}'
        raise DataError(f"{path}: has no predictions{wrong}. Each line must be a JSON object like {form}")
    return rows, dict(problems)


def _text(words: str) -> str:
    """Without lone surrogates, which JSON can spell and no file can hold."""
    return words.encode(errors="replace").decode()


def _unusable(row: Any) -> str:
    """Why a line is no prediction; nothing if it is one. A row with an error needs no words."""
    if not isinstance(row, dict):
        return f"is a {type(row).__name__}, not an object"
    if isinstance(row.get("id"), bool) or not isinstance(row.get("id"), (str, int)):
        return "has no `id`, or one that is neither text nor a number"
    said = row.get("prediction")
    if not isinstance(said, str) and not (said is None and row.get("error")):
        return f"{row['id']} has no `prediction`, or one that is not text"
    return ""


def answers_to(benchmark: Benchmark, predictions: Iterable[Prediction]) -> tuple[list[str], Problems]:
    """One answer for each sample, in their order, and what did not fit.

    A sample without a prediction, or with an error in its place, gets an empty string, which is scored as wrong. Of
    several rows for a sample the first without an error counts.

    Predictions are found by the sample's id. One that has none by its id may have it by the name of its picture or
    clip, with or without its ending (`test_000001.png`, `test_000001`), if no other sample has the same. Without its
    ending only where no other prediction has an id: among answers to questions 17 and 19, "18" is a question.

    Raises:
        DataError: The benchmark has no samples, not one id is known, so that all scores would be 0, or the ids may as
            well be names of other samples' pictures.
    """
    if not benchmark.samples:
        raise DataError(f"{benchmark.name}: has no samples in {benchmark.split}; nothing can be scored")
    predictions = list(predictions)
    by_id = {sample.id: place for place, sample in enumerate(benchmark.samples)}
    answered = {by_id.get(row["id"]) for row in predictions}
    names = _file_names(benchmark.samples)
    given = [row["id"] for row in predictions]
    _check_meaning(benchmark, given, by_id, names)
    are_ids = any(one in by_id and names.get(one) != by_id[one] for one in given)
    if are_ids and any(one not in by_id for one in given):
        files = {source.name for sample in benchmark.samples for source in sources_of(sample)}
        names = {name: place for name, place in names.items() if name in files}
    by_name = {name: place for name, place in names.items() if place not in answered}
    places = by_name | by_id
    found: dict[int, Prediction] = {}
    problems: Problems = defaultdict(list)
    first_unknown = ""
    for row in predictions:
        place = places.get(row["id"])
        if place is None:
            first_unknown = first_unknown or row["id"]
            problems["unknown id"].append(row["id"])
        elif place not in found:
            found[place] = row
        else:
            problems["duplicate id"].append(row["id"])
            if found[place].get("error") and not row.get("error"):
                found[place] = row
    if not found and first_unknown:
        raise DataError(
            f"{benchmark.name}: none of the predictions' ids is known, the first is {first_unknown!r}; "
            f"the samples' ids are like {benchmark.samples[0].id!r}"
        )
    answers = []
    for place, sample in enumerate(benchmark.samples):
        row = found.get(place, {"prediction": "", "error": ""})
        if place not in found:
            problems["missing prediction"].append(sample.id)
        elif row.get("error"):
            problems["error instead of a prediction"].append(f"{sample.id}: {row['error']}")
        answers.append("" if row.get("error") else row["prediction"])
    return answers, dict(problems)


def _check_meaning(benchmark: Benchmark, given: list[str], by_id: dict[str, int], names: dict[str, int]) -> None:
    """Rows 0, 1, 2 with pictures 1.png, 2.png, 3.png: predictions of 1, 2, 3 are of the pictures, not of the rows."""
    stranger = next((one for one in given if one not in by_id), None)
    twofold = next((one for one in given if one in by_id and names.get(one, by_id[one]) != by_id[one]), None)
    if stranger is None or twofold is None or not all(one in names for one in given):
        return
    files = [source.name for source in sources_of(benchmark.samples[names[twofold]])]
    file = next(name for name in files if twofold in (name, Path(name).stem))
    raise DataError(
        f"{benchmark.name}: all ids of the predictions are names of pictures, and some also ids of other samples "
        f"({twofold!r} is, {stranger!r} is not): write names with their suffix, {file!r}, or leave out what is no id"
    )


def _file_names(samples: Sequence[Sample]) -> dict[str, int]:
    """File names, and these without their endings, that stand for one sample only."""
    owners: dict[str, set[int]] = defaultdict(set)
    for place, sample in enumerate(samples):
        for source in sources_of(sample):
            owners[source.name].add(place)
            owners[source.stem].add(place)
    return {name: next(iter(some)) for name, some in owners.items() if len(some) == 1}


def sources_of(sample: Sample) -> list[Path]:
    """The files of a sample's pictures or clip, in reading order; pictures that are no files are left out."""
    given = [source for visual in visuals_of(sample.messages) for source in visual.sources]
    return [Path(source) for source in given if isinstance(source, (str, Path))]
