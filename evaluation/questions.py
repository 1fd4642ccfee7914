"""Scores of short answers to questions about a picture."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from .statistics import majority, wilson

# Marks that no answer hangs on. A point or comma between digits stays, and a point that begins a number: 1.5 is not
# 15, and .5 is not 5.
MARKS = re.compile(r"[.,](?!\d)|(?<!\d),|(?<=[^\W\d])\.|[\s!?;:\"']")


def normalise_answer(text: str) -> str:
    """Lower case, without spaces and `. , ! ? ; : " '`: "More than 1000." and "more than 1000" are the same."""
    return MARKS.sub("", text.lower())


def is_right(answer: str, truth: str) -> bool:
    """Both sides normalised; this is the rule of the main figures. Silence is never right."""
    said = normalise_answer(answer)
    return bool(said) and said == normalise_answer(truth)


def is_right_by_geochat(answer: str, truth: str) -> bool:
    """GeoChat's rule: spaces and full stops go from the answer only, so a truth of several words is never met."""
    return answer.replace(" ", "").lower().replace(".", "") == truth.lower()


def question_scores(
    answers: Sequence[str], references: Sequence[Sequence[str]], kinds: Sequence[str]
) -> dict[str, Any]:
    """Accuracy of each type of question, of all questions (`micro`) and on average over types (`macro`), in 0..1.

    `geochat_rule` holds the same under GeoChat's comparison. `majority` is what the commonest true answer would
    score: one for all questions, and (`per_type`) the best one of each type. Both are known from the truth alone. Of
    several true answers to a question each may be the one.

    Args:
        answers: What was said to each question; an empty string where nothing was.
        references: The right answers of each; one of them is enough.
        kinds: The type of each question.
    """
    if not len(answers) == len(references) == len(kinds) or not answers:
        raise ValueError(f"{len(answers)} answers do not fit {len(references)} truths of {len(kinds)} types")
    if bare := [place for place, truths in enumerate(references) if not truths]:
        raise ValueError(f"question {bare[0]} has no true answer")
    right = _rights(is_right, answers, references)
    by_geochat = _rights(is_right_by_geochat, answers, references)
    written = {normalise_answer(one): one for truths in reversed(references) for one in reversed(truths)} | {"": ""}
    per_type: dict[str, dict[str, Any]] = {}
    for kind in sorted(set(kinds)):
        places = [place for place, one in enumerate(kinds) if one == kind]
        count, hits = len(places), sum(right[place] for place in places)
        common, often = _commonest([references[place] for place in places])
        per_type[kind] = {
            "n": count,
            "accuracy": hits / count,
            "interval_95": wilson(hits, count),
            "geochat_rule": sum(by_geochat[place] for place in places) / count,
            "majority": {"answer": written[common], "accuracy": often / count},
        }
    count, rows = len(answers), list(per_type.values())
    common, often = _commonest(references)
    best = sum(row["majority"]["accuracy"] * row["n"] for row in rows) / count
    return {
        "n": count,
        "micro": sum(right) / count,
        "micro_interval_95": wilson(sum(right), count),
        "macro": sum(row["accuracy"] for row in rows) / len(rows),
        "geochat_rule": {
            "micro": sum(by_geochat) / count,
            "macro": sum(row["geochat_rule"] for row in rows) / len(rows),
        },
        "majority": {"answer": written[common], "accuracy": often / count, "per_type": best},
        "per_type": per_type,
    }


def _commonest(references: Sequence[Sequence[str]]) -> tuple[str, int]:
    """The answer that is right for most questions, normalised, and for how many. Silence never is."""
    each = [{normalise_answer(truth) for truth in truths} - {""} for truths in references]
    return majority(answer for answers in each for answer in answers) if any(each) else ("", 0)


def _rights(
    rule: Callable[[str, str], bool], answers: Sequence[str], references: Sequence[Sequence[str]]
) -> list[bool]:
    return [any(rule(answer, truth) for truth in truths) for answer, truths in zip(answers, references, strict=True)]
