"""Scores of answers that name a class: accuracy, precision, recall and F1 of each class, confusion."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from .statistics import majority, wilson

NONE_NAMED = "no class named"  # last column of the confusion matrix
How = Literal["exact", "contained", "none"]


def letters(text: str) -> str:
    """Letters and digits alone, small: `Parade/Protest`, `parade_protest` and `ParadeProtest` are one name."""
    return "".join(_words(text))


def _words(text: str) -> list[str]:
    if text.isascii():
        return re.findall(r"[a-z0-9]+", text.lower())
    # Vowel signs and accents, which \w leaves out, are marks of their own in many scripts: without them names of
    # different classes are one. "\u0130" in lower case is an i with such a mark.
    text = unicodedata.normalize("NFC", text).lower().replace("i\u0307", "i")
    return "".join(one if one.isalnum() or unicodedata.category(one)[0] == "M" else " " for one in text).split()


def named_class(answer: str, classes: Sequence[str]) -> tuple[str | None, How]:
    """Which class an answer names, and whether the answer is the name or only holds it.

    The whole answer is compared first, by its letters and digits. Else the answer may hold exactly one class's name,
    as whole words: "This is a post-earthquake scene." names `post-earthquake`, "fireworks" does not name `fire`, and
    an answer with two names says nothing. A name inside a longer name that is there too does not count ("dense
    residential" is not also "residential"). "Not a fire" still counts as fire: denials are not understood.
    """
    names = {letters(name): name for name in classes}
    if (whole := letters(answer)) and whole in names:
        return names[whole], "exact"
    words = _words(answer)
    longest = max((len(name) for name in names), default=0)
    outermost: set[str] = set()  # names inside no longer one
    furthest = 0  # where the last of these ends
    for first in range(len(words)):
        run, end, found = "", 0, ""
        for last in range(first, len(words)):
            run += words[last]
            if len(run) > longest:
                break
            if run in names:
                end, found = last + 1, names[run]
        if end > furthest:
            outermost.add(found)
            furthest = end
    if len(outermost) == 1:
        return outermost.pop(), "contained"
    return None, "none"


def class_scores(answers: Sequence[str], truths: Sequence[str], classes: Sequence[str]) -> dict[str, Any]:
    """Overall accuracy and each class's precision, recall and F1, in 0..1, with the confusion matrix.

    Precision is null for a class that was never named, recall for one that never occurs; F1 = 2TP / (2TP + FP + FN)
    is null where both are. `macro` are means over the classes that occur, with 0 for null. Published "per-class
    precision" on ERA is recall (UniRS, table VII).

    Args:
        answers: What was said of each sample.
        truths: The class of each; compared with `classes` by letters and digits.
        classes: All class names; their order is that of the matrix.
    """
    if len(answers) != len(truths) or not answers:
        raise ValueError(f"{len(answers)} answers cannot be scored against {len(truths)} classes")
    place = {letters(name): number for number, name in enumerate(classes)}
    if strangers := sorted({truth for truth in truths if letters(truth) not in place}):
        raise ValueError(f"{strangers[0]!r} is none of the {len(classes)} classes")
    # rows: truth, columns: answer; the last column is for answers that name none
    counts = np.zeros((len(classes), len(classes) + 1), int)
    how = {"exact": 0, "contained": 0, "none": 0}
    right_exactly = 0
    for answer, truth in zip(answers, truths, strict=True):
        name, way = named_class(answer, classes)
        row = place[letters(truth)]
        column = len(classes) if name is None else place[letters(name)]
        counts[row, column] += 1
        how[way] += 1
        right_exactly += way == "exact" and row == column
    right, total = int(np.trace(counts)), len(answers)
    per_class = {name: _one_class(counts, number) for number, name in enumerate(classes)}
    present = [row for row in per_class.values() if row["support"]]
    common, often = majority(classes[place[letters(truth)]] for truth in truths)
    return {
        "n": total,
        "overall_accuracy": right / total,
        "overall_accuracy_interval_95": wilson(right, total),
        "overall_accuracy_exact": right_exactly / total,
        "macro": {
            key: sum(row[key] or 0.0 for row in present) / len(present) for key in ("precision", "recall", "f1")
        },
        "matched": how,
        "majority": {"answer": common, "accuracy": often / total},
        "per_class": per_class,
        "confusion": {"rows": list(classes), "columns": [*classes, NONE_NAMED], "counts": counts.tolist()},
    }


def _one_class(counts: np.ndarray, number: int) -> dict[str, Any]:
    hits, support, named = int(counts[number, number]), int(counts[number].sum()), int(counts[:, number].sum())
    return {
        "precision": hits / named if named else None,
        "recall": hits / support if support else None,
        "recall_interval_95": wilson(hits, support),
        "f1": 2 * hits / (support + named) if support + named else None,
        "support": support,
        "named": named,
    }
