"""Prints the scores beside the embedded checkpoint as the table of the README."""

import json
from pathlib import Path

import unirs

scores = json.loads((Path(unirs.default_checkpoint()) / "evaluation.json").read_text())["scores"]
print("| held-out | n | unirs-tiny | 95 % | blind |\n|---|---|---|---|---|")
for row in scores.values():
    interval = "{:.3f}-{:.3f}".format(*row["interval_95"]) if "interval_95" in row else ""
    print(f"| {row['name']} | {row['count']} | {row['accuracy']:.3f} | {interval} | {row['blind']:.3f} |")
