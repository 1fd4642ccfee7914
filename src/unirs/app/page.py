"""What the page looks like: four tabs, their examples, and which event does what."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from .examples import Examples
from .handlers import TILES, Handlers

TITLE = "UniRS"
INTRODUCTION = "Ask about an aerial or satellite image, about what changed between two dates, or about a clip."
TRY = "Or try an example"
CSS = Path(__file__).with_name("page.css")
SCRIPT = Path(__file__).with_name("page.js")
# Dark enough for white words on buttons, and for words on white, by WCAG 2 (4.5 to 1).
THEME = gr.themes.Default(
    primary_hue="teal", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
).set(
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_hover_dark="*primary_800",
    block_info_text_color="*neutral_600",
    block_info_text_color_dark="*neutral_300",
    input_placeholder_color="*neutral_500",
    input_placeholder_color_dark="*neutral_400",
    checkbox_border_color="*neutral_500",
    checkbox_border_color_dark="*neutral_400",
)
RASTER_ENDINGS = [".tif", ".tiff", ".jp2", ".png", ".jpg", ".jpeg"]
ONE_AT_A_TIME: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1}
READERS = 2  # uploads that are measured and previewed at a time: each may hold a large picture
# Values as the browser sends them: Gradio's own reading would open files with any decoder that Pillow has.
RAW: dict[str, Any] = {"preprocess": False, "api_visibility": "private"}


def build(handlers: Handlers, examples: Examples, model: str, clue: bool) -> gr.Blocks:
    """The page.

    Args:
        model: Its name, for the visitor.
        clue: Whether the box for clues is ticked at first.
    """
    limits = handlers.uploads.limits
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        gr.Markdown(f"# {TITLE}\n{INTRODUCTION}", elem_classes="heading")
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Picture"):
                _picture_tab(handlers, examples, clue)
            with gr.Tab("Change"):
                _pair_tab(handlers, examples, clue)
            with gr.Tab("Clip"):
                _clip_tab(handlers, examples, clue)
            with gr.Tab("Map"):
                _map_tab(handlers, examples)
        gr.Markdown(
            f"Model: {model}. Uploads of up to {limits.upload_bytes // 2**20:,} MB; they stay on this server and are "
            f"removed after {max(1, limits.kept_seconds // 60)} minutes. Examples are generated scenes.",
            elem_classes="footnote",
        )
    return page.queue(max_size=64)


def _picture_tab(handlers: Handlers, examples: Examples, clue: bool) -> None:
    with gr.Row():
        with gr.Column():
            image = _image("Picture")
            question = gr.Textbox(label="Question", placeholder="Is there a road in the image?", max_lines=4)
            with_clue = _clue_box(clue)
            ask = gr.Button("Ask", variant="primary")
        with gr.Column() as right:
            answer = _answer()
    asked = gr.on(
        [ask.click, question.submit], handlers.ask_about_picture, [image, question, with_clue], answer,
        show_progress="hidden", **ONE_AT_A_TIME, **RAW,
    )  # fmt: skip
    with right:
        _examples(examples.pictures, [image, question], [answer], asked)
    _clear([image.upload, image.clear], [answer], asked)
    image.upload(handlers.show_picture, image, [image, answer], concurrency_limit=READERS, **RAW)


def _pair_tab(handlers: Handlers, examples: Examples, clue: bool) -> None:
    with gr.Row():
        with gr.Column():
            with gr.Row(elem_classes="two"):
                before, after = _image("Before", small=True), _image("After", small=True)
            instruction = _instruction("Was a road built?")
            with_clue = _clue_box(clue)
            ask = gr.Button("Describe the change", variant="primary")
        with gr.Column() as right:
            answer = _answer()
            slider = gr.HTML("", elem_classes="made")
    asked = gr.on(
        [ask.click, instruction.submit], handlers.ask_about_pair, [before, after, instruction, with_clue],
        [answer, slider], show_progress="hidden", **ONE_AT_A_TIME, **RAW,
    )  # fmt: skip
    with right:
        _examples(examples.pairs, [before, after], [answer, slider], asked)
    _clear([before.upload, after.upload, before.clear, after.clear], [answer, slider], asked)
    for image in (before, after):
        image.upload(handlers.show_picture, image, [image, answer], concurrency_limit=READERS, **RAW)


def _clip_tab(handlers: Handlers, examples: Examples, clue: bool) -> None:
    most, taken = handlers.asker.most_frames, handlers.asker.processor.num_frames
    with gr.Row():
        with gr.Column():
            files = gr.File(
                label="Clip, or 3 and more pictures in order",
                file_count="multiple",
                file_types=["video", "image"],
                allow_reordering=True,
                height=170,
            )
            num_frames = gr.Slider(1, most, min(taken, most), step=1, label="Frames to look at")
            instruction = _instruction("When did it change?")
            with_clue = _clue_box(clue)
            ask = gr.Button("Name the scene", variant="primary")
        with gr.Column() as right:
            answer = _answer()
            frames = gr.Gallery(
                label="The frames that the model sees",
                columns=4,
                height="auto",
                interactive=False,
                buttons=[],
                elem_classes=["frames", "made"],
            )
    asked = gr.on(
        [ask.click, instruction.submit], handlers.ask_about_clip, [files, num_frames, instruction, with_clue], answer,
        show_progress="hidden", **ONE_AT_A_TIME, **RAW,
    )  # fmt: skip
    with right:
        _examples([(one,) for one in examples.clips], [files], [answer], asked)
    _clear([files.change, num_frames.change], [answer], asked)
    # at each change: keys and typed numbers never release the slider; of the numbers that it passes the last counts
    gr.on(
        [files.change, num_frames.change], handlers.show_frames, [files, num_frames], [frames, answer],
        concurrency_limit=READERS, trigger_mode="always_last", **RAW,
    )  # fmt: skip


def _map_tab(handlers: Handlers, examples: Examples) -> None:
    with gr.Row():
        with gr.Column():
            before, after = (
                gr.File(label=f"{date} (GeoTIFF)", file_types=RASTER_ENDINGS, height=140)
                for date in ("Before", "After")
            )
            with gr.Accordion("Settings", open=False):
                tile = gr.Slider(*TILES, 256, step=32, label="Side of a tile in pixels")
                threshold = gr.Slider(0, 1, 0.5, step=0.05, label="Score from which a tile counts as changed")
                merge = gr.Checkbox(True, label="Outline what changed, not whole tiles")
                pixel = gr.Checkbox(False, label="Files of equal size show the same place pixel by pixel")
            with gr.Row():
                run = gr.Button("Map the changes", variant="primary", scale=4)
                stop = gr.Button("Stop", min_width=80)
        with gr.Column():
            table = _answer()
            files = gr.File(
                label="Files: GeoJSON, heat map, page to pan and zoom",
                interactive=False,
                height=215,
                elem_classes=["made", "taken"],
            )
    preview = gr.Image(
        label="Changes on the map", interactive=False, buttons=["fullscreen"], elem_classes=["made", "drawn"]
    )
    asked = run.click(
        handlers.make_map, [before, after, tile, threshold, merge, pixel], [preview, table, files],
        show_progress="hidden", **ONE_AT_A_TIME, **RAW,
    )  # fmt: skip
    # below the map: on a phone what was made of the visitor's own files comes before them
    _examples(examples.maps, [before, after], [table], asked)
    _clear([before.change, after.change, stop.click], [table, preview, files], asked)


def _examples(samples: Sequence[Sequence[Any]], fields: list[Component], said: list[Component], asked: Any) -> None:
    """Not `gr.Examples`: it is answered past the queue, by a route that the door keeps closed.

    Args:
        samples: Values for the fields.
        said: What was said about others, which goes.
        asked: The event that may still be saying it, which ends.
    """
    shown = gr.Dataset(components=fields, samples=[list(one) for one in samples], label=TRY, type="index")

    def choose_example(given: Any) -> list[Any]:
        number = given if given in range(len(samples)) else 0
        return [*samples[number], *[""] * len(said)]

    shown.click(choose_example, shown, [*fields, *said], show_progress="hidden", cancels=[asked], **RAW)


def _clear(events: list[Any], said: list[Component], asked: Any) -> None:
    """What was said of other files goes, in the browser: the server's word might come after the next answer.

    What is still being said of them ends: it would stand beside the new files as if it were about them.
    """
    empty = ["" if isinstance(one, gr.HTML) else None for one in said]
    gr.on(events, None, None, said, js=f"() => {json.dumps(empty)}", cancels=[asked], api_visibility="private")


def _image(label: str, small: bool = False) -> gr.Image:
    return gr.Image(label=label, type="filepath", sources=["upload"], height=200 if small else 320, buttons=[])


def _instruction(placeholder: str) -> gr.Textbox:
    return gr.Textbox(label="Instruction (optional)", placeholder=placeholder, max_lines=4)


def _clue_box(ticked: bool) -> gr.Checkbox:
    return gr.Checkbox(
        ticked, label="Clue", info="The base model looks first, and its short answer is put before your question."
    )


def _answer() -> gr.HTML:
    return gr.HTML("", label="Answer", show_label=True, container=True, elem_classes="said", min_height=72)
