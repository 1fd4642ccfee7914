"""The page of a report: tables, plots, and single samples with their pictures, all in one HTML file."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ..trainers.rows import Visual, items_of, visuals_of
from .cases import Case
from .samples import Scoring
from .tables import Table

THUMBNAIL = 256  # pixels of the longer side
FRAMES = 4  # shown of a clip
DENSITY = 1.6  # pixels of a plot for one of the page

STYLE = """
:root{color-scheme:light}
body{font:16px/1.5 system-ui,sans-serif;max-width:66rem;margin:2rem auto;padding:0 1rem;color:#1f2328;background:#fff}
h1{font-size:1.7rem;line-height:1.2;margin:0 0 .2rem}h2{font-size:1.2rem;margin:2.6rem 0 .6rem}
.lead{font-size:1.1rem;margin:.2rem 0 0}.note,figcaption,.missing{color:#59636e;font-size:.88rem}
.note{max-width:46rem;margin:.5rem 0 0}
.wide{overflow-x:auto;margin:0 -.5rem}table{border-collapse:collapse;font-size:.93rem}
th,td{padding:.28rem .5rem;text-align:right;vertical-align:top;border-bottom:1px solid #e4e7eb}
th{color:#59636e;font-weight:500;vertical-align:bottom}.words{text-align:left;min-width:6.5rem}
td:not(.words){white-space:nowrap}
tr.ours td{background:#eef4fb;font-weight:600}
.plots img{display:block;max-width:100%;height:auto;margin:0 0 1.6rem}
.cases{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,19rem),1fr));gap:1.2rem;align-items:start}
article{border:1px solid #e4e7eb;border-radius:8px;padding:.7rem;overflow-wrap:anywhere}
.pictures{display:grid;grid-template-columns:repeat(auto-fit,minmax(7rem,1fr));gap:.4rem}
figure{margin:0}figure img{width:100%;display:block;border-radius:4px;image-rendering:auto}
.missing{margin:0;background:#f6f8fa;border:1px dashed #aab2bb;border-radius:4px;padding:.6rem}
dl{margin:.6rem 0 0;display:grid;grid-template-columns:auto 1fr;gap:.15rem .7rem}dt{color:#59636e;font-size:.85rem}
dd{margin:0}ul{margin:0;padding-left:1.1rem;font-size:.9rem}
.yes{color:#146c2e;font-weight:600}.no{color:#a3330c;font-weight:600}
pre{background:#f6f8fa;padding:.8rem;border-radius:6px;overflow-x:auto;font-size:.8rem}
"""


def page(
    title: str,
    lead: str,
    tables: Sequence[Table],
    plots: Sequence[tuple[Path, str]],
    cases: Sequence[tuple[str, Sequence[Case]]],
    settings: str,
    scoring: Scoring,
) -> str:
    """The whole page. All words in it that are not ours are escaped.

    Args:
        plots: PNG files and what they show, for those who cannot see them.
        cases: Headings with the samples below them.
        settings: What is needed to repeat the scores, as indented JSON.
    """
    pictures = "".join(_plot(file, words) for file, words in plots)
    shown = "".join(
        f"<h2>{html.escape(heading)}</h2><div class='cases'>{''.join(_case(case, scoring) for case in some)}</div>"
        for heading, some in cases
        if some
    )
    return (
        f"<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><title>{html.escape(title)}</title>"
        "<meta name='viewport' content='width=device-width,initial-scale=1'>"
        f"<style>{STYLE}</style></head><body><h1>{html.escape(title)}</h1><p class='lead'>{html.escape(lead)}</p>"
        f"{''.join(_table(table) for table in tables)}"
        f"<h2>Plots</h2><div class='plots'>{pictures}</div>{shown}"
        f"<h2>To repeat it</h2><pre>{html.escape(settings)}</pre></body></html>\n"
    )


def _plot(file: Path, words: str) -> str:
    with Image.open(file) as drawn:
        width = round(drawn.width / DENSITY)
    data = base64.b64encode(file.read_bytes()).decode()
    return f"<img src='data:image/png;base64,{data}' width='{width}' alt='{html.escape(words)}'>"


def _table(table: Table) -> str:
    kinds = ["<{0} class='words'>" if words else "<{0}>" for words in table.words()]

    def line(cells: Sequence[str], tag: str) -> str:
        texts = [html.escape(cell).replace("CIDEr-D", "CIDEr\u2011D") for cell in cells]  # never broken at its hyphen
        return "".join(f"{kind.format(tag)}{text}</{tag}>" for kind, text in zip(kinds, texts, strict=True))

    rows = "".join(f"<tr{' class=ours' if row[0] == table.ours else ''}>{line(row, 'td')}</tr>" for row in table.rows)
    note = f"<p class='note'>{html.escape(table.note)}</p>" if table.note else ""
    return (
        f"<h2>{html.escape(table.title)}</h2><div class='wide'><table><thead><tr>{line(table.head, 'th')}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>{note}"
    )


def _case(case: Case, scoring: Scoring) -> str:
    question = " ".join(item["text"] for item in items_of(case.sample.messages, "text"))
    pictures = "".join(_visual(visual) for visual in visuals_of(case.sample.messages))
    truths = [html.escape(one) for one in dict.fromkeys(case.sample.references)]
    truth = truths[0] if len(truths) == 1 else f"<ul>{''.join(f'<li>{one}</li>' for one in truths)}</ul>"
    answer = html.escape(case.answer) or "(no words)"
    if scoring == "captions":
        said, mark = f"<dd>{answer}</dd>", f"<dt>CIDEr-D</dt><dd>{case.mark:.1f}</dd>"
    else:
        said, mark = f"<dd class='{'yes' if case.mark else 'no'}'>{answer}</dd>", ""
    return (
        f"<article><div class='pictures'>{pictures}</div><dl><dt>id</dt><dd>{html.escape(case.sample.id)}</dd>"
        f"<dt>asked</dt><dd>{html.escape(question)}</dd><dt>answer</dt>{said}<dt>truth</dt><dd>{truth}</dd>{mark}</dl>"
        "</article>"
    )


def _visual(visual: Visual) -> str:
    """Thumbnails of a picture, both dates of a pair, or some frames of a clip; a reason where there are none."""
    from ..processing import VisualInputError, load_image, load_video

    try:
        if visual.kind == "video":
            source: Any = visual.sources[0] if len(visual.sources) == 1 else list(visual.sources)
            frames = load_video(source, FRAMES)
            captions = [f"frame {number} of {len(frames)} shown" for number in range(1, len(frames) + 1)]
        else:
            frames = [load_image(source) for source in visual.sources]
            captions = ["before", "after"] if visual.kind == "change" else [""]
    except VisualInputError as error:
        return f"<p class='missing'>no picture: {html.escape(str(error))}</p>"
    return "".join(
        f"<figure><img src='{_data_uri(frame)}' alt='{caption or 'picture'}'>"
        f"<figcaption>{caption}</figcaption></figure>"
        for frame, caption in zip(frames, captions, strict=True)
    )


def _data_uri(picture: Image.Image) -> str:
    picture = picture.copy()
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
