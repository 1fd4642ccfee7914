"""Scores of a benchmark's predictions, with everything that must stand beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ..trainers.data_sets.errors import DataError
from .change_captions import change_caption_scores
from .classes import class_scores, letters
from .predictions import Problems, answers_to
from .published import PUBLISHED
from .questions import question_scores
from .samples import Benchmark, Prediction, Sample

HEAD = {"vqa": "micro", "captions": "cider_d", "classes": "overall_accuracy"}  # the figure that is compared


def score(
    benchmark: Benchmark,
    predictions: Sequence[Prediction],
    *,
    blind: Sequence[Prediction] | None = None,
    problems: Problems | None = None,
    meteor: bool = True,
) -> dict[str, Any]:
    """Everything that is reported of predictions, ready for JSON.

    All samples count: one without a prediction, or with an error in its place, is scored as an empty answer.

    Args:
        blind: Predictions of the same model for the same questions on blank pictures; scored likewise under `blind`.
        problems: What was wrong with the file that the predictions were read from (`read_predictions`).
        meteor: Whether to run METEOR; see `change_caption_scores`.

    Returns:
        The scores of `question_scores`, `change_caption_scores` or `class_scores`, and beside them `benchmark`,
        `split`, `scoring`, `problems` (kind -> `count` and `named`, the names of all), `published` rows, `blind`.

    Raises:
        DataError: No prediction belongs to the benchmark, or the benchmark has no samples or none of a known class.
    """
    answers, mismatches = answers_to(benchmark, predictions)
    found = {**(problems or {}), **mismatches}
    if strangers := _strangers(benchmark):
        found["unknown class in the data, not scored"] = [f"{one.id}: {one.references[0]}" for one in strangers]
    if benchmark.problems:
        found["problem of the data"] = list(benchmark.problems)
    result = {
        "benchmark": benchmark.name,
        "split": benchmark.split,
        "scoring": benchmark.scoring,
        **_scores(benchmark, answers, meteor),
        "problems": {kind: {"count": len(lines), "named": lines} for kind, lines in found.items()},
        "published": [asdict(row) for row in PUBLISHED.get(benchmark.name, ())],
    }
    if blind is not None:
        result["blind"] = score(benchmark, blind, meteor=meteor)
        for known in ("benchmark", "split", "scoring", "published"):  # said above
            del result["blind"][known]
    return result


def _scores(benchmark: Benchmark, answers: Sequence[str], meteor: bool) -> dict[str, Any]:
    samples = benchmark.samples
    references = [sample.references for sample in samples]
    kinds = [sample.kind for sample in samples]
    if benchmark.scoring == "vqa":
        return question_scores(answers, references, kinds)
    if benchmark.scoring == "captions":
        return change_caption_scores(answers, references, kinds, meteor)
    strangers = _strangers(benchmark)
    if len(strangers) == len(samples):
        raise DataError(
            f"{benchmark.name}: no sample has a class that the benchmark knows, {strangers[0].id} has "
            f"{strangers[0].references[0]!r}; nothing can be scored, check the data's classes"
        )
    left_out = {sample.id for sample in strangers}
    kept = [
        (answer, one.references[0]) for answer, one in zip(answers, samples, strict=True) if one.id not in left_out
    ]
    return class_scores([answer for answer, _ in kept], [truth for _, truth in kept], benchmark.classes)


def _strangers(benchmark: Benchmark) -> list[Sample]:
    """Samples whose true class is none of the benchmark's, so that no answer could be right."""
    if benchmark.scoring != "classes":
        return []
    known = {letters(name) for name in benchmark.classes}
    return [sample for sample in benchmark.samples if letters(sample.references[0]) not in known]
