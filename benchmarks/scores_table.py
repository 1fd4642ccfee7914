"""Prints benchmarks/results/unirs_tiny.json as the table of the README."""

import json
from pathlib import Path

NAMES = {
    "vqa_micro": "questions on one image, all",
    "presence": "presence",
    "comparison": "comparison",
    "rural_urban": "rural or urban",
    "count": "count",
    "scene": "land cover",
    "change_caption": "change caption is one of five references",
    "change_flag_of_caption": "caption says rightly whether anything changed",
    "change_flag": "has anything changed, yes or no",
    "clip_class": "clip class, of 25 named",
    "real_scene": "RSSCN7 class, of 7 (real pictures)",
}

scores = json.loads((Path(__file__).parent / "results" / "unirs_tiny.json").read_text())["scores"]
print("| held-out | n | unirs-tiny | 95 % | blind |\n|---|---|---|---|---|")
for kind, name in NAMES.items():
    row = scores.get(kind)
    if row is None:
        continue
    interval = "{:.3f}-{:.3f}".format(*row["interval_95"]) if "interval_95" in row else ""
    print(f"| {name} | {row['count']} | {row['accuracy']:.3f} | {interval} | {row['blind']:.3f} |")
