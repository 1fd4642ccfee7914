"""Pictures of scores, drawn to PNG files without a screen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, GRID, BLUE, GREY, ORANGE = "#1f2328", "#59636e", "#d8dce1", "#2f6fb0", "#aab2bb", "#c8641b"
DPI = 150
LINE = 0.3  # inches a bar
LONGEST_LABEL = 48  # characters
MOST_WORDS = 60  # longer captions are drawn at the edge
ENOUGH = 5  # samples for a mean to be drawn
NAMES = {"ours": "this run", "floor": "needs no picture", "published": "published"}
COLOURS = {"ours": BLUE, "floor": ORANGE, "published": GREY}


@dataclass(frozen=True)
class Bar:
    """A row of a bar chart; `kind` chooses its colour: ours, or something to compare with."""

    label: str
    value: float
    interval: tuple[float, float] | None = None
    kind: str = "ours"


def bars(path: Path, rows: Sequence[Bar], title: str, unit: str, marks: Sequence[tuple[str, float]] = ()) -> None:
    """Horizontal bars from above to below, with intervals as whiskers and named upright lines."""
    figure = Figure(figsize=(8, 1.3 + LINE * len(rows)), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(rows))[::-1]
    axes.barh(places, [row.value for row in rows], color=[COLOURS[row.kind] for row in rows], height=0.68)
    for place, row in zip(places, rows, strict=True):
        end = row.value
        if row.interval is not None:
            low, high = row.interval
            axes.plot([low, high], [place, place], color=INK, linewidth=1.3, solid_capstyle="butt")
            end = max(end, high)
        axes.annotate(f"{row.value:.1f}", (end, place), (4, 0), textcoords="offset points", va="center", fontsize=8.5)
    for (name, value), style in zip(marks, ("--", ":"), strict=False):
        axes.axvline(value, color=ORANGE, linewidth=1.4, linestyle=style, label=f"{name}: {value:.1f}")
    kinds = [kind for kind in NAMES if any(row.kind == kind for row in rows)]
    if len(kinds) > 1:
        for kind in kinds:
            axes.barh(0, 0, color=COLOURS[kind], label=NAMES[kind])
    if marks or len(kinds) > 1:
        figure.legend(loc="outside lower left", frameon=False, fontsize=8.5, ncols=3)
    axes.set_yticks(places, [_short(row.label) for row in rows])
    axes.set_ylim(-0.7, len(rows) - 0.3)
    highest = max([row.interval[1] if row.interval else row.value for row in rows] + [value for _, value in marks])
    axes.set_xlim(0, 1.08 * highest if highest else 1)
    _plain(axes, title, unit)
    figure.savefig(path)


def confusion(path: Path, table: dict[str, Any]) -> None:
    """Rows are true classes in shares of their samples; the last column is for answers that name no class."""
    counts = np.array(table["counts"])
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    side = max(5.0, 2.4 + 0.3 * len(table["columns"]))
    figure = Figure(figsize=(side, side * 0.94), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="equal")
    axes.set_xticks(range(len(table["columns"])), [_short(name) for name in table["columns"]], rotation=90)
    rows = [f"{_short(name)} ({row.sum()})" for name, row in zip(table["rows"], counts, strict=True)]
    axes.set_yticks(range(len(rows)), rows)
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = "white" if shares[row, column] > 0.5 else INK
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=7.5, color=colour)
    axes.axvline(len(table["rows"]) - 0.5, color=MUTED, linewidth=1)
    axes.set_xlabel("answer", color=MUTED)
    axes.set_ylabel("truth (samples)", color=MUTED)
    axes.tick_params(length=0, labelsize=8.5)
    for spine in axes.spines.values():
        spine.set_color(GRID)
    axes.set_title("Answers by true class", loc="left", color=INK, fontsize=12)
    figure.savefig(path)


def lengths(path: Path, predicted: Sequence[int], reference: Sequence[float]) -> None:
    """Words of each answer against the mean of its references; a model that is calibrated stays on the diagonal."""
    pairs = Counter((round(true), min(said, MOST_WORDS)) for said, true in zip(predicted, reference, strict=True))
    x, y = np.array(list(pairs)).T
    size = np.array(list(pairs.values()))
    longest = max(x.max(), y.max(), 4) + 1
    figure = Figure(figsize=(6, 5.6), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    axes.plot([0, longest], [0, longest], color=GREY, linewidth=1, zorder=1)
    axes.scatter(x, y, s=12 + 500 * size / size.max(), color=BLUE, alpha=0.55, linewidths=0, zorder=2)
    wanted = [one for one in np.unique(x) if size[x == one].sum() >= ENOUGH]
    means = [np.average(y[x == one], weights=size[x == one]) for one in wanted]
    axes.plot(wanted, means, color=ORANGE, linewidth=1.5, marker="o", markersize=3.5, zorder=3, label="mean")
    axes.legend(frameon=False, loc="upper left", fontsize=9)
    axes.set_xlim(0, longest)
    axes.set_ylim(-0.5, longest)
    _plain(axes, "Length of answers", "words of the reference")
    cut = f" ({MOST_WORDS} and more at the top)" if MOST_WORDS in y else ""
    axes.set_ylabel(f"words of the answer{cut}", color=MUTED)
    axes.grid(axis="both", color=GRID, linewidth=0.6)
    figure.savefig(path)


def _plain(axes: Axes, title: str, unit: str) -> None:
    axes.set_title(title, loc="left", color=INK, fontsize=12)
    axes.set_xlabel(unit, color=MUTED)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)
    axes.tick_params(length=0, colors=INK, labelsize=9)
    axes.grid(axis="x", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def _short(label: str) -> str:
    # A dollar sign would start a formula.
    label = label.replace("$", r"\$")
    return label if len(label) <= LONGEST_LABEL else label[: LONGEST_LABEL - 1].rstrip() + "…"
