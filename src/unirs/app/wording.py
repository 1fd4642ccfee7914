"""Answers, errors and tables as HTML. Every word of a visitor or of the model is escaped here."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

from unirs.report import RAMP

from .asking import Answer

if TYPE_CHECKING:
    from unirs.geo.changes import Change

MOST_LISTED = 50  # changes; the files have all


def answer_html(answer: Answer, wants_clue: bool = False, notes: Sequence[str] = ()) -> str:
    """The clue, where one is wanted, the answer below it, and notes; `aria-busy` keeps screen readers from halves."""
    parts = []
    if answer.clue:
        parts.append(f"<p class='clue'><b>Clue</b> {html.escape(answer.clue)}</p>")
    elif wants_clue and answer.has_ended:
        parts.append(f"<p class='clue'><b>No clue</b> {html.escape(answer.no_clue or '')}</p>")
    text = answer.text.strip() or ("(no words)" if answer.has_ended else "…")
    parts.append(f"<p class='answer'>{html.escape(text)}</p>")
    if answer.changed is not None:
        parts.append(f"<p class='aside'>{answer.changed:.0%} of the picture looks changed.</p>{LEGEND}")
    parts += [note_html(note) for note in notes]
    busy = "false" if answer.has_ended else "true"
    return f"<div aria-busy='{busy}'>{''.join(parts)}</div>"


def error_html(sentence: str) -> str:
    return f"<p class='error' role='alert'><b>Not done.</b> {html.escape(' '.join(sentence.split()))}</p>"


def busy_html(sentence: str) -> str:
    return f"<div aria-busy='true'>{note_html(sentence)}</div>"


def note_html(sentence: str) -> str:
    return f"<p class='aside'>{html.escape(sentence)}</p>"


def _legend() -> str:
    colours = ", ".join(f"rgb({red:.0f} {green:.0f} {blue:.0f})" for red, green, blue in RAMP)
    ramp = f"<span class='ramp' style='background:linear-gradient(to right, {colours})'></span>"
    return f"<p class='legend'><span>slightly changed</span>{ramp}<span>most unlike</span></p>"


LEGEND = _legend()


def note_on_shapes(before: tuple[int, int], after: tuple[int, int]) -> list[str]:
    """Two pictures of other shapes cannot show the same ground: said as `unirs change` does."""
    if 0.98 < before[0] * after[1] / (before[1] * after[0]) < 1.02:
        return []
    (width, height), (other_width, other_height) = before, after
    return [
        f"The earlier picture has {width:,} x {height:,} pixels and the later one {other_width:,} x {other_height:,}: "
        "where the two lie one over the other is a guess."
    ]


def changes_html(changes: Sequence[Change], areas: Sequence[float | None], notes: Sequence[str]) -> str:
    """A table of the highest scores, and how the map was made.

    Args:
        areas: Square metres of each change; None where the dates have no place on the ground.
    """
    count = len(changes)
    parts = [f"<p class='answer'>{count:,} change{'' if count == 1 else 's'} found.</p>"]
    listed = sorted(zip(changes, areas, strict=True), key=lambda one: -(one[0].score or 0))[:MOST_LISTED]
    if listed:
        rows = "".join(
            f"<tr><td>{html.escape(change.caption)}</td><td>{change.score or 0:.2f}</td>{_area(area)}</tr>"
            for change, area in listed
        )
        place = "" if listed[0][1] is None else "<th scope='col'>Area</th>"  # all have one, or none
        head = f"<tr><th scope='col'>Change</th><th scope='col'>Score</th>{place}</tr>"
        caption = f"<caption>The {len(listed)} with the highest scores</caption>" if count > len(listed) else ""
        parts.append(f"<table>{caption}<thead>{head}</thead><tbody>{rows}</tbody></table>")
    parts += [note_html(note) for note in notes]
    return f"<div aria-busy='false'>{''.join(parts)}</div>"


def _area(square_metres: float | None) -> str:
    if square_metres is None:
        return ""
    shown = f"{square_metres / 1e6:,.2f} km²" if square_metres >= 1e5 else f"{square_metres:,.0f} m²"
    return f"<td>{shown}</td>"
