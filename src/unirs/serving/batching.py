"""Requests that wait at the same time are answered together: dynamic batching for transformers' server."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList
from transformers.cli.serving.utils import BaseGenerateManager, _StreamError
from transformers.generation.streamers import BaseStreamer

from unirs.evaluation.seen_pictures import Digests, SeenPictures, Units

from .limits import TOO_SLOW, Limits, RequestError

logger = logging.getLogger(__name__)

BYTE = re.compile("<0x[0-9A-F]{2}>")
LINGER = 0.004  # seconds that a first request waits for others: their pictures are ready at nearly the same time
FAILED = "the model failed on this request"


class Collector:
    """Takes an answer's tokens for a request that does not stream."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[list[int]] = self.loop.create_future()
        self.tokens: list[int] = []

    def put(self, token: torch.Tensor) -> None:
        self.tokens += token.tolist()

    def end(self) -> None:
        self._settle(lambda: self.future.set_result(self.tokens))

    def fail(self, error: RequestError) -> None:
        self._settle(lambda: self.future.set_exception(error))

    @property
    def is_cancelled(self) -> bool:
        return self.future.cancelled()

    def _settle(self, do: Any) -> None:
        self.loop.call_soon_threadsafe(lambda: None if self.future.done() else do())


class Streamed:
    """Puts an answer's words into a queue as they come, in the form that transformers' handler reads.

    transformers' own streamer raises where byte tokens make no UTF-8. Here they wait until their run is over.
    """

    def __init__(self, decode: Callable[[list[int]], str], bytes_of: set[int]):
        self.loop, self.queue = asyncio.get_running_loop(), asyncio.Queue[Any]()
        self.decode, self.bytes_of = decode, bytes_of
        self.tokens: list[int] = []
        self.given = 0  # characters
        self.is_cancelled = False

    @property
    def total_tokens(self) -> int:
        return len(self.tokens)

    def put(self, token: torch.Tensor) -> None:
        self.tokens += token.tolist()
        if self.tokens[-1] in self.bytes_of:
            return
        text = self.decode(self.tokens)
        if not text.endswith("\ufffd"):  # half of a character
            self._give(text)

    def end(self) -> None:
        self._give(self.decode(self.tokens))
        self._queue(None)

    def fail(self, error: RequestError) -> None:
        self._queue(_StreamError(str(error)))

    def cancel(self) -> None:
        self.is_cancelled = True

    def _give(self, text: str) -> None:
        if len(text) > self.given:
            self._queue(text[self.given :])
            self.given = len(text)

    def _queue(self, item: Any) -> None:
        self.loop.call_soon_threadsafe(self.queue.put_nowait, item)


@dataclass(eq=False)
class Waiting:
    """A request: words of one row, `(1, tokens)`, on the model's device, and its pictures with their names."""

    words: dict[str, torch.Tensor]
    units: Units
    named: Digests
    config: Any
    sink: Collector | Streamed
    until: float
    said: int = 0
    ended: bool = False
    key: str = field(init=False)

    def __post_init__(self) -> None:
        settings = self.config.to_diff_dict()
        alone = id(self) if self.config.do_sample else ""  # a seed is for one request
        for name in ("max_new_tokens", "max_time"):
            settings.pop(name, None)
        self.key = f"{alone}{json.dumps(settings, sort_keys=True, default=str)}"

    def take(self, token: torch.Tensor, ends: set[int]) -> None:
        if self.ended or self.sink.is_cancelled:
            return
        self.sink.put(token)
        self.said += 1
        if int(token) in ends:
            self.config.max_new_tokens = None  # transformers' handler calls an answer of as many tokens cut ("length")
            self.end()
        elif self.said >= self.config.max_new_tokens:
            self.end()

    def end(self) -> None:
        if not self.ended:
            self.ended = True
            self.sink.end()

    def fail(self, status: int, sentence: str) -> None:
        if not self.ended:
            self.ended = True
            self.sink.fail(RequestError(status, sentence))


class _ToRows(BaseStreamer):
    """Gives each request of a batch its token of each step."""

    def __init__(self, batch: list[Waiting], ends: set[int]):
        self.batch, self.ends = batch, ends
        self.is_prompt = True

    def put(self, value: torch.Tensor) -> None:  # (rows, tokens) of the prompt, then (rows,)
        if self.is_prompt:
            self.is_prompt = False
            return
        for waiting, token in zip(self.batch, value.split(1), strict=True):
            waiting.take(token, self.ends)

    def end(self) -> None:
        for waiting in self.batch:
            waiting.end()


class _RowsThatEnded(StoppingCriteria):
    """Rows have limits of their own: tokens, time, a client that has gone."""

    def __init__(self, batch: list[Waiting]):
        self.batch = batch

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        now = time.monotonic()
        for waiting in self.batch:
            if now > waiting.until:
                waiting.fail(503, TOO_SLOW)
        ended = [waiting.ended or waiting.sink.is_cancelled for waiting in self.batch]
        return torch.tensor(ended, device=input_ids.device)


class BatchManager(BaseGenerateManager):
    """Answers on one thread; whoever waits when it is free, and wants the same of `generate`, is answered together.

    If a batch fails, its requests are tried alone, so that one harms no other.
    """

    def __init__(self, model: Any, processor: Any, limits: Limits):
        self.model, self.limits = model, limits
        # Its own: a fast tokenizer refuses whoever sets its padding, as readers do, while another uses it.
        self.tokenizer = copy.deepcopy(processor.tokenizer)
        vocabulary = self.tokenizer.get_vocab()
        self.bytes_of = {number for piece, number in vocabulary.items() if BYTE.fullmatch(piece)}
        self.seen = SeenPictures(model.model, limits.seen_bytes)
        self.waiting: deque[Waiting] = deque()
        self.changed = threading.Condition()
        threading.Thread(target=self._work, daemon=True, name="answers").start()

    def generate_streaming(
        self, model: Any, processor: Any, inputs: Any, gen_config: Any, request_id: str, response_parser: Any = None
    ) -> tuple[asyncio.Queue, Any]:
        sink = Streamed(self._decode, self.bytes_of)
        self._add(inputs, gen_config, sink)
        return sink.queue, sink

    async def generate_non_streaming(
        self, model: Any, processor: Any, inputs: Any, gen_config: Any, request_id: str
    ) -> tuple[str, int, list[int]]:
        sink = Collector()
        self._add(inputs, gen_config, sink)
        tokens = await sink.future
        return self._decode(tokens), inputs["input_ids"].shape[-1], tokens

    def stop(self) -> None:
        """The thread ends with the process."""

    def _decode(self, tokens: list[int]) -> str:
        return self.tokenizer.decode(tokens, skip_special_tokens=True)

    def _add(self, inputs: Any, config: Any, sink: Collector | Streamed) -> None:
        words = dict(inputs)
        units, named = words.pop("units"), words.pop("named")
        with self.changed:
            self.waiting.append(Waiting(words, units, named, config, sink, time.monotonic() + config.max_time))
            self.changed.notify()

    def _work(self) -> None:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.waiting)
            time.sleep(LINGER)
            self._answer(self._next())

    def _next(self) -> list[Waiting]:
        """The longest waiting request, and others of its kind."""
        with self.changed:
            key = self.waiting[0].key
            batch = [one for one in self.waiting if one.key == key][: self.limits.batch]
            for one in batch:
                self.waiting.remove(one)
        now = time.monotonic()
        for one in batch:
            if now > one.until:
                one.fail(503, TOO_SLOW)
        return batch

    def _answer(self, batch: list[Waiting]) -> None:
        batch = [one for one in batch if not one.ended and not one.sink.is_cancelled]
        if not batch:
            return
        try:
            self._generate(batch)
        except Exception as error:
            logger.error("a batch of %d failed", len(batch), exc_info=error)
            for one in batch:
                if len(batch) > 1 and not one.said:
                    self._answer([one])
                else:
                    one.fail(500, f"{FAILED} ({type(error).__name__})")

    @torch.inference_mode()
    def _generate(self, batch: list[Waiting]) -> None:
        config = copy.deepcopy(batch[0].config)
        config.max_new_tokens, config.max_time = max(one.config.max_new_tokens for one in batch), None
        if config.do_sample:  # without a seed, too: else it would go on from the last one that was given
            torch.manual_seed(secrets.randbits(63) if config.seed is None else config.seed)
        ends = config.eos_token_id
        streamer = _ToRows(batch, {ends} if isinstance(ends, int) else set(ends or ()))
        self.model.generate(
            **self._words_and_features(batch),
            generation_config=config,
            streamer=streamer,
            stopping_criteria=StoppingCriteriaList([_RowsThatEnded(batch)]),
        )

    def _words_and_features(self, batch: list[Waiting]) -> dict[str, torch.Tensor]:
        units: dict[str, list[torch.Tensor]] = {}
        named: Digests = {}
        for one in batch:
            for name, pixels in one.units.items():
                units.setdefault(name, []).extend(pixels)
                named.setdefault(name, []).extend(one.named[name])
        words = padded([one.words for one in batch], self.tokenizer.pad_token_id)
        return words | self.seen.features(units, named)


def padded(rows: list[dict[str, torch.Tensor]], pad: int) -> dict[str, torch.Tensor]:
    """Words of one row each as a batch, padded on the left: `input_ids`, `attention_mask` `(rows, tokens)`."""
    longest = max(row["input_ids"].shape[1] for row in rows)
    return {
        name: torch.cat(
            [torch.nn.functional.pad(row[name], (longest - row[name].shape[1], 0), value=fill) for row in rows]
        )
        for name, fill in (("input_ids", pad), ("attention_mask", 0))
    }
