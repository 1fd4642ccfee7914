"""Prints the scores beside the embedded checkpoint as the table of docs/unirs_tiny.md."""

import json
from pathlib import Path

import unirs

METRICS = {"accuracy": "accuracy", "cider_d": "CIDEr-D", "auc": "AUC"}
scores = json.loads((Path(unirs.default_checkpoint()) / "evaluation.json").read_text())["scores"]
print("| held-out | n | metric | unirs-tiny | 95 % | blind | commonest | aim |\n|---|---|---|---|---|---|---|---|")
for row in scores.values():
    metric = next(name for name in METRICS if name in row)
    places = 1 if metric == "cider_d" else 3
    commonest = f"{row['commonest_answer']:.3f}" if "commonest_answer" in row else ""
    aim = f"{row['aim']:.{places}f}" if "aim" in row else ""
    low, high = (f"{end:.{places}f}" for end in row["interval_95"])
    print(
        f"| {row['name']} | {row['count']} | {METRICS[metric]} | {row[metric]:.{places}f} | {low}-{high} | "
        f"{row['blind']:.{places}f} | {commonest} | {aim} |"
    )
