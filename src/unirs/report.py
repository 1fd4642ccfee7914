"""Pictures for people: the change map over a picture, and the report of `unirs demo`."""

from __future__ import annotations

import base64
import html
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .closer_map import closer_change_map
from .given import DEMO_FILES, DEMO_FILES_TOLD, DEMO_TITLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from transformers import Pipeline

    from .trainers.scene_questions import QuestionAnswer
    from .trainers.scene_tasks import SceneSample

# Dark red, red, orange, pale yellow: rises evenly in lightness, so it also reads in grey and for the colour-blind.
RAMP = np.array([(90, 0, 30), (190, 20, 38), (244, 109, 34), (255, 190, 60), (255, 250, 170)], np.float32)
STRONGEST = 0.9  # of the colour where the map is 1; a little of the picture always shows
CLEARING = 1.5  # above 1: a middling map hides less of the picture
CHANGED = 0.5  # map values above this count as changed
GREYED = 0.5  # how far the picture goes to grey under the map, so that its own reds are not taken for change

FRAMES_A_SECOND, CLIP_BITS = 2, 2_000_000  # of the clip that is left to try
SEEDS_A_REPORT = 1000  # held-out seeds that one `--seed` may look through
NOTE = (
    "Green: the answer is one of the accepted ones; red: it is none. A change caption has five of those; one in other "
    "words is black where it says rightly whether anything changed."
)
HEADINGS = {"single": "Single picture", "pair": "Before and after", "video": "Clip"}


@dataclass
class Panel:
    """One generated scene: what was shown and what was said."""

    task: str
    pictures: list[Image.Image]
    captions: list[str]
    answers: list[dict[str, Any]] = field(default_factory=list)


# -- the change map --------------------------------------------------------------------------------------------------
def spread(change_map: np.ndarray, size: tuple[int, int], aspect_ratio: str = "pad") -> np.ndarray:
    """A `(grid, grid)` map over a picture of `size` (width, height): `(height, width)` in 0..1.

    With `"pad"` the model saw the picture in the middle of a square; what lies on the padding is cut off.
    """
    # Only the part under the picture is enlarged: for a long strip the whole square would be huge.
    box = _under(change_map.shape, size, aspect_ratio)
    image = Image.fromarray(np.asarray(change_map, np.float32))
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR, box=box)).clip(0, 1)  # (height, width)


def changed_share(change_map: np.ndarray, size: tuple[int, int], aspect_ratio: str = "pad") -> float:
    """Share of a picture of `size` (width, height) that lies under cells above `CHANGED`."""
    left, top, right, bottom = _under(change_map.shape, size, aspect_ratio)
    rows, columns = (np.arange(length + 1) for length in change_map.shape)
    # How much of each cell lies under the picture.
    weights = np.outer(np.diff(rows.clip(top, bottom)), np.diff(columns.clip(left, right)))  # (grid, grid)
    return float((weights * (change_map > CHANGED)).sum() / weights.sum())


def _under(grid: tuple[int, ...], size: tuple[int, int], aspect_ratio: str) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the picture, in cells of the map."""
    width, height = size
    side = max(size)
    columns, rows = (side, side) if aspect_ratio == "pad" else size
    left, top = (columns - width) // 2, (rows - height) // 2
    across, down = grid[1] / columns, grid[0] / rows
    return left * across, top * down, (left + width) * across, (top + height) * down


def colour(values: np.ndarray) -> np.ndarray:
    """Values in 0..1, `(height, width)`, to RGB bytes `(height, width, 3)`."""
    position = values.clip(0, 1) * (len(RAMP) - 1)
    channels = [np.interp(position, np.arange(len(RAMP)), RAMP[:, channel]) for channel in range(3)]
    return np.stack(channels, -1).astype(np.uint8)


def overlay(picture: Image.Image, change_map: np.ndarray, aspect_ratio: str = "pad") -> Image.Image:
    """The picture with the change map over it: no change is clear, full change is nearly opaque pale yellow."""
    values = spread(change_map, picture.size, aspect_ratio)
    heat = Image.fromarray(colour(values))
    opacity = Image.fromarray((255 * STRONGEST * values**CLEARING).astype(np.uint8))
    picture = picture.convert("RGB")
    base = Image.blend(picture, picture.convert("L").convert("RGB"), GREYED)
    return Image.composite(heat, base, opacity)


# -- the report of `unirs demo` --------------------------------------------------------------------------------------
def demo_report(
    pipes: dict[str, Pipeline], page: Path, seed: int, samples: Path | None = None, **options: Any
) -> list[dict[str, Any]]:
    """Asks about held-out generated scenes; writes `page` (HTML) and the same as one picture beside it (PNG).

    Args:
        pipes: A pipeline for each of "single", "pair" and "video".
        page: HTML file to write.
        seed: Which scenes: each number has its own.
        samples: Folder for the first picture, pair and clip as files, to try the other commands on.
        options: Go to every call of the pipelines.

    Returns:
        One dict for each question: task, question, answer, truth, right (see `verdict`).
    """
    panels = [_look(pipes[sample.task], sample, options) for sample in _samples(seed)]
    page.write_text(_page(panels, NOTE if samples is None else f"{NOTE} {DEMO_FILES_TOLD}"), encoding="utf-8")
    if samples is not None:
        _write_samples(panels, samples)
    _sheet(panels).save(page.with_suffix(".png"), format="PNG")
    return [row for panel in panels for row in panel.answers]


def _write_samples(panels: list[Panel], folder: Path) -> None:
    """`DEMO_FILES`, of the first panel of each kind."""
    first = {panel.task: panel.pictures for panel in reversed(panels)}
    scene, before, after, clip = (folder / name for name in DEMO_FILES)
    first["single"][0].save(scene)
    first["pair"][0].save(before)
    first["pair"][-1].save(after)
    write_clip(clip, first["video"])


def write_clip(path: Path, frames: Sequence[Image.Image]) -> None:
    """Frames of one size as an MP4 file."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=FRAMES_A_SECOND)
        stream.width, stream.height = frames[0].size
        stream.pix_fmt, stream.bit_rate = "yuv420p", CLIP_BITS
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())


def _samples(seed: int) -> Iterator[SceneSample]:
    """Two pictures, a pair that changed and one that did not, two clips of different classes."""
    from .trainers.scene_tasks import HELD_OUT_SEED, clip_sample, pair_sample, single_sample

    first = HELD_OUT_SEED + SEEDS_A_REPORT * seed
    yield from (single_sample(first), single_sample(first + 1))
    # Chosen by the truth, before any model has answered: half of all pairs show no change.
    pairs = [pair_sample(first)]
    changed = bool(pairs[0].change_mask is not None and pairs[0].change_mask.any())
    pairs.append(_first(pair_sample, first, lambda one: one.change_mask.any() != changed))
    yield from (pairs if changed else pairs[::-1])
    clip = clip_sample(first)
    yield clip
    yield _first(clip_sample, first, lambda one: one.label != clip.label)


def _first(make: Any, first: int, wanted: Any) -> SceneSample:
    """The next sample of the wanted kind."""
    samples = (make(number) for number in range(first + 1, first + SEEDS_A_REPORT))
    return next(sample for sample in samples if wanted(sample))


def _look(pipe: Pipeline, sample: SceneSample, options: dict[str, Any]) -> Panel:
    """Answers to a sample's questions, and the pictures to show with their captions."""
    panel = Panel(sample.task, list(sample.images), [""])
    if sample.task == "video":
        panel.captions = [f"frame {number + 1}" for number in range(len(sample.images))]
    for question in sample.questions:
        shown = question.question
        if sample.task == "single":
            found = pipe(sample.images[0], shown, **options)
        elif sample.task == "pair":
            found = pipe(*sample.images, shown, **options)
            aspect_ratio = pipe.processor.image_processor.image_aspect_ratio
            heat = overlay(
                sample.images[1], closer_change_map(pipe.model, pipe.processor, *sample.images), aspect_ratio
            )
            panel.pictures, panel.captions = [sample.images[0], heat, sample.images[1]], ["before", "change", "after"]
        else:
            found = pipe(list(sample.images), **options)  # the model's own instruction, which lists the classes
            shown = "Which event is shown?"
        panel.answers.append(
            {
                "task": sample.task,
                "question": shown,
                "answer": found["answer"],
                "truth": question.answer,
                "right": verdict(found["answer"], question),
            }
        )
    return panel


def verdict(answer: str, question: QuestionAnswer) -> bool | None:
    """Whether an answer is right. None of a caption in other words than its references have, if it says rightly
    whether anything changed: the rest is for the reader to judge.
    """
    from .evaluation.change_flags import says_change

    if answer.lower() in [reference.lower() for reference in question.references]:
        return True
    if question.kind == "change_caption" and says_change(answer) == says_change(question.answer):
        return None
    return False


# -- as a page -------------------------------------------------------------------------------------------------------
VERDICTS = {True: "yes", False: "no", None: "open"}
STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1f2328;background:#fff}
h1{font-size:1.7rem;margin-bottom:.2rem}h2{font-size:1.15rem;margin:2.2rem 0 .6rem}p{color:#59636e}
section{margin:0 0 1.6rem;padding-bottom:1.2rem;border-bottom:1px solid #e4e7eb}
.row{display:flex;gap:.6rem;flex-wrap:wrap}.row.video{gap:3px;background:#16181c;padding:10px 8px;border-radius:6px}
figure{margin:0}img{width:16rem;max-width:100%;border-radius:6px;display:block}
.video figure{flex:1;min-width:5rem}.video img{width:100%;border-radius:2px}
figcaption{color:#59636e;font-size:.82rem;min-height:.4rem}.video figcaption{color:#9da5ae;text-align:center}
table{border-collapse:collapse;margin-top:.7rem}
td,th{padding:.15rem 1.4rem .15rem 0;text-align:left;vertical-align:top}
th{color:#59636e;font-weight:500;font-size:.85rem}.yes{color:#146c2e;font-weight:600}.no{color:#a3330c;font-weight:600}
.open{font-weight:600}
"""


def _page(panels: list[Panel], note: str) -> str:
    """One HTML file with the pictures inside it; opens without a network."""
    parts, task = [], ""
    for panel in panels:
        if panel.task != task:
            task = panel.task
            parts.append(f"<h2>{HEADINGS[task]}</h2>")
        figures = "".join(
            f"<figure><img src='{_data_uri(picture)}' alt='{caption or 'picture'}'>"
            f"<figcaption>{caption}</figcaption></figure>"
            for picture, caption in zip(panel.pictures, panel.captions, strict=True)
        )
        lines = "".join(
            f"<tr><td>{html.escape(row['question'])}</td><td class='{VERDICTS[row['right']]}'>"
            f"{html.escape(row['answer'])}</td><td>{html.escape(row['truth'])}</td></tr>"
            for row in panel.answers
        )
        table = f"<table><tr><th>question</th><th>UniRS</th><th>truth</th></tr>{lines}</table>"
        parts.append(f"<section><div class='row {panel.task}'>{figures}</div>{table}</section>")
    return (
        f"<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><title>{DEMO_TITLE}</title>"
        f"<style>{STYLE}</style></head><body><h1>{DEMO_TITLE}</h1><p>{note}</p>{''.join(parts)}</body></html>\n"
    )


def _data_uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


# -- as one picture --------------------------------------------------------------------------------------------------
TILE, GAP, MARGIN = 240, 12, 36  # pixels
PANEL = 3 * TILE + 2 * GAP  # a pair's three pictures side by side; everything else fits into that width
LINE = 25
INK, MUTED, GREEN, RED, FILM = "#1f2328", "#59636e", "#146c2e", "#a3330c", "#16181c"


def _sheet(panels: list[Panel]) -> Image.Image:
    """All panels on one picture, two to a row, a row for each task."""
    rows = [panels[start : start + 2] for start in range(0, len(panels), 2)]
    drawn = [[_draw_panel(panel) for panel in row] for row in rows]
    heights = [max(one.height for one in row) for row in drawn]
    heading, title = 44, 76
    height = title + sum(heights) + len(rows) * (heading + MARGIN) + MARGIN // 2
    sheet = Image.new("RGB", (2 * PANEL + 3 * MARGIN, height), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, 26), DEMO_TITLE, fill=INK, font=ImageFont.load_default(30))
    y = title
    for row, images, row_height in zip(rows, drawn, heights, strict=True):
        draw.line((MARGIN, y + 8, sheet.width - MARGIN, y + 8), fill="#d8dce1")
        draw.text((MARGIN, y + 17), HEADINGS[row[0].task], fill=MUTED, font=ImageFont.load_default(19))
        for column, image in enumerate(images):
            sheet.paste(image, (MARGIN + column * (PANEL + MARGIN), y + heading))
        y += heading + row_height + MARGIN
    return sheet


def _draw_panel(panel: Panel) -> Image.Image:
    """A panel's pictures and its questions; the questions stand beside a single picture and below several."""
    beside = panel.task == "single"
    canvas = Image.new("RGB", (PANEL, 1000), "white")
    bottom = _film_strip(canvas, panel.pictures) if panel.task == "video" else _tiles(canvas, panel)
    x, y = (TILE + 2 * GAP, 0) if beside else (0, bottom + 6)
    end = _write_answers(ImageDraw.Draw(canvas), panel.answers, x, y, PANEL - x)
    return canvas.crop((0, 0, PANEL, max(end, bottom)))


def _tiles(canvas: Image.Image, panel: Panel) -> int:
    """Pictures side by side with captions; the height used."""
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(15)
    for place, (picture, caption) in enumerate(zip(panel.pictures, panel.captions, strict=True)):
        x = place * (TILE + GAP)
        canvas.paste(picture.resize((TILE, TILE), Image.Resampling.LANCZOS), (x, 0))
        draw.text((x, TILE + 4), caption, fill=MUTED, font=font)
    return TILE + (24 if any(panel.captions) else 0)


def _film_strip(canvas: Image.Image, frames: list[Image.Image], columns: int = 4) -> int:
    """Frames as a film, in lines of four, with the holes of a film above and below; the height used."""
    draw, edge, between = ImageDraw.Draw(canvas), 18, 4
    side = (PANEL - (columns + 1) * between) // columns
    y = 0
    for start in range(0, len(frames), columns):
        draw.rectangle((0, y, PANEL - 1, y + side + 2 * edge - 1), fill=FILM)
        for x in range(8, PANEL - 10, 24):
            for hole in (y + 5, y + side + edge + 5):
                draw.rounded_rectangle((x, hole, x + 11, hole + 7), radius=2, fill="white")
        for place, frame in enumerate(frames[start : start + columns]):
            small = frame.resize((side, side), Image.Resampling.LANCZOS)
            canvas.paste(small, (between + place * (side + between), y + edge))
        y += side + 2 * edge
    return y


def _write_answers(draw: ImageDraw.ImageDraw, answers: list[dict[str, Any]], x: int, y: int, width: int) -> int:
    """Each question with its answer, and the truth where they differ; the lowest line used."""
    font, bold = ImageFont.load_default(17), ImageFont.load_default(18)
    for row in answers:
        question, answer = row["question"], " ".join(row["answer"].split()) or "(no words)"  # on one line
        shade = {True: GREEN, False: RED, None: INK}[row["right"]]
        taken = draw.textlength(question + "  ", font=font)
        if taken + draw.textlength(f"{answer}   truth: {row['truth']}", font=bold) > width:
            draw.text((x, y), _fit(draw, question, font, width), fill=MUTED, font=font)
            y, taken = y + LINE, 0
        else:
            draw.text((x, y), question, fill=MUTED, font=font)
        answer = _fit(draw, answer, bold, int(width - taken))
        draw.text((x + taken, y - 1), answer, fill=shade, font=bold)
        if not row["right"]:
            taken += draw.textlength(answer + "   ", font=bold)
            truth = f"truth: {row['truth']}"
            if taken + draw.textlength(truth, font=font) > width:
                y, taken = y + LINE, 0
            draw.text((x + taken, y), _fit(draw, truth, font, int(width - taken)), fill=INK, font=font)
        y += LINE + 6
    return y


def _fit(draw: ImageDraw.ImageDraw, text: str, font: Any, width: int) -> str:
    """One line of the text, shortened to the width."""
    text = " ".join(text.split())
    if draw.textlength(text, font=font) <= width:
        return text
    while text and draw.textlength(text + "...", font=font) > width:
        text = text[:-1]
    return text.rstrip() + "..."
