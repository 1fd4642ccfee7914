"""Scores as tables for people: the same rows go into `report.md` and `report.html`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .scoring import HEAD

OURS = "this run"
CAPTION_SCORES = {
    **{f"bleu_{order}": f"BLEU-{order}" for order in range(1, 5)},
    "meteor": "METEOR",
    "rouge_l": "ROUGE-L",
    "cider_d": "CIDEr-D",
    "s_m": "S*m",
}
NAMED = 10  # names of problems that are shown; scores.json has all


@dataclass(frozen=True)
class Table:
    """A heading, cells as text, and what must be known to read them."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    ours: str = OURS  # first cell of the rows to point out

    def words(self) -> list[bool]:
        """Which columns hold words, the others figures."""
        columns = list(zip(*self.rows, strict=True))
        return [any(cell and not (cell[0].isdigit() or cell == "-") for cell in column) for column in columns]


def percent(share: float | None) -> str:
    """Shares of 0..1 in per cent."""
    return "-" if share is None else f"{100 * share:.2f}"


def plain(value: float | None) -> str:
    """Figures that are times 100 already."""
    return "-" if value is None else f"{value:.2f}"


def between(interval: Sequence[float], scale: float = 100) -> str:
    return f"{scale * interval[0]:.1f} to {scale * interval[1]:.1f}"


def tables(scores: dict[str, Any]) -> list[Table]:
    """All tables of a report, the head figures first."""
    make = {"vqa": _questions, "captions": _captions, "classes": _classes}[scores["scoring"]]
    found = [*make(scores), *_published(scores)]
    if scores["problems"]:
        found.append(_problems(scores["problems"]))
    return found


def head_figure(scores: dict[str, Any]) -> float:
    """The figure that is compared with published ones, in their unit: per cent, or CIDEr-D times 100."""
    value = scores[HEAD[scores["scoring"]]]
    return value if scores["scoring"] == "captions" else 100 * value


def _questions(scores: dict[str, Any]) -> list[Table]:
    blind, rows = scores.get("blind"), []
    for kind, row in scores["per_type"].items():
        common = row["majority"]
        cells = [kind, f"{row['n']:,}", percent(row["accuracy"]), between(row["interval_95"])]
        cells += [percent(row["geochat_rule"]), f"{percent(common['accuracy'])} ({common['answer']})"]
        rows.append([*cells, *([percent(blind["per_type"][kind]["accuracy"])] if blind else [])])
    common = scores["majority"]
    for name in ("micro", "macro"):
        interval = between(scores["micro_interval_95"]) if name == "micro" else ""
        cells = [f"all ({name})", f"{scores['n']:,}", percent(scores[name]), interval]
        guess = f"{percent(common['accuracy'])} ({common['answer']})" if name == "micro" else ""
        cells += [percent(scores["geochat_rule"][name]), guess]
        rows.append([*cells, *([percent(blind[name])] if blind else [])])
    head = ["type", "n", "accuracy, %", "95 % interval", "GeoChat's rule", "majority answer"]
    note = (
        "An answer is right if it is the true one, both lower-cased and without spaces and punctuation. GeoChat's "
        "rule drops spaces and full stops from the answer only, so true answers of several words never match. "
        "Micro: over all questions; macro: mean of the types. The majority answer of each type alone scores "
        f"{percent(common['per_type'])} % over all."
    )
    return [Table("Accuracy", [*head, *(["blind"] if blind else [])], rows, note)]


def _captions(scores: dict[str, Any]) -> list[Table]:
    blind, part = scores.get("blind"), scores.get("change_only")
    head = ["score", "all pairs", *(["changed pairs only"] if part else []), *(["blind"] if blind else [])]
    rows = []
    for key, name in CAPTION_SCORES.items():
        value = plain(scores[key])
        if key == "cider_d":
            value += f" ({between(scores['cider_d_interval_95'], 1)})"
        cells = [name, value, *([plain(part.get(key))] if part else []), *([plain(blind[key])] if blind else [])]
        rows.append(cells)
    if part:
        flag, seen = scores["change_flag"], percent(scores["change_flag_accuracy"])
        cells = ["change flag, %", f"{seen} ({between(flag['interval_95'])})"]
        cells.append(percent(flag["change"]["right"] / flag["change"]["n"]) if flag["change"]["n"] else "-")
        rows.append([*cells, *([percent(blind["change_flag_accuracy"])] if blind else [])])
    note = "Times 100, on lower-cased words without full stops. In brackets: 95 % intervals (bootstrap; Wilson). "
    note += "The change flag is right where the caption says rightly whether anything changed. " if part else ""
    if scores["meteor"] is None:
        note += f"METEOR and S*m are missing: {scores['meteor_missing']}. "
    floors = scores["floors"]
    lines = [[f"always “{row['caption']}”", plain(row["cider_d"])] for row in floors["always"]]
    if best := floors.get("perfect_flag"):
        told = f"perfect flag: “{best['no_change_caption']}”, or “{best['change_caption']}”"
        lines.append([told, plain(best["cider_d"])])
    lines.append([OURS, plain(scores["cider_d"])])
    lines.sort(key=lambda line: float(line[1]))
    below = "Measured on the same references: no picture is looked at, and no caption says more than what is quoted."
    return [Table("Captions", head, rows, note), Table("What needs no picture", ["captions", "CIDEr-D"], lines, below)]


def _classes(scores: dict[str, Any]) -> list[Table]:
    blind, matched, common = scores.get("blind"), scores["matched"], scores["majority"]
    interval = between(scores["overall_accuracy_interval_95"])
    rows = [["overall accuracy, %", f"{percent(scores['overall_accuracy'])} ({interval})"]]
    rows.append(["  where the answer is the class name and nothing else", percent(scores["overall_accuracy_exact"])])
    means = (("precision", "precision"), ("recall", "recall"), ("F1", "f1"))
    rows += [[f"mean {name} over classes", percent(scores["macro"][key])] for name, key in means]
    rows.append([f"majority class ({common['answer']})", percent(common["accuracy"])])
    if blind:
        rows.append(["blind", percent(blind["overall_accuracy"])])
    note = (
        f"Of {scores['n']:,} answers {matched['exact']:,} are a class name, {matched['contained']:,} hold exactly "
        f"one, and {matched['none']:,} name none or several, which is wrong."
    )
    each = [
        [name, f"{row['support']:,}", *(percent(row[key]) for key in ("precision", "recall")), ""]
        for name, row in scores["per_class"].items()
    ]
    for cells, row in zip(each, scores["per_class"].values(), strict=True):
        cells[4:] = [between(row["recall_interval_95"]) if row["support"] else "-", percent(row["f1"])]
    head = ["class", "n", "precision", "recall", "95 % interval of recall", "F1"]
    below = "What ERA papers print as per-class precision is recall." if scores["benchmark"] == "era" else ""
    return [Table("Classes", ["", "%"], rows, note), Table("Each class", head, each, below)]


def _published(scores: dict[str, Any]) -> list[Table]:
    """Ours among the published rows; an average of one kind stands beside one of the other only with its name."""
    if not scores["published"]:
        return []
    kinds = [kind for kind, _ in scores["published"][-1]["per_type"]]
    rows = []
    for row in scores["published"]:
        types = dict(row["per_type"])
        cells = [row["method"], *(plain(types.get(kind)) for kind in kinds)]
        rows.append([*cells, plain(row["score"]), row["average"], row["source"]])
    ours = [percent(scores.get("per_type", {}).get(kind, {}).get("accuracy")) for kind in kinds]
    rows += [[OURS, *ours, value, name, "here"] for name, value in _averages(scores, kinds)]
    title = {"vqa": "accuracy, %", "captions": "CIDEr-D", "classes": "overall accuracy, %"}[scores["scoring"]]
    note = f"Published figures are of whole test sets; this run is of {scores['n']:,} samples of {scores['split']}. "
    if scores["scoring"] == "vqa":
        note += "Compare micro with micro only. Papers do not say which; it was worked out from the types' figures."
        if kinds and (others := sorted(scores["per_type"].keys() - set(kinds))):
            note += f" Published averages have no {', '.join(others)} questions; this run's leave them out here too."
    return [Table("Beside published figures", ["method", *kinds, title, "average", "read in"], rows, note)]


def _averages(scores: dict[str, Any], kinds: Sequence[str]) -> list[tuple[str, str]]:
    """This run's average of each kind; of questions over the types alone that the published ones are of."""
    if scores["scoring"] != "vqa":
        return [("micro", plain(head_figure(scores)))]
    rows = [row for kind, row in scores["per_type"].items() if not kinds or kind in kinds]
    if not rows:
        return [("micro", "-"), ("macro", "-")]
    micro = sum(row["n"] * row["accuracy"] for row in rows) / sum(row["n"] for row in rows)
    return [("micro", percent(micro)), ("macro", percent(sum(row["accuracy"] for row in rows) / len(rows)))]


def _problems(problems: dict[str, Any]) -> Table:
    rows = []
    for kind, found in problems.items():
        names = found["named"][:NAMED]
        more = f" and {found['count'] - len(names):,} more" if found["count"] > len(names) else ""
        rows.append([kind, f"{found['count']:,}", "; ".join(names) + more])
    note = (
        "Samples with a missing prediction, or an error in its place, are scored as wrong answers; of several "
        "predictions for a sample the first without an error counts; unknown ids are left out. scores.json names all."
    )
    return Table("What was wrong", ["problem", "count", "which"], rows, note)
