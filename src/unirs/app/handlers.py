"""What happens when a visitor uploads, asks, or wants a map. Gradio hands over raw values: see `docs/decisions.md`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import gradio as gr

from unirs.report import overlay
from unirs.terminal import InputError

from .asking import Answer, Asker
from .scene_map import map_scene
from .uploads import Uploads, small
from .wording import answer_html, changes_html, error_html, note_html

logger = logging.getLogger(__name__)

Shown = TypeVar("Shown")
FAILED = "The page failed on this; its log says why."
PICTURE, BEFORE, AFTER = "a picture", "the earlier picture", "the later picture"
BEFORE_RASTER, AFTER_RASTER = "the earlier raster", "the later raster"


def told(steps: Iterator[Shown], refuse: Callable[[str], Shown]) -> Iterator[Shown]:
    """The steps; where one fails, the sentence that says why in place of the rest."""
    try:
        yield from steps
    except InputError as error:
        yield refuse(str(error))
    except Exception:  # a visitor cannot act upon our own faults, and the next one is not to suffer
        logger.exception("an event failed")
        yield refuse(FAILED)


class Handlers:
    """One method for each event; they yield what the outputs show, `gr.skip()` for what stays."""

    def __init__(self, asker: Asker, uploads: Uploads):
        self.asker, self.uploads = asker, uploads

    def show_picture(self, given: Any) -> Iterator[tuple[Any, Any]]:
        """An uploaded picture is measured at once, and shown also where browsers cannot."""

        def steps() -> Iterator[tuple[Any, Any]]:
            preview = self.uploads.preview(given, PICTURE)
            yield gr.skip() if preview is None else str(preview), ""

        return told(steps(), lambda sentence: (None, error_html(sentence)))

    def ask_about_picture(self, given: Any, question: str, clue: bool) -> Iterator[str]:
        def steps() -> Iterator[str]:
            yield answer_html(Answer())
            pictures = self.uploads.pictures((given, PICTURE))
            for answer in self.asker.ask("picture", pictures, question, clue):
                yield answer_html(answer, clue)

        return told(steps(), error_html)

    def ask_about_pair(self, before: Any, after: Any, instruction: str, clue: bool) -> Iterator[tuple[str, Any]]:
        """The answer, and both dates for the slider: the later one under its change map."""

        def steps() -> Iterator[tuple[str, Any]]:
            yield answer_html(Answer()), None
            dates = self.uploads.pictures((before, BEFORE), (after, AFTER))
            for answer in self.asker.ask("pair", dates, instruction, clue, change_map=True):
                yield answer_html(answer, clue), gr.skip()
            aspect_ratio = self.asker.processor.image_processor.image_aspect_ratio
            drawn = overlay(small(dates[1]), answer.change_map, aspect_ratio)
            yield answer_html(answer, clue), (dates[0].resize(drawn.size), drawn)

        return told(steps(), lambda sentence: (error_html(sentence), None))

    def show_frames(self, given: Any, num_frames: int) -> Iterator[tuple[Any, str]]:
        """The frames that the model is shown."""

        def steps() -> Iterator[tuple[Any, str]]:
            if not given:
                yield None, ""
                return
            frames = self.uploads.frames(given, int(num_frames))
            yield [(small(frame), f"Frame {number}") for number, frame in enumerate(frames, start=1)], ""

        return told(steps(), lambda sentence: (None, error_html(sentence)))

    def ask_about_clip(self, given: Any, num_frames: int, instruction: str, clue: bool) -> Iterator[str]:
        def steps() -> Iterator[str]:
            yield answer_html(Answer())
            frames = self.uploads.frames(given, int(num_frames))
            for answer in self.asker.ask("clip", [frames], instruction, clue, num_frames=len(frames)):
                yield answer_html(answer, clue)

        return told(steps(), error_html)

    def make_map(
        self,
        before: Any,
        after: Any,
        tile: float,
        threshold: float,
        merge: bool,
        pixel: bool,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 - Gradio finds it by its default
    ) -> Iterator[tuple[Any, str, Any]]:
        """The map as a picture, the changes as a table, and the files."""

        def steps() -> Iterator[tuple[Any, str, Any]]:
            yield None, note_html("Looking at the files…"), None
            made = map_scene(
                self.asker.network,
                self.asker.processor,
                self.uploads.rasters((before, BEFORE_RASTER), (after, AFTER_RASTER)),
                self.uploads.folder,
                int(tile),
                float(threshold),
                merge,
                pixel,
                self.uploads.limits.new_tokens,
                lambda done, total: progress((done, total), desc="Looking at tiles", unit="tiles"),
            )
            table = changes_html(made.changes, made.areas, made.notes)
            yield made.preview, table, [str(path) for path in made.files]

        return told(steps(), lambda sentence: (None, error_html(sentence), None))
