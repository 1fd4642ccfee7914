"""What the embedded checkpoint says about real files: every picture, pair and clip of a data folder, by the pipelines.

    python benchmarks/real_files.py [--data ../shared/data] [--output benchmarks/results/real_files.md]

So small a model is often wrong here; what must not happen is a crash, an empty answer or a stray token.
Where a pair has a label of what changed, the change map is scored by the area under the ROC curve over its cells.
"""

import argparse
import re
import time
from pathlib import Path

import numpy as np
from PIL import Image
from transformers import pipeline
from unirs.evaluation.statistics import auc

import unirs

QUESTIONS = ("Is there a road in the image?", "Is it a rural or an urban area?", "Describe the image in one sentence.")
PLAIN = re.compile(r"[A-Za-z0-9 ,.'()-]+")
REAL_PER_CLASS = 10
SIGHTS = {
    "single": "rs-visual-question-answering",
    "pair": "change-captioning",
    "video": "video-scene-classification",
}


def find_inputs(data: Path) -> list[tuple[str, str, dict]]:
    """`(group, name, input of a pipeline)` of every usable real file."""
    singles = {
        "single": sorted((data / "single").iterdir()),
        "rsscn7/test": [
            path
            for folder in sorted((data / "rsscn7/test").iterdir())
            for path in sorted(folder.iterdir())[:REAL_PER_CLASS]
        ],
        "rsvqa_lr": sorted((data / "rsvqa_lr").glob("*.tif")),
        "rsvqa_hr": sorted((data / "rsvqa_hr").glob("*.tif")),
        "geotiff": sorted((data / "geotiff").glob("*.tif")),
    }
    found: list[tuple[str, str, dict]] = []
    for group, paths in singles.items():
        for number, path in enumerate(paths):
            question = QUESTIONS[number % len(QUESTIONS)]
            found.append((group, path.name, {"image": str(path), "question": question}))
    for group in ("levir_cd", "dsifn"):
        for before in sorted((data / group / "A").iterdir()):
            found.append((group, before.name, {"before": str(before), "after": str(data / group / "B" / before.name)}))
    sequences: dict[str, list[Path]] = {}
    for path in sorted((data / "multi_date").rglob("*.*")):
        stem = f"{path.parent.name}/{re.sub(r'_?([0-9]+)$', '', path.stem)}"
        sequences.setdefault(stem, []).append(path)
    for name, paths in sequences.items():
        if len(paths) == 1:
            found.append(("multi_date", name, {"image": str(paths[0]), "question": QUESTIONS[2]}))
        elif len(paths) == 2:
            found.append(("multi_date", name, {"before": str(paths[0]), "after": str(paths[1])}))
        else:
            found.append(("multi_date", name, {"video": [str(path) for path in paths]}))
    found += [("video", path.name, {"video": str(path)}) for path in sorted((data / "video").glob("*.mp4"))]
    return found


def map_score(given: dict, change_map: np.ndarray) -> float | None:
    label = Path(given["before"]).parents[1] / "label" / Path(given["before"]).name
    if not label.is_file():
        return None
    cells = (
        Image.open(label).convert("L").resize(change_map.shape[::-1], Image.Resampling.BOX)
    )  # share of changed pixels
    changed = np.asarray(cells).ravel() > 127
    return None if changed.all() or not changed.any() else auc(change_map.ravel(), changed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/real_files.md"))
    args = parser.parse_args()
    single = pipeline(SIGHTS["single"], model=unirs.default_checkpoint())
    pipes = {
        kind: pipeline(task, model=single.model, processor=single.processor) if kind != "single" else single
        for kind, task in SIGHTS.items()
    }
    lines = ["| group | input | answer | map AUC |", "|---|---|---|---|"]
    refused, odd, scores = 0, 0, []
    started = time.time()
    inputs = find_inputs(args.data)
    for group, name, given in inputs:
        kind = "single" if "image" in given else "pair" if "before" in given else "video"
        options = {"change_map": True} if kind == "pair" else {}
        try:
            answer = pipes[kind](given, **options)
        except ValueError as error:
            refused += 1
            lines.append(f"| {group} | {name} | refused: {str(error).replace(str(args.data), '..')} | |")
            continue
        odd += not PLAIN.fullmatch(answer["answer"])
        score = map_score(given, answer["change_map"]) if kind == "pair" else None
        scores += [] if score is None else [score]
        asked = f" ({given['question']})" if kind == "single" else ""
        shown = "" if score is None else f"{score:.2f}"
        lines.append(f"| {group} | {name}{asked} | {answer['answer']} | {shown} |")
    summary = (
        f"{len(inputs)} inputs in {time.time() - started:.0f} s: {len(inputs) - refused} answered, {refused} refused, "
        f"{odd} answers empty or with anything but plain words. Change map on {len(scores)} labelled real pairs: "
        f"mean AUC {np.mean(scores):.2f} by the map's cells (0.5 is chance; by pixels it is in evaluation.json)."
    )
    print(summary)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text("\n".join([f"# {parser.description}", "", summary, "", *lines, ""]))


if __name__ == "__main__":
    main()
