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
from .scene_map import MapSettings
from .slider import slider_html
from .uploads import Shown, Uploads, small
from .values import number, ticked, whole, words
from .wording import answer_html, busy_html, changes_html, error_html, note_on_shapes

logger = logging.getLogger(__name__)

FAILED = "The page failed on this; its log says why."
PICTURE, BEFORE, AFTER = "a picture", "the earlier picture", "the later picture"
BEFORE_RASTER, AFTER_RASTER = "the earlier raster", "the later raster"
QUESTION, INSTRUCTION, CLUE = "The question", "The instruction", "The box for clues"
NOTHING = Shown([], [], [])
TILES = (32, 1024)  # pixels of a side: small ones are many, and large ones show houses too small


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
    def show_picture(self, given: Any) -> Iterator[tuple[Any, Any]]:
        """An uploaded picture is measured at once, and shown also where browsers cannot."""
        preview = self.uploads.preview(given, PICTURE)
        yield gr.skip() if preview is None else str(preview), gr.skip()

    @told(error_html)
    def ask_about_picture(self, given: Any, question: Any, clue: Any) -> Iterator[str]:
        """The answer as it comes."""
        question, clue = words(question, QUESTION), ticked(clue, CLUE)
        yield answer_html(Answer())
        shown = self.uploads.pictures((given, PICTURE))
        for answer in self.asker.ask("picture", shown.pictures, question, clue):
            yield answer_html(answer, clue, shown.notes)

    @told(lambda sentence: (error_html(sentence), ""))
    def ask_about_pair(self, before: Any, after: Any, instruction: Any, clue: Any) -> Iterator[tuple[str, Any]]:
        """The answer, and at its end both dates with a slider."""
        instruction, clue = words(instruction, INSTRUCTION), ticked(clue, CLUE)
        yield answer_html(Answer()), ""
        shown = self.uploads.pictures((before, BEFORE), (after, AFTER))
        dates, answer = shown.pictures, Answer()
        notes = [*note_on_shapes(dates[0].size, dates[1].size), *shown.notes]
        for answer in self.asker.ask("pair", dates, instruction, clue, change_map=True):
            yield answer_html(answer, clue, notes), gr.skip()
        aspect_ratio = self.asker.processor.image_processor.image_aspect_ratio
        later = small(dates[1])
        assert answer.change_map is not None  # it was asked for
        change = overlay(later, answer.change_map, aspect_ratio)
        yield answer_html(answer, clue, notes), slider_html(dates[0].resize(later.size), later, change)

    @told(lambda sentence: (None, error_html(sentence)))
    def show_frames(self, given: Any, num_frames: Any) -> Iterator[tuple[Any, Any]]:
        """The frames that the model will be shown."""
        count = self._frames(num_frames)
        shown = self.uploads.frames(given, count) if given else NOTHING
        yield [(small(frame), name) for frame, name in zip(shown.pictures, shown.names, strict=True)], gr.skip()

    @told(error_html)
    def ask_about_clip(self, given: Any, num_frames: Any, instruction: Any, clue: Any) -> Iterator[str]:
        """The answer as it comes."""
        instruction, clue = words(instruction, INSTRUCTION), ticked(clue, CLUE)
        yield answer_html(Answer())
        shown = self.uploads.frames(given, self._frames(num_frames))
        for answer in self.asker.ask("clip", [shown.pictures], instruction, clue, num_frames=len(shown.pictures)):
            yield answer_html(answer, clue, shown.notes)

    @told(lambda sentence: (None, error_html(sentence), None))
    def make_map(
        self, before: Any, after: Any, tile: Any, threshold: Any, merge: Any, pixel: Any
    ) -> Iterator[tuple[Any, Any, Any]]:
        """The map as a picture, the changes as a table, and the files."""
        settings = MapSettings(
            whole(tile, "The side of a tile", *TILES),
            number(threshold, "The score", 0, 1),
            ticked(merge, "The outline"),
            ticked(pixel, "Pixel by pixel"),
        )
        yield None, busy_html("Looking at the files…"), None
        rasters = self.uploads.rasters((before, BEFORE_RASTER), (after, AFTER_RASTER))
        for step in self.asker.map(rasters, self.uploads.folder, settings):
            if isinstance(step, tuple):
                yield gr.skip(), busy_html("Looking at tiles: {:,} of {:,}".format(*step)), gr.skip()
            else:
                yield (
                    step.preview,
                    changes_html(step.changes, step.areas, step.notes),
                    [str(path) for path in step.files],
                )

    def _frames(self, given: Any) -> int:
        return whole(given, "The number of frames", 1, self.asker.most_frames)
