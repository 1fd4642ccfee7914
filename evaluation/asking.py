"""Asks a model batch by batch: the next one is read meanwhile, bad rows harm no other, batches shrink to fit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch

from .models import Model, Prepared, Said
from .visuals import Messages

Question = TypeVar("Question")


@dataclass(frozen=True)
class Asked(Generic[Question]):
    """A question and what became of it; where `error` says why it could not be asked, `said` is empty.

    `seconds` is the time of its batch divided by the batch's rows, `prompt` the words that the model read.
    """

    question: Question
    said: Said
    prompt: str = ""
    seconds: float = 0.0
    error: str | None = None


@dataclass
class _Batch(Generic[Question]):
    """Questions that are ready to be asked, and those that cannot be, with the reason."""

    questions: list[Question]
    prepared: Prepared | None
    errors: list[tuple[Question, str]] = field(default_factory=list)


class Asker(Generic[Question]):
    """Args:
    batch_size: Questions asked at a time; halved when an accelerator's memory does not hold so many.
    shown: What the model sees of questions: a chat for each. Raises `ValueError` for what cannot be shown.
    """

    def __init__(
        self,
        model: Model,
        batch_size: int,
        max_new_tokens: int,
        shown: Callable[[Sequence[Question]], list[Messages]],
    ):
        self.model, self.max_new_tokens, self.shown = model, max_new_tokens, shown
        self.batch_size = self.asked_for = batch_size

    def answers(self, batches: Iterator[list[Question]]) -> Iterator[list[Asked[Question]]]:
        """What became of each batch. The next batch's pictures are prepared while the model works."""
        with ThreadPoolExecutor(1) as ahead:
            following = next(batches, None)
            waiting = ahead.submit(self.prepare, following) if following else None
            while waiting is not None:
                batch = waiting.result()
                following = next(batches, None)
                waiting = ahead.submit(self.prepare, following) if following else None
                yield self.ask(batch)

    def prepare(self, questions: list[Question]) -> _Batch[Question]:
        """Tensors of a batch; if it fails, each question is tried alone, so that a bad one harms no other."""
        try:
            return _Batch(questions, self.model.prepare(self.shown(questions)))
        except ValueError as error:
            if len(questions) == 1:
                return _Batch([], None, [(questions[0], " ".join(str(error).split()))])
        alone = [self.prepare([one]) for one in questions]
        good = [one for batch in alone for one in batch.questions]
        errors = [error for batch in alone for error in batch.errors]
        if not good:
            return _Batch([], None, errors)
        return _Batch(good, self.model.prepare(self.shown(good)), errors)

    def ask(self, batch: _Batch[Question]) -> list[Asked[Question]]:
        found: list[Asked[Question]] = [Asked(one, Said(""), error=error) for one, error in batch.errors]
        if batch.prepared is None:
            return found
        if len(batch.questions) <= self.batch_size:
            start = time.perf_counter()
            try:
                answers = self.model.generate(batch.prepared, self.max_new_tokens)
            except torch.OutOfMemoryError as error:
                if len(batch.questions) == 1:
                    self.batch_size = self.asked_for  # this row says nothing about the others
                    reason = f"does not fit into memory even alone ({' '.join(str(error).split())[:200]})"
                    return [*found, Asked(batch.questions[0], Said(""), batch.prepared.prompts[0], 0.0, reason)]
                self.batch_size = len(batch.questions) // 2
            else:
                seconds = (time.perf_counter() - start) / len(answers)
                together: Any = zip(batch.questions, answers, batch.prepared.prompts, strict=True)
                return [*found, *(Asked(one, said, prompt, seconds) for one, said, prompt in together)]
        # out here the traceback, and with it the tensors that did not fit, is gone
        batch.prepared = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        size = self.batch_size
        for start_of in range(0, len(batch.questions), size):
            found += self.ask(self.prepare(batch.questions[start_of : start_of + size]))
        return found
