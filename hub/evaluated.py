"""The `scores.json` of `unirs evaluate` as the rows of a model card."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

OF_THIS_MACHINE = {"--data", "--model", "--base", "--output", "--from-predictions", "--blind-predictions"}


def is_of_evaluate(record: dict[str, Any]) -> bool:
    return {"benchmark", "scoring", "n"} <= record.keys()


def card_record(record: dict[str, Any]) -> dict[str, Any]:
    """What `unirs evaluate` found, in the form of `evaluation.json`: the figures that the field compares."""
    rows = {"vqa": _questions, "captions": _captions, "classes": _classes}[record["scoring"]]
    made: dict[str, Any] = {
        "dataset": record["benchmark"],
        "note": f"Of {record['benchmark']}, {record.get('split', 'all')}:",
        "scores": dict(rows(record, record.get("blind") or {})),
    }
    if command := record.get("settings", {}).get("command"):
        made["command"] = shlex.join(["unirs", *_without_paths(command)])
    return made


def _without_paths(command: list[str]) -> Iterator[str]:
    """Where things lie on this machine is nobody's business: `--data DATA`."""
    option = ""
    for word in command:
        name, equals, _ = word.partition("=")
        if name in OF_THIS_MACHINE and equals:
            word = f"{name}={name.strip('-').upper()}"
        yield option.strip("-").upper() if option in OF_THIS_MACHINE else word
        option = word


def _questions(found: dict[str, Any], blind: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    right, interval, commonest = found["micro"], found["micro_interval_95"], found["majority"]["per_type"]
    yield "all questions", _row(found["n"], "accuracy", right, interval, blind.get("micro"), commonest)
    for name, one in found["per_type"].items():
        seen_blind = blind.get("per_type", {}).get(name, {}).get("accuracy")
        commonest = one["majority"]["accuracy"]
        yield name, _row(one["n"], "accuracy", one["accuracy"], one["interval_95"], seen_blind, commonest)


def _captions(found: dict[str, Any], blind: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    interval = found["cider_d_interval_95"]
    yield "captions, CIDEr-D", _row(found["n"], "cider_d", found["cider_d"], interval, blind.get("cider_d"))
    for metric, name in (("bleu_4", "BLEU-4"), ("meteor", "METEOR"), ("rouge_l", "ROUGE-L")):
        if found.get(metric) is not None:
            yield f"captions, {name}", _row(found["n"], metric, found[metric], None, blind.get(metric))
    changed = found.get("change_only", {})
    if changed.get("n"):
        seen_blind, interval = blind.get("change_only", {}).get("cider_d"), changed["cider_d_interval_95"]
        yield "captions of changed pairs", _row(changed["n"], "cider_d", changed["cider_d"], interval, seen_blind)
    if flag := found.get("change_flag"):
        right, seen_blind = found["change_flag_accuracy"], blind.get("change_flag_accuracy")
        said = _row(found["n"], "accuracy", right, flag["interval_95"], seen_blind, flag["majority"])
        yield "caption says rightly whether anything changed", said


def _classes(found: dict[str, Any], blind: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    right, interval = found["overall_accuracy"], found["overall_accuracy_interval_95"]
    commonest = found["majority"]["accuracy"]
    yield "class", _row(found["n"], "accuracy", right, interval, blind.get("overall_accuracy"), commonest)
    yield "class, mean F1", _row(found["n"], "f1", found["macro"]["f1"], None, blind.get("macro", {}).get("f1"))


def _row(
    count: int, metric: str, value: float, interval: Any, blind: float | None, commonest: float | None = None
) -> dict[str, Any]:
    row = {"count": count, metric: value, "interval_95": interval, "blind": blind, "commonest_answer": commonest}
    return {name: one for name, one in row.items() if one is not None}
