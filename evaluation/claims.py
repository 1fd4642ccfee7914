"""The paper's three claims in the small: scores of every arm and seed, their differences, and a verdict on each."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .captions import ScoredCaptions
from .change_flags import says_change
from .cider import CiderD
from .classes import letters
from .plots import BLUE, DPI, GREY, INK
from .questions import is_right

# 97.5 % points of Student's t, for 1 to 9 degrees of freedom: up to the ten seeds that the command takes.
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
NORMAL = 1.96
VERDICTS = ("yes", "no, it hurts", "not decided")
ONE_SEED = "one seed: no interval"
NOTHING = "Nothing was learned: by no measure does an arm beat the commonest answer. Train longer."
NO_CLUES = "Without clues: no arm of this run has any"

Answers = dict[str, list[dict[str, Any]]]  # by task
Earned = dict[int, dict[str, dict[str, np.ndarray]]]  # `scene_scores` by seed and arm

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
        "Joint tuning helps each task more than as many steps of it alone",
        "VIII",
        (
            ("only single longer", "vqa"),
            ("only pair longer", "cider_d"),
            ("only pair longer", "change_flag"),
            ("only video longer", "clip"),
        ),
        "not asked",
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


def scene_scores(answers: Answers) -> dict[str, np.ndarray]:
    """What a trained arm earned on each test scene, by measure: points, and how many chances it had, `(scenes, 2)`.

    A measure is the sum of the points over the sum of the chances, in per cent or CIDEr-D times 100; scenes that a
    measure does not ask (unchanged pairs in `change_only_cider_d`) have no chance.
    """
    scores = {}
    if single := answers.get("single"):
        scores["vqa"] = _by_scene(
            single, [100 * any(is_right(one["said"], right) for right in one["references"]) for one in single]
        )
    if pairs := answers.get("pair"):
        said, references = [one["said"] for one in pairs], [one["references"] for one in pairs]
        scored, changed = ScoredCaptions(said, references), [one["changed"] for one in pairs]
        scores["cider_d"] = _by_scene(pairs, scored.cider_d)
        # document frequencies of their own, as `change_captions.change_caption_scores` has them
        places = [place for place, one in enumerate(changed) if one]
        changed_alone = CiderD(scored.true, scored.ngrams).part(places).scores([scored.said[k] for k in places])
        only = np.zeros((len(pairs), 2))
        only[places] = np.stack([changed_alone, np.ones(len(places))], axis=1)
        scores["change_only_cider_d"] = only
        flags = [100 * (says_change(one) == truth) for one, truth in zip(said, changed, strict=True)]
        scores["change_flag"] = _by_scene(pairs, flags)
    if clips := answers.get("video"):
        right = [100 * (letters(one["said"]) == letters(one["references"][0])) for one in clips]
        scores["clip"] = _by_scene(clips, right)
    return scores


def commonest(answers: Answers) -> dict[str, float]:
    """What always saying the commonest right answer earns, by measure, chosen by these very answers.

    One for each kind of question, for all pairs, for all clips; and for the captions of changed pairs, the commonest
    of these.
    """
    found = {name: score(points) for name, points in scene_scores(_parrot(answers)).items()}
    changed = [one for one in answers["pair"] if one["changed"]]
    told = Counter(right for one in changed for right in one["references"]).most_common(1)
    if told:
        pairs = [{**one, "said": told[0][0]} for one in answers["pair"]]
        found["change_only_cider_d"] = score(scene_scores({"pair": pairs})["change_only_cider_d"])
    return found


def _parrot(answers: Answers) -> Answers:
    """The same questions, each answered with what is most often right for its kind."""
    counts: dict[str, Counter[str]] = {}
    for some in answers.values():
        for one in some:
            counts.setdefault(one["kind"], Counter()).update(one["references"])
    return {
        task: [{**one, "said": counts[one["kind"]].most_common(1)[0][0]} for one in some]
        for task, some in answers.items()
    }


def _by_scene(answers: Sequence[dict[str, Any]], points: Sequence[float] | np.ndarray) -> np.ndarray:
    rows = [one["row"] for one in answers]
    count = max(rows) + 1
    return np.stack([np.bincount(rows, points, count), np.bincount(rows, minlength=count)], axis=1)


def score(earned: np.ndarray) -> float:
    """The measure over all scenes, from points and chances `(scenes, 2)`."""
    return float(earned[:, 0].sum() / earned[:, 1].sum())


def interval(differences: np.ndarray, chances: np.ndarray) -> tuple[float, float]:
    """95 % interval of a mean difference between two arms: over trainings and over test scenes.

    Both spreads add up in squares: Student's t over the seeds' differences, and the error of a ratio over the scenes
    that all seeds share. Everything is possible of one seed.

    Args:
        differences: Points that one arm earned more than the other, `(seeds, scenes)`.
        chances: How often points could be earned on each scene, `(scenes,)`.
    """
    seeds, scenes = differences.shape
    by_seed = differences.sum(1) / chances.sum()
    if seeds < 2 or scenes < 2:
        return -math.inf, math.inf
    mean = float(by_seed.mean())
    of_seeds = STUDENT[seeds - 2] * float(np.std(by_seed, ddof=1)) / math.sqrt(seeds)
    left = differences.mean(0) - mean * chances
    of_scenes = NORMAL * float(np.sqrt((left**2).sum() * scenes / (scenes - 1)) / chances.sum())
    half = math.hypot(of_seeds, of_scenes)
    return mean - half, mean + half


def verdict(low: float, high: float) -> str:
    """What an interval of "with minus without" says."""
    return VERDICTS[0] if low > 0 else VERDICTS[1] if high < 0 else VERDICTS[2]


def judge(earned: Earned, baseline: dict[str, float]) -> list[dict[str, Any]]:
    """Differences between the full model and each arm, paired by seed and by test scene.

    Args:
        baseline: What needs no model, by measure: of `commonest`.
    """
    rows = []
    trained = next(iter(earned.values()))
    for claim in CLAIMS:
        if any(arm not in trained for arm, _ in claim.comparisons):  # of a run without clues, whether they help
            continue
        for arm, measure in claim.comparisons:
            full = np.stack([arms["full"][measure] for arms in earned.values()])  # (seeds, scenes, 2)
            without = np.stack([arms[arm][measure] for arms in earned.values()])
            differences, chances = full[..., 0] - without[..., 0], full[0, :, 1]
            by_seed = differences.sum(1) / chances.sum()
            low, high = interval(differences, chances)
            of_full, of_arm = (float(np.mean([score(one) for one in some])) for some in (full, without))
            rows.append(
                {
                    "table": claim.table,
                    "claim": claim.title,
                    "arm": arm,
                    "measure": measure,
                    "full": of_full,
                    "without": of_arm,
                    "commonest": baseline[measure],
                    "difference": float(by_seed.mean()),
                    "of_each_seed": by_seed.tolist(),
                    "interval_95": [low, high] if math.isfinite(low) else None,  # JSON has no infinity
                    "scenes": int((chances > 0).sum()),
                    "verdict": verdict(low, high),
                }
            )
    return rows


def is_blind(row: dict[str, Any]) -> bool:
    """Neither arm does better than always saying the same: their difference tells nothing of seeing."""
    return max(row["full"], row["without"]) <= row["commonest"]


def claim_verdict(rows: Sequence[dict[str, Any]]) -> str:
    """One line on a claim from the verdicts of its measures; none is picked out after the fact."""
    said = [row["verdict"] for row in rows]
    helps, hurts, count = said.count(VERDICTS[0]), said.count(VERDICTS[1]), len(said)
    if not helps and not hurts:
        return f"not decided by any of {count} measures"
    word = "mixed" if helps and hurts else "yes" if helps else "no"
    left = count - helps - hurts
    return f"{word}: it helps by {helps} of {count} measures, hurts by {hurts}, {left} not decided"


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown, one part for each claim."""
    parts = []
    if _has_no_clues(rows):
        parts += [f"{NO_CLUES}.", ""]
    if all(map(is_blind, rows)):
        parts += [f"**{NOTHING}**", ""]
    for claim, of_claim in _by_claim(rows):
        parts += [
            f"**{claim.title}** (table {claim.table}; the paper: {claim.paper})",
            "",
            f"Verdict: {claim_verdict(of_claim)}.",
            "",
            "| measure | commonest answer | full | arm | without | difference | 95 % | verdict |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for row in of_claim:
            between = "{:+.1f} to {:+.1f}".format(*row["interval_95"]) if row["interval_95"] else ONE_SEED
            beaten = "; neither beats the commonest answer" if is_blind(row) else ""
            parts.append(
                f"| {MEASURES[row['measure']]} | {row['commonest']:.1f} | {row['full']:.1f} | {row['arm']} | "
                f"{row['without']:.1f} | {row['difference']:+.1f} | {between} | {row['verdict']}{beaten} |"
            )
        parts.append("")
    return "\n".join(parts)


def _by_claim(rows: Sequence[dict[str, Any]]) -> list[tuple[Claim, list[dict[str, Any]]]]:
    """Each claim that was asked about, with its rows."""
    found = [(claim, [row for row in rows if row["claim"] == claim.title]) for claim in CLAIMS]
    return [(claim, of_claim) for claim, of_claim in found if of_claim]


def _has_no_clues(rows: Sequence[dict[str, Any]]) -> bool:
    return all(row["table"] != "X" for row in rows)


def figure(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Differences with their intervals, one panel a claim, and every seed as a dot."""
    asked = _by_claim(rows)
    counts = [len(shown) for _, shown in asked]
    picture = Figure(figsize=(8.5, 1.6 + 0.42 * sum(counts) + 0.5 * len(asked)), dpi=DPI, layout="constrained")
    panels = picture.subplots(len(asked), 1, height_ratios=counts, sharex=True)
    for (claim, shown), axes in zip(asked, panels, strict=True):
        for place, row in enumerate(reversed(shown)):
            dots, decided = row["of_each_seed"], row["verdict"] != VERDICTS[2]
            if row["interval_95"]:
                axes.plot(row["interval_95"], [place, place], color=BLUE if decided else GREY, linewidth=5, alpha=0.55)
            axes.plot(dots, [place] * len(dots), "o", color=INK, markersize=3, alpha=0.7)
            axes.plot([row["difference"]], [place], "D", color=BLUE if decided else GREY, markersize=7)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_yticks(range(len(shown)), [MEASURES[row["measure"]] for row in reversed(shown)], fontsize=8)
        axes.set_ylim(-0.6, len(shown) - 0.4)
        axes.set_title(f"{claim.title} (table {claim.table})", loc="left", fontsize=10)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    notes = [NOTHING] * all(map(is_blind, rows)) + [NO_CLUES] * _has_no_clues(rows)
    if notes:
        picture.suptitle("\n".join(notes), fontsize=10)
    several = any(row["interval_95"] for row in rows)
    bars = "bar: 95 % over seeds and test scenes, dots: seeds" if several else "one seed, so no bars"
    panels[-1].set_xlabel(f"with minus without, points; diamond: mean, {bars}", fontsize=8)
    picture.savefig(path)
