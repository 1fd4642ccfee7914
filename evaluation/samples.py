"""What evaluation is made of: samples of a benchmark, and what a model said of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict

Scoring = Literal["vqa", "captions", "classes"]


@dataclass(frozen=True)
class Sample:
    """One question of a benchmark.

    Args:
        id: Unique in the benchmark.
        messages: The chat up to the question, in the form of `trainers/rows.py`: pictures where they stand, no answer.
        references: Every right answer; captions have several, questions and classes one.
        kind: Type of a question (presence, count, ...), "change" or "no_change" of a pair, the class of a clip.
    """

    id: str
    messages: list[dict[str, Any]]
    references: tuple[str, ...]
    kind: str


@dataclass(frozen=True)
class Benchmark:
    """Samples and how their answers are scored.

    Args:
        name: As on the command line, for instance `levir-cc`.
        split: Which part of the data.
        samples: In the order of the data.
        classes: Of `classes` benchmarks, all names, in a fixed order; empty otherwise.
        files: Label files that the samples come from: their hash tells one version of the data from another.
        problems: What was found wrong with the data, one line each, and counted in the report: never dropped in
            silence.
        subset: What part of the split the samples are, in words; empty where they are all of it.
    """

    name: str
    split: str
    scoring: Scoring
    samples: Sequence[Sample]
    classes: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    problems: list[str] = field(default_factory=list)
    subset: str = ""


def asked(visuals: list[dict[str, Any]], words: str) -> list[dict[str, Any]]:
    """The messages of one question about pictures or a clip."""
    return [{"role": "user", "content": [*visuals, {"type": "text", "text": words}]}]


class Prediction(TypedDict, total=False):
    """A line of `predictions.jsonl`. Only `id` and `prediction` are needed to be scored (`--from-predictions`).

    `prediction` is what the model said, `normalised` the same as it is compared, `seconds` the time of its batch
    divided by the batch's rows. `error` says why there is no answer; `prediction` is then an empty string.
    """

    id: str
    prediction: str
    normalised: str
    prompt: str
    references: list[str]
    kind: str
    seconds: float
    clue: str | None
    no_clue: str
    error: str
