"""What happens when a visitor uploads, asks, or wants a map. Gradio hands over raw values: see `docs/decisions.md`."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from unirs.report import overlay
from unirs.terminal import InputError

from .asking import Answer, Asker
from .scene_map import map_scene
from .slider import slider_html
from .uploads import Uploads, small
from .wording import answer_html, changes_html, error_html, note_html

logger = logging.getLogger(__name__)

FAILED = "The page failed on this; its log says why."
PICTURE, BEFORE, AFTER = "a picture", "the earlier picture", "the later picture"
BEFORE_RASTER, AFTER_RASTER = "the earlier raster", "the later raster"


def told(refuse: Callable[[str], Any]) -> Callable[[Callable[..., Iterator[Any]]], Callable[..., Iterator[Any]]]:
    """Where an event fails, the sentence that says why comes in place of the rest, as `refuse` makes it."""

    def decorate(event: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        @functools.wraps(event)
        def steps(*given: Any) -> Iterator[Any]:
            try:
                yield from event(*given)
            except InputError as error:
                yield refuse(str(error))
            except Exception:  # a visitor cannot act upon our own faults, and the next one is not to suffer
                logger.exception("%s failed", event.__name__)
                yield refuse(FAILED)

        return steps

    return decorate


class Handlers:
    """One method for each event; they yield what the outputs show, `gr.skip()` for what stays."""

    def __init__(self, asker: Asker, uploads: Uploads):
        self.asker, self.uploads = asker, uploads

    @told(lambda sentence: (None, error_html(sentence)))
    def show_picture(self, given: Any) -> Iterator[tuple[Any, str]]:
        """An uploaded picture is measured at once, and shown also where browsers cannot."""
        preview = self.uploads.preview(given, PICTURE)
        yield gr.skip() if preview is None else str(preview), ""

    @told(error_html)
    def ask_about_picture(self, given: Any, question: str, clue: bool) -> Iterator[str]:
        """The answer as it comes."""
        yield answer_html(Answer())
        pictures = self.uploads.pictures((given, PICTURE))
        for answer in self.asker.ask("picture", pictures, question, clue):
            yield answer_html(answer, clue)

    @told(lambda sentence: (error_html(sentence), ""))
    def ask_about_pair(self, before: Any, after: Any, instruction: str, clue: bool) -> Iterator[tuple[str, Any]]:
        """The answer, and at its end both dates with a slider."""
        yield answer_html(Answer()), ""
        dates = self.uploads.pictures((before, BEFORE), (after, AFTER))
        answer = Answer()
        for answer in self.asker.ask("pair", dates, instruction, clue, change_map=True):
            yield answer_html(answer, clue), gr.skip()
        aspect_ratio = self.asker.processor.image_processor.image_aspect_ratio
        later = small(dates[1])
        assert answer.change_map is not None  # it was asked for
        change = overlay(later, answer.change_map, aspect_ratio)
        yield answer_html(answer, clue), slider_html(dates[0].resize(later.size), later, change)

    @told(lambda sentence: (None, error_html(sentence)))
    def show_frames(self, given: Any, num_frames: float) -> Iterator[tuple[Any, str]]:
        """The frames that the model will be shown."""
        frames = self.uploads.frames(given, int(num_frames)) if given else []
        yield [(small(frame), f"Frame {number}") for number, frame in enumerate(frames, start=1)], ""

    @told(error_html)
    def ask_about_clip(self, given: Any, num_frames: float, instruction: str, clue: bool) -> Iterator[str]:
        """The answer as it comes."""
        yield answer_html(Answer())
        frames = self.uploads.frames(given, int(num_frames))
        for answer in self.asker.ask("clip", [frames], instruction, clue, num_frames=len(frames)):
            yield answer_html(answer, clue)

    @told(lambda sentence: (None, error_html(sentence), None))
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
