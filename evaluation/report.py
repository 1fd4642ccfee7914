"""What a scored benchmark leaves behind: `scores.json`, `report.md`, `report.html` and PNGs."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from . import plots
from .captions import normalise
from .cases import worst_and_random
from .predictions import answers_to
from .report_page import page
from .samples import Benchmark, Prediction
from .tables import OURS, Table, head_figure, tables

PACKAGES = ("unirs", "torch", "transformers", "numpy", "pycocoevalcap", "matplotlib")
CASES = 12  # of the worst, and as many at random
MOST_DRAWN = 100  # types or classes; a thousand bars take minutes and cannot be read
HEAD_NAMES = {"vqa": "accuracy (micro), %", "captions": "CIDEr-D", "classes": "overall accuracy, %"}


def write_report(
    output_dir: Path,
    benchmark: Benchmark,
    predictions: Sequence[Prediction],
    scores: dict[str, Any],
    settings: dict[str, Any],
) -> list[Path]:
    """Writes `scores.json`, `report.md`, `report.html` and the plots into a folder, which is made.

    Args:
        predictions: What `scores` was made of; shown in the page.
        scores: Of `scoring.score`.
        settings: All else that is needed to repeat the scores: model and its hash, command, device, ...; JSON-able.

    Returns:
        The files.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    repeat = {
        "settings": settings,
        "versions": {"python": platform.python_version(), **_versions()},
        "data": {str(file): _sha256(file) for file in benchmark.files},
    }
    scores_file, text_file, page_file = (output_dir / name for name in ("scores.json", "report.md", "report.html"))
    scores_file.write_text(json.dumps({**scores, **repeat}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    answers, _ = answers_to(benchmark, predictions)
    pictures = _draw(output_dir, benchmark, answers, scores)
    title = f"{benchmark.name}, {benchmark.split}"
    lead = f"{HEAD_NAMES[benchmark.scoring]}: {head_figure(scores):.2f} on {scores['n']:,} samples"
    if "clues" in settings:
        lead += f"; clues: {settings['clues']}"
    shown, settings_text = tables(scores), json.dumps(repeat, indent=1, ensure_ascii=False)
    text_file.write_text(_markdown(title, lead, shown, pictures, settings_text), encoding="utf-8")
    worst, others = worst_and_random(benchmark, answers, CASES)
    cases = [("The worst", worst), ("Others, at random", others)]
    whole = page(title, lead, shown, pictures, cases, settings_text, benchmark.scoring)
    page_file.write_text(whole, encoding="utf-8")
    return [scores_file, text_file, page_file, *(file for file, _ in pictures)]


def _draw(
    folder: Path, benchmark: Benchmark, answers: Sequence[str], scores: dict[str, Any]
) -> list[tuple[Path, str]]:
    """The plots, and in words what each shows."""
    drawn = [(folder / "scores.png", "bars of the scores")]
    if benchmark.scoring == "captions":
        plots.bars(drawn[0][0], _caption_bars(scores), "CIDEr-D beside what needs no picture", "CIDEr-D x 100")
    elif benchmark.scoring == "vqa":
        kinds, said = _commonest(scores["per_type"], "n")
        rows = [_share_bar(kind, row["accuracy"], row["interval_95"]) for kind, row in kinds.items()]
        rows.append(_share_bar("all (micro)", scores["micro"], scores["micro_interval_95"]))
        marks = [("majority answer", 100 * scores["majority"]["accuracy"])]
        marks += [("blind", 100 * scores["blind"]["micro"])] if "blind" in scores else []
        plots.bars(
            drawn[0][0], rows, f"Accuracy by type of question{said}", "per cent; lines: over all questions", marks
        )
    else:
        present, said = _commonest(
            {name: row for name, row in scores["per_class"].items() if row["support"]}, "support"
        )
        rows = [_share_bar(name, row["recall"], row["recall_interval_95"]) for name, row in present.items()]
        marks = [("overall accuracy", 100 * scores["overall_accuracy"])]
        marks += [("blind", 100 * scores["blind"]["overall_accuracy"])] if "blind" in scores else []
        plots.bars(drawn[0][0], rows, f"Recall of each class{said}", "per cent", marks)
        if len(scores["per_class"]) <= MOST_DRAWN:
            drawn.append((folder / "confusion.png", "confusion matrix"))
            plots.confusion(drawn[1][0], scores["confusion"])
    drawn.append((folder / "lengths.png", "words of the answers against words of the references"))
    words = [len(normalise(answer).split()) for answer in answers]
    wanted = [
        sum(len(normalise(one).split()) for one in sample.references) / len(sample.references)
        for sample in benchmark.samples
    ]
    plots.lengths(drawn[-1][0], words, wanted)
    return drawn


def _commonest(rows: dict[str, Any], count: str) -> tuple[dict[str, Any], str]:
    """What is drawn of many types or classes, in their order, and words for the title where that is not all."""
    if len(rows) <= MOST_DRAWN:
        return rows, ""
    chosen = set(sorted(rows, key=lambda name: -rows[name][count])[:MOST_DRAWN])
    said = f" (the {MOST_DRAWN} commonest of {len(rows):,})"
    return {name: row for name, row in rows.items() if name in chosen}, said


def _share_bar(label: str, share: float, interval: Sequence[float]) -> plots.Bar:
    return plots.Bar(label, 100 * share, (100 * interval[0], 100 * interval[1]))


def _caption_bars(scores: dict[str, Any]) -> list[plots.Bar]:
    """Floors, published rows and ours, the highest first."""
    floors = scores["floors"]
    rows = [plots.Bar(f"always “{row['caption']}”", row["cider_d"], kind="floor") for row in floors["always"]]
    if "perfect_flag" in floors:
        rows.append(plots.Bar("perfect flag and one caption", floors["perfect_flag"]["cider_d"], kind="floor"))
    rows += [plots.Bar(row["method"], row["score"], kind="published") for row in scores["published"]]
    if "blind" in scores:
        rows.append(plots.Bar("blind", scores["blind"]["cider_d"], kind="floor"))
    rows.append(plots.Bar(OURS, scores["cider_d"], tuple(scores["cider_d_interval_95"])))
    return sorted(rows, key=lambda row: -row.value)


def _markdown(
    title: str, lead: str, shown: Sequence[Table], pictures: Sequence[tuple[Path, str]], settings: str
) -> str:
    parts = [f"# {title}", lead]
    for table in shown:
        parts.append(f"## {table.title}")
        lines = [table.head, ["---" if words else "---:" for words in table.words()], *table.rows]
        parts.append("\n".join(f"| {' | '.join(_escaped(cell) for cell in line)} |" for line in lines))
        parts += [_escaped(table.note)] if table.note else []
    parts += [f"![{words}]({file.name})" for file, words in pictures]
    parts += ["## To repeat it", f"```json\n{settings}\n```"]
    return "\n\n".join(parts) + "\n"


def _escaped(cell: str) -> str:
    """Others' words must not end a cell, start markup or have a picture loaded."""
    return re.sub(r"[\\|*_\[\]!`]", r"\\\g<0>", " ".join(cell.split())).replace("<", "&lt;")


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
