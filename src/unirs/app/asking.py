"""One model asked by all visitors, with the words given on while they come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import transformers
from transformers import TextIteratorStreamer

from unirs.modeling_unirs import PromptAugmenter
from unirs.terminal import InputError

from .limits import Limits

if TYPE_CHECKING:
    import torch

    from unirs.modeling_unirs.prompt_augmentation_unirs import Clue

TASKS = {"picture": "rs-visual-question-answering", "pair": "change-captioning", "clip": "video-scene-classification"}


@dataclass
class Answer:
    """What is known so far.

    Args:
        clue: The base model's words; `no_clue` says why there are none though they were asked for.
        change_map: `(grid, grid)`, of a pair whose answer has ended.
    """

    text: str = ""
    clue: str | None = None
    no_clue: str | None = None
    change_map: np.ndarray | None = None
    has_ended: bool = False


class _Told(PromptAugmenter):
    """Writes clues into the answer before the answer itself begins."""

    def __init__(self, base: Any, processor: Any, answer: Answer, words: TextIteratorStreamer):
        super().__init__(base, processor)
        self.answer, self.words = answer, words

    def ask(self, inputs: dict[str, torch.Tensor]) -> list[Clue]:
        clues = super().ask(inputs)
        self.answer.clue = clues[0].text
        self.words.text_queue.put("")  # wakes the reader
        return clues


class Asker:
    """Asks a model by its pipelines; who calls it sees to it that this happens one at a time.

    Args:
        base: What is asked for clues; None for the network itself, without its adapters.
    """

    def __init__(self, network: Any, processor: Any, base: Any, limits: Limits):
        self.network, self.processor, self.limits = network, processor, limits
        self.base = network if base is None else base
        self.pipes = {
            name: transformers.pipeline(task, model=network, processor=processor) for name, task in TASKS.items()
        }
        self.thread = ThreadPoolExecutor(1, "answers")

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
        answer = Answer()
        pieces = TextIteratorStreamer(self.processor.tokenizer, skip_prompt=True, skip_special_tokens=True)
        if clue:
            options["clue"] = _Told(self.base, self.processor, answer, pieces)
        options["generate_kwargs"] = {"streamer": pieces, "max_time": self.limits.seconds}

        def look() -> dict[str, Any]:
            try:
                pipe = self.pipes[task]
                return pipe(*shown, words or None, max_new_tokens=self.limits.new_tokens, **options)
            finally:
                pieces.text_queue.put(pieces.stop_signal)  # also where it failed before the first word

        looking = self.thread.submit(look)
        for piece in pieces:
            answer.text += piece
            yield answer
        try:
            found = looking.result()
        except ValueError as error:
            raise InputError(f"{str(error).rstrip('.')}.") from error
        answer.text, answer.change_map = found["answer"], found.get("change_map")
        answer.clue, answer.no_clue = found.get("clue"), found.get("no_clue")
        answer.has_ended = True
        yield answer
