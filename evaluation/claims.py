"""The paper's three claims in the small: scores of every arm and seed, their differences, and a verdict on each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .change_captions import change_caption_scores
from .classes import letters
from .plots import BLUE, DPI, GREY, INK
from .questions import is_right

# 97.5 % points of Student's t, for 1 to 9 degrees of freedom.
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
MOST_SEEDS = len(STUDENT) + 1

MEASURES = {
    "vqa": "questions, % right",
    "cider_d": "change captions, CIDEr-D",
    "change_only_cider_d": "captions of changed pairs, CIDEr-D",
    "change_flag": "caption says rightly whether anything changed, %",
    "clip": "clip classes, % right",
}


@dataclass(frozen=True)
class Claim:
    """A claim of the paper: by which measures the full model should beat an arm, and what the paper found."""

    title: str
    table: str
    comparisons: tuple[tuple[str, str], ...]  # arm that lacks something, measure
    paper: str


CLAIMS = (
    Claim(
        "Joint tuning helps each task",
        "VIII",
        (("only single", "vqa"), ("only pair", "cider_d"), ("only pair", "change_flag"), ("only video", "clip")),
        "RSVQA-HR 71.68 to 72.63, LEVIR-CC CIDEr-D 137.61 to 139.12, ERA 84.4 to 86.4",
    ),
    Claim(
        "Change Extraction helps pairs",
        "IX",
        (
            ("two plain pictures", "cider_d"),
            ("two plain pictures", "change_only_cider_d"),
            ("two plain pictures", "change_flag"),
        ),
        "LEVIR-CC CIDEr-D 131.28 to 139.12",
    ),
    Claim(
        "Clues help",
        "X",
        (("no clues", "vqa"), ("no clues", "cider_d"), ("no clues", "change_flag"), ("no clues", "clip")),
        "RSVQA-HR 72.21 to 72.63, LEVIR-CC CIDEr-D 138.47 to 139.12, ERA 86.1 to 86.4",
    ),
)


def arm_scores(answers: dict[str, list[dict[str, Any]]]) -> dict[str, float]:
    """Measures of one trained arm, in per cent or CIDEr-D times 100, by the tasks that it answered."""
    scores = {}
    if single := answers.get("single"):
        scores["vqa"] = 100 * float(np.mean([is_right(one["said"], one["references"][0]) for one in single]))
    if pairs := answers.get("pair"):
        kinds = ["change" if one["changed"] else "no_change" for one in pairs]
        said, references = [one["said"] for one in pairs], [one["references"] for one in pairs]
        found = change_caption_scores(said, references, kinds, with_meteor=False)
        scores["cider_d"] = found["cider_d"]
        scores["change_only_cider_d"] = found["change_only"]["cider_d"]
        scores["change_flag"] = 100 * found["change_flag_accuracy"]
    if clips := answers.get("video"):
        right = [letters(one["said"]) == letters(one["references"][0]) for one in clips]
        scores["clip"] = 100 * float(np.mean(right))
    return scores


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """95 % interval of a mean over seeds by Student's t; everything is possible of one seed."""
    count = len(differences)
    if count < 2:
        return -math.inf, math.inf
    half = STUDENT[count - 2] * float(np.std(differences, ddof=1)) / math.sqrt(count)
    return float(np.mean(differences)) - half, float(np.mean(differences)) + half


def verdict(low: float, high: float) -> str:
    """What an interval of "with minus without" says."""
    return "yes" if low > 0 else "no, it hurts" if high < 0 else "not decided"


def judge(scores: dict[int, dict[str, dict[str, float]]]) -> list[dict[str, Any]]:
    """Differences between the full model and each arm, paired by seed.

    Args:
        scores: `arm_scores` by seed and arm.
    """
    rows = []
    for claim in CLAIMS:
        for arm, measure in claim.comparisons:
            pairs = [(arms["full"][measure], arms[arm][measure]) for arms in scores.values()]
            full, without = (np.array(side) for side in zip(*pairs, strict=True))
            low, high = interval(full - without)
            rows.append(
                {
                    "table": claim.table,
                    "claim": claim.title,
                    "arm": arm,
                    "measure": measure,
                    "full": float(full.mean()),
                    "without": float(without.mean()),
                    "difference": float((full - without).mean()),
                    "interval_95": [low, high],
                    "seeds": len(pairs),
                    "verdict": verdict(low, high),
                }
            )
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown, one part for each claim."""
    parts = []
    for claim in CLAIMS:
        parts += [
            f"**{claim.title}** (table {claim.table}; the paper: {claim.paper})",
            "",
            "| measure | full | arm | without | difference | 95 % | verdict |",
            "|---|---|---|---|---|---|---|",
        ]
        for row in rows:
            if row["table"] == claim.table:
                low, high = row["interval_95"]
                parts.append(
                    f"| {MEASURES[row['measure']]} | {row['full']:.1f} | {row['arm']} | {row['without']:.1f} | "
                    f"{row['difference']:+.1f} | {low:+.1f} to {high:+.1f} | {row['verdict']} |"
                )
        parts.append("")
    return "\n".join(parts)


def figure(path: Path, rows: Sequence[dict[str, Any]], scores: dict[int, dict[str, dict[str, float]]]) -> None:
    """Differences with their intervals, one panel a claim, and every seed as a dot."""
    counts = [sum(row["table"] == claim.table for row in rows) for claim in CLAIMS]
    picture = Figure(figsize=(8.5, 1.6 + 0.42 * sum(counts) + 0.5 * len(CLAIMS)), dpi=DPI, layout="constrained")
    panels = picture.subplots(len(CLAIMS), 1, height_ratios=counts, sharex=True)
    for claim, axes in zip(CLAIMS, panels, strict=True):
        shown = [row for row in rows if row["table"] == claim.table]
        for place, row in enumerate(reversed(shown)):
            low, high = row["interval_95"]
            dots = [arms["full"][row["measure"]] - arms[row["arm"]][row["measure"]] for arms in scores.values()]
            decided = row["verdict"] != "not decided"
            if math.isfinite(low):
                axes.plot([low, high], [place, place], color=BLUE if decided else GREY, linewidth=5, alpha=0.55)
            axes.plot(dots, [place] * len(dots), "o", color=INK, markersize=3, alpha=0.7)
            axes.plot([row["difference"]], [place], "D", color=BLUE if decided else GREY, markersize=7)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_yticks(range(len(shown)), [MEASURES[row["measure"]] for row in reversed(shown)], fontsize=8)
        axes.set_ylim(-0.6, len(shown) - 0.4)
        axes.set_title(f"{claim.title} (table {claim.table})", loc="left", fontsize=10)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    panels[-1].set_xlabel("with minus without, points; diamond: mean, bar: 95 % over seeds, dots: seeds", fontsize=8)
    picture.savefig(path)
