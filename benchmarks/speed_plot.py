"""Draws docs/images/speed.png from the results of first_token.py and decoding.py.

python benchmarks/speed_plot.py
"""

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

RESULTS = Path(__file__).parent / "results"
TARGET = Path(__file__).parents[1] / "docs/images/speed.png"
NAMES = {"unirs": "UniRS", "llava": "LLaVA (transformers)", "vila": "VILA's way"}
COLOURS = {"unirs": "#0f766e", "llava": "#9ca3af", "vila": "#d97706"}


def main() -> None:
    first = json.loads((RESULTS / "first_token.json").read_text())
    decoding = json.loads((RESULTS / "decoding.json").read_text())
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), width_ratios=(1.5, 1))

    rows = first["rows"][::-1]
    labels = [f"{row['input']}, {NAMES[row['way']]}" for row in rows]
    left.barh(labels, [row["seconds"] for row in rows], color=[COLOURS[row["way"]] for row in rows])
    left.set_xscale("log")
    left.set(xlabel="seconds to the first token (logarithmic)", title="First token at full size")
    left.set_xlim(1, 3 * max(row["seconds"] for row in rows))
    for place, row in enumerate(rows):
        left.text(row["seconds"] * 1.05, place, f"{row['seconds']:.1f} s", va="center")

    ways = decoding["ways"]
    bound = 1000 * decoding["bfloat16_bound_a_token"]
    names = [name.replace(", ", ",\n") for name in ways][::-1]
    right.barh(names, [1000 * way["a_token"] for way in ways.values()][::-1], color="#0f766e")
    right.axvline(bound, color="#be1426", linestyle="--")
    right.text(bound * 0.97, -0.75, "bfloat16's bound", color="#be1426", va="center", ha="right")
    right.set_ylim(-1, len(ways) - 0.5)
    right.set_xlim(0, 1180 * max(way["a_token"] for way in ways.values()))
    right.set(xlabel="milliseconds a token", title="Decoding, one picture")
    for place, way in enumerate(list(ways.values())[::-1]):
        right.text(10, place, f"{1000 * way['a_token']:.0f}", va="center", color="white")

    figure.tight_layout()
    figure.savefig(TARGET, dpi=110)


if __name__ == "__main__":
    main()
