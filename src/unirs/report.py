"""Pictures for people: the change map over a picture, and the report of `unirs demo`."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from transformers import Pipeline

    from .trainers.scene_tasks import SceneSample

# Black, violet, orange, yellow: rises evenly in lightness, so it also reads in grey and for the colour-blind.
RAMP = np.array([(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)], np.float32)
TILE = 224  # pixels of a picture in the report


def spread(change_map: np.ndarray, size: tuple[int, int], aspect_ratio: str = "pad") -> np.ndarray:
    """A `(grid, grid)` map over a picture of `size` (width, height): `(height, width)` in 0..1.

    With `"pad"` the model saw the picture in the middle of a square; what lies on the padding is cut off.
    """
    width, height = size
    square = (max(size), max(size)) if aspect_ratio == "pad" else size
    image = Image.fromarray(np.asarray(change_map, np.float32)).resize(square, Image.Resampling.BILINEAR)
    left, top = (square[0] - width) // 2, (square[1] - height) // 2
    return np.asarray(image)[top : top + height, left : left + width].clip(0, 1)


def colour(values: np.ndarray) -> np.ndarray:
    """Values in 0..1, `(height, width)`, to RGB bytes `(height, width, 3)`."""
    position = values.clip(0, 1) * (len(RAMP) - 1)
    channels = [np.interp(position, np.arange(len(RAMP)), RAMP[:, channel]) for channel in range(3)]
    return np.stack(channels, -1).astype(np.uint8)


def overlay(picture: Image.Image, change_map: np.ndarray, aspect_ratio: str = "pad") -> Image.Image:
    """The picture, greyed, with the change map over it: the more change, the less of the picture shows."""
    values = spread(change_map, picture.size, aspect_ratio)
    grey = np.asarray(picture.convert("L").convert("RGB"), np.float32)
    weight = (0.25 + 0.75 * np.sqrt(values))[..., None]  # (height, width, 1)
    return Image.fromarray((grey * (1 - weight) + colour(values) * weight).astype(np.uint8))


def demo_report(pipes: dict[str, Pipeline], output: Path, seed: int) -> list[dict[str, Any]]:
    """Asks about held-out generated scenes and writes `report.html` and `report.png` into `output`."""
    from .trainers.scene_tasks import HELD_OUT_SEED, clip_sample, pair_sample, single_sample

    first = HELD_OUT_SEED + 10 * seed
    rows: list[dict[str, Any]] = []
    panels: list[tuple[list[Image.Image], list[str], list[dict[str, Any]]]] = []
    for offset in range(2):
        for task, make in (("single", single_sample), ("pair", pair_sample), ("video", clip_sample)):
            sample = make(first + offset)
            answers, pictures, captions = _look(pipes[task], sample)
            panels.append((pictures, captions, answers))
            rows += answers
    (output / "report.html").write_text(_page(panels), encoding="utf-8")
    _sheet(panels).save(output / "report.png")
    return rows


def _look(pipe: Pipeline, sample: SceneSample) -> tuple[list[dict[str, Any]], list[Image.Image], list[str]]:
    """Answers to a sample's questions, and the pictures to show with their captions."""
    answers, pictures, captions = [], list(sample.images), ["image"]
    for question in sample.questions:
        if sample.task == "single":
            found = pipe(sample.images[0], question.question)
        elif sample.task == "pair":
            found = pipe(*sample.images, question.question, change_map=True)
            between = overlay(sample.images[1], found["change_map"])
            pictures, captions = [sample.images[0], between, sample.images[1]], ["before", "change map", "after"]
        else:
            found = pipe(list(sample.images))
            pictures = [sample.images[number] for number in (0, len(sample.images) // 2, -1)]
            captions = ["first frame", "middle frame", "last frame"]
        answers.append(
            {
                "task": sample.task,
                "question": question.question if sample.task != "video" else "Which event is shown?",
                "answer": found["answer"],
                "truth": question.answer,
                "right": found["answer"].lower() in [reference.lower() for reference in question.references],
            }
        )
    return answers, pictures, captions


TITLE = "UniRS on generated scenes it has never seen"
NOTE = (
    "Embedded checkpoint unirs-tiny. A caption counts as the truth's equal only if it is one of its five references."
)


def _page(panels: list[tuple[list[Image.Image], list[str], list[dict[str, Any]]]]) -> str:
    """One HTML file with the pictures inside it; opens without a network."""
    parts = []
    for pictures, captions, answers in panels:
        figures = "".join(
            f"<figure><img src='{_data_uri(picture)}' alt='{caption}'><figcaption>{caption}</figcaption></figure>"
            for picture, caption in zip(pictures, captions, strict=True)
        )
        lines = "".join(
            f"<tr><td>{html.escape(row['question'])}</td><td class='{'yes' if row['right'] else 'no'}'>"
            f"{html.escape(row['answer'])}</td><td>{html.escape(row['truth'])}</td></tr>"
            for row in answers
        )
        table = f"<table><tr><th>question</th><th>UniRS</th><th>truth</th></tr>{lines}</table>"
        parts.append(f"<section><div class='row'>{figures}</div>{table}</section>")
    style = (
        "body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;color:#222}"
        "section{margin:2rem 0;padding-bottom:1.5rem;border-bottom:1px solid #ddd}"
        ".row{display:flex;gap:.8rem;flex-wrap:wrap}"
        "figure{margin:0}img{width:16rem;border-radius:6px}figcaption{color:#666;font-size:.85rem}"
        "table{border-collapse:collapse;margin-top:.8rem}td,th{padding:.2rem 1rem .2rem 0;text-align:left;"
        "vertical-align:top}"
        "th{color:#666;font-weight:500}.yes{color:#146c2e}.no{color:#a3330c}"
    )
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{TITLE}</title><style>{style}</style>"
        f"<h1>{TITLE}</h1><p>{NOTE}</p>{''.join(parts)}</html>"
    )


def _data_uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _sheet(panels: list[tuple[list[Image.Image], list[str], list[dict[str, Any]]]]) -> Image.Image:
    """All panels on one picture, two columns of three pictures' width each."""
    gap, line = 16, 22
    font, small = ImageFont.load_default(17), ImageFont.load_default(14)
    text_height = max(len(answers) for _, _, answers in panels) * 2 * line + line
    cell_width, cell_height = 3 * (TILE + gap), TILE + 24 + text_height + gap
    rows = -(-len(panels) // 2)
    sheet = Image.new("RGB", (2 * cell_width + 3 * gap, rows * cell_height + 4 * gap), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((gap, gap), TITLE, fill="#222222", font=ImageFont.load_default(26))
    for number, (pictures, captions, answers) in enumerate(panels):
        x = gap + (number % 2) * (cell_width + gap)
        y = 4 * gap + (number // 2) * cell_height
        for place, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
            sheet.paste(picture.resize((TILE, TILE), Image.Resampling.LANCZOS), (x + place * (TILE + gap), y))
            draw.text((x + place * (TILE + gap), y + TILE + 3), caption, fill="#666666", font=small)
        y += TILE + 26
        for row in answers:
            draw.text((x, y), _fit(draw, row["question"], font, cell_width), fill="#444444", font=font)
            mark = "#146c2e" if row["right"] else "#a3330c"
            answer = row["answer"] if row["right"] else f"{row['answer']}   (truth: {row['truth']})"
            draw.text((x + 14, y + line - 2), _fit(draw, answer, font, cell_width - 14), fill=mark, font=font)
            y += 2 * line
    return sheet


def _fit(draw: ImageDraw.ImageDraw, text: str, font: Any, width: int) -> str:
    """The text, shortened to the width."""
    while draw.textlength(text, font=font) > width:
        text = text[:-4].rstrip() + "..."
    return text
