"""Asks a model batch by batch: the next one is read meanwhile, bad rows harm no other, batches shrink to fit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch

from ..trainers.data_sets import DataError
from .models import Model, Prepared, Said
from .visuals import Messages

Question = TypeVar("Question")
SEVERAL = 10  # questions in a row that fail alone: it is the model or the machine then, and no question


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
    """Questions that are ready to be asked, together if they are prepared, and those that are not, with the reason.

    `bad` are at fault themselves (`ValueError`); `failed` met another error, which may be the machine's.
    """

    questions: list[Question]
    prepared: Prepared | None
    bad: list[tuple[Question, str]] = field(default_factory=list)
    failed: list[tuple[Question, str]] = field(default_factory=list)


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
        self.failures, self.last_failure = 0, ""  # in a row, each of a question alone

    @property
    def broken(self) -> str | None:
        """Why it is of no use to ask on, if so."""
        if self.failures < SEVERAL:
            return None
        return (
            f"the model failed {SEVERAL} times in a row, each time at one row alone, the last time with "
            f"{self.last_failure}; the answers are kept: mend the cause, and run the command again"
        )

    def answers(self, batches: Iterator[list[Question]]) -> Iterator[list[Asked[Question]]]:
        """What became of each batch. The next batch's pictures are prepared while the model works.

        Raises:
            DataError: The model or the machine fails, whatever is asked.
        """
        with ThreadPoolExecutor(1) as ahead:
            following = next(batches, None)
            waiting = ahead.submit(self.prepare, following) if following else None
            while waiting is not None:
                batch = waiting.result()
                following = next(batches, None)
                waiting = ahead.submit(self.prepare, following) if following else None
                yield self.ask(batch)
                if self.broken:
                    raise DataError(self.broken)

    def prepare(self, questions: list[Question]) -> _Batch[Question]:
        """Tensors of a batch; if it fails, each question is tried alone, so that a bad one harms no other."""
        try:
            return _Batch(questions, self.model.prepare(self.shown(questions), self.max_new_tokens))
        except ValueError as error:
            if len(questions) == 1:
                return _Batch([], None, bad=[(questions[0], " ".join(str(error).split()))])
        except Exception as error:  # each processor and chat template has its own kinds
            if len(questions) == 1:
                return _Batch([], None, failed=[(questions[0], _reason(error))])
        alone = [self.prepare([one]) for one in questions]
        good = [one for batch in alone for one in batch.questions]
        rest = _Batch(
            good, None, [one for batch in alone for one in batch.bad], [one for batch in alone for one in batch.failed]
        )
        with suppress(Exception):  # not every model takes together what it takes alone
            rest.prepared = self.model.prepare(self.shown(good), self.max_new_tokens) if good else None
        return rest

    def ask(self, batch: _Batch[Question]) -> list[Asked[Question]]:
        """What became of a batch. If it fails, its questions are asked alone, and one that fails alone has an error.

        Questions are missing in the result only where `broken` then tells why.
        """
        found: list[Asked[Question]] = [Asked(one, Said(""), error=reason) for one, reason in batch.bad]
        found += [self._failed(one, reason) for one, reason in batch.failed]
        alone = batch.prepared is None
        if batch.prepared is not None and len(batch.questions) <= self.batch_size:
            start = time.perf_counter()
            try:
                answers = self.model.generate(batch.prepared, self.max_new_tokens)
            except torch.OutOfMemoryError as error:
                if len(batch.questions) == 1:
                    self.batch_size = self.asked_for  # this row says nothing about the others
                    reason = f"does not fit into memory even alone ({' '.join(str(error).split())[:200]})"
                    return [*found, Asked(batch.questions[0], Said(""), batch.prepared.prompts[0], 0.0, reason)]
                self.batch_size = len(batch.questions) // 2
            except Exception as error:  # a fault in the model's own code has any kind
                if len(batch.questions) == 1:
                    return [*found, self._failed(batch.questions[0], _reason(error), batch.prepared.prompts[0])]
                alone = True
            else:
                self.failures = 0
                seconds = (time.perf_counter() - start) / len(answers)
                together: Any = zip(batch.questions, answers, batch.prepared.prompts, strict=True)
                return [*found, *(Asked(one, said, prompt, seconds) for one, said, prompt in together)]
        # out here the traceback, and with it the tensors that did not fit, is gone
        batch.prepared = None
        if not alone and torch.cuda.is_available():  # a device that failed otherwise may fail at this, too
            torch.cuda.empty_cache()
        size = 1 if alone else self.batch_size
        for start_of in range(0, len(batch.questions), size):
            if self.broken:
                break
            found += self.ask(self.prepare(batch.questions[start_of : start_of + size]))
        return found

    def _failed(self, question: Question, reason: str, prompt: str = "") -> Asked[Question]:
        self.failures, self.last_failure = self.failures + 1, reason
        return Asked(question, Said(""), prompt, error=f"the model fails at it even alone ({reason})")


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
