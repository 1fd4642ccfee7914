"""One model asked by all visitors, with the words given on while they come."""

from __future__ import annotations

import functools
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers
from PIL import Image
from transformers import MaxTimeCriteria, StoppingCriteria, StoppingCriteriaList, TextIteratorStreamer
from transformers.generation.streamers import BaseStreamer

from unirs.geo.change_finder import ChangeFinder
from unirs.hub.pipeline_unirs import TooManyTokensError
from unirs.modeling_unirs import PromptAugmenter
from unirs.processing import VisualInputError
from unirs.report import changed_share
from unirs.terminal import InputError

from .limits import Limits
from .scene_map import MapSettings, SceneMap, map_scene

if TYPE_CHECKING:
    from unirs.modeling_unirs.prompt_augmentation_unirs import Clue

TASKS = {"picture": "rs-visual-question-answering", "pair": "change-captioning", "clip": "video-scene-classification"}


@dataclass
class Answer:
    """What is known so far.

    Args:
        clue: The base model's words; `no_clue` says why there are none though they were asked for.
        change_map: `(grid, grid)`, of a pair whose answer has ended; `changed` is the share of the later picture that
            looks changed.
    """

    text: str = ""
    clue: str | None = None
    no_clue: str | None = None
    change_map: np.ndarray | None = None
    changed: float | None = None
    has_ended: bool = False


class LeftError(Exception):
    """Who asked has gone."""


class _Left(StoppingCriteria):
    """Ends words that nobody waits for any more."""

    def __init__(self, left: threading.Event):
        self.left = left

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        return torch.full((len(input_ids),), self.left.is_set(), device=input_ids.device)


class _Waker(BaseStreamer):
    """Wakes who waits for the answer at each word of the clue: one who waits cannot be seen to leave."""

    def __init__(self, words: TextIteratorStreamer):
        self.words = words

    def put(self, value: torch.Tensor) -> None:
        self.words.text_queue.put("")

    def end(self) -> None:
        pass


class _Told(PromptAugmenter):
    """Writes clues into the answer before the answer itself begins; what ends the answer ends them too."""

    def __init__(
        self,
        base: Any,
        processor: Any,
        answer: Answer,
        words: TextIteratorStreamer,
        left: threading.Event,
        ends: StoppingCriteriaList,
    ):
        super().__init__(base, processor)
        self.answer, self.words, self.left, self.ends = answer, words, left, ends

    def ask(self, inputs: dict[str, torch.Tensor], **generate_options: Any) -> list[Clue]:
        told = {"stopping_criteria": self.ends, "streamer": _Waker(self.words)}
        clues = super().ask(inputs, **told, **generate_options)
        if self.left.is_set():
            raise LeftError
        self.answer.clue = clues[0].text
        self.words.text_queue.put("")  # wakes the reader
        return clues


class Asker:
    """Asks a model by its pipelines and for maps, one at a time, in a thread of its own.

    An iterator that is closed before its end stops the work for it.

    Args:
        base: What is asked for clues; None for the network itself, without its adapters.
    """

    def __init__(self, network: Any, processor: Any, base: Any, limits: Limits):
        self.network, self.processor, self.limits = network, processor, limits
        self.pipes = {
            name: transformers.pipeline(task, model=network, processor=processor) for name, task in TASKS.items()
        }
        self.base = network if base is None else base.to(network.device)  # which the pipelines have chosen
        self.thread = ThreadPoolExecutor(1, "answers")

    @functools.cached_property
    def most_frames(self) -> int:
        """Frames of a clip that leave room for the longest answer, and for as many words of a question."""
        most, longest = self.limits.files, getattr(self.network.config.text_config, "max_position_embeddings", None)
        if longest is None:
            return most
        # the first nine, whose numbers have one digit, may cost less than the later ones
        ten, eleven = (self._tokens_of_clip(frames) for frames in (10, 11))
        return max(1, min(most, 10 + (longest - 2 * self.limits.new_tokens - ten) // (eleven - ten)))

    def _tokens_of_clip(self, frames: int) -> int:
        pipe, blank = self.pipes["clip"], Image.new("RGB", (8, 8))
        chat = pipe.messages({"video": [blank] * frames})
        return self.processor.encode_chats([chat], {}, num_frames=frames)["input_ids"].shape[1]

    def ask(self, task: str, shown: Sequence[Any], words: str, clue: bool, **options: Any) -> Iterator[Answer]:
        """The answer as it grows, the last one whole.

        Args:
            task: Of `TASKS`.
            shown: Pictures, or one list of frames.
            words: Question or instruction; empty for the task's own instruction, which a picture has not.
            options: Of the pipeline.

        Raises:
            InputError: The model cannot read it.
        """
        words = words.strip()
        if not words and task == "picture":
            raise InputError("Type a question first.")
        if len(words) > self.limits.characters:
            raise InputError(f"The question has {len(words):,} characters, and {self.limits.characters:,} are read.")
        answer, left = Answer(), threading.Event()
        pieces = TextIteratorStreamer(self.processor.tokenizer, skip_prompt=True, skip_special_tokens=True)

        def look() -> dict[str, Any]:
            try:
                pipe = self.pipes[task]
                # from its own turn on, for the clue and the answer together
                ends = StoppingCriteriaList([_Left(left), MaxTimeCriteria(self.limits.seconds)])
                if clue:
                    options["clue"] = _Told(self.base, self.processor, answer, pieces, left, ends)
                generate = {"streamer": pieces, "stopping_criteria": ends}
                return pipe(
                    *shown, words or None, max_new_tokens=self.limits.new_tokens, generate_kwargs=generate, **options
                )
            finally:
                pieces.text_queue.put(pieces.stop_signal)  # also where it failed before the first word

        looking = self.thread.submit(look)
        try:
            for piece in pieces:
                answer.text += piece
                yield answer
            found = looking.result()
        except (VisualInputError, TooManyTokensError) as error:  # no other: a fault of ours is not the visitor's
            raise InputError(f"{str(error).rstrip('.')}.") from error
        finally:
            left.set()
            looking.cancel()
        answer.text, answer.change_map = found["answer"], found.get("change_map")
        if answer.change_map is not None:
            aspect_ratio = self.processor.image_processor.image_aspect_ratio
            answer.changed = changed_share(answer.change_map, shown[1].size, aspect_ratio)
        answer.clue, answer.no_clue = found.get("clue"), found.get("no_clue")
        answer.has_ended = True
        yield answer

    def map(
        self, rasters: Sequence[Path], folder: Path, settings: MapSettings
    ) -> Iterator[tuple[int, int] | SceneMap]:
        """Tiles that are done and how many there are, again and again, and at last the map.

        Raises:
            InputError: The rasters do not make a pair, or the map takes too long.
        """
        told: queue.SimpleQueue[tuple[int, int] | None] = queue.SimpleQueue()
        left, seconds = threading.Event(), self.limits.map_seconds
        until = 0.0

        def progress(done: int, total: int) -> None:
            if left.is_set():
                raise LeftError
            if time.monotonic() > until and done < total:
                raise InputError(
                    f"The map was stopped after {seconds:,.0f} seconds, with {done:,} of {total:,} tiles. "
                    "Take larger tiles or a smaller part."
                )
            told.put((done, total))

        def look() -> SceneMap:
            nonlocal until
            until = time.monotonic() + seconds  # from its own turn on
            finder = ChangeFinder(
                self.network, self.processor, settings.threshold, max_new_tokens=self.limits.new_tokens
            )
            try:
                return map_scene(finder, rasters, folder, settings, progress)
            finally:
                told.put(None)

        looking = self.thread.submit(look)
        try:
            while (step := told.get()) is not None:
                yield step
            yield looking.result()
        finally:
            left.set()
            looking.cancel()
