"""`/v1/chat/completions`: transformers' handler, with requests checked, and all that is shown read by UniRS."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from threading import Lock
from typing import Any

import jinja2
from fastapi.responses import JSONResponse, StreamingResponse
from transformers.cli.serving.chat_completion import ChatCompletionHandler

from unirs.evaluation.seen_pictures import FEATURES, digests

from .engine import Batches, OneModel
from .limits import Limits, RequestError
from .messages import EMPTY, Opener

READERS = 4  # requests whose pictures are decoded at a time: each may hold gigabytes
CHARACTERS_PER_TOKEN = 16  # more than any tokenizer makes of words
SAMPLING = {"temperature": (0.0, 2.0), "top_p": (0.01, 1.0)}  # lowest and highest
READ = {*SAMPLING, "model", "messages", "stream", "max_tokens", "max_completion_tokens", "n", "seed"}
READ |= {"chat_template_kwargs", "stream_options"}
# Change no answer here: about accounts, storage, the price, or tools, of which there are none.
HARMLESS = {"user", "safety_identifier", "metadata", "store", "service_tier", "parallel_tool_calls"}
HARMLESS |= {"prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"}
# Of the other fields, values that ask for nothing but what is done anyway, beside those of EMPTY.
NEUTRAL = {
    "logit_bias": ({},),
    "tool_choice": ("auto", "none"),
    "function_call": ("auto", "none"),
    "modalities": (["text"],),
    "response_format": ({"type": "text"},),
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
}
COLDEST = 0.01  # below it, sampling is greedy, or overflows
ERROR = 'data: {"error": "'  # as transformers writes it
USAGE = '"usage":{'  # in what is said, the quotes would have backslashes
STREAM_OPTIONS = {"include_usage", "include_obfuscation"}
TEMPLATE_OPTIONS = ("change_extraction", "task_tag")


class Chat(ChatCompletionHandler):
    """Reads requests on threads, so that one with large pictures stops no other, and answers them in batches."""

    def __init__(self, models: OneModel, batches: Batches, limits: Limits, allow_fetch: bool):
        super().__init__(models, batches)
        self.limits, self.allow_fetch = limits, allow_fetch
        self.readers = ThreadPoolExecutor(READERS, "reader")
        self.tokenizing = Lock()  # a fast tokenizer sets its padding anew on each call
        self.context = getattr(models.model.config.text_config, "max_position_embeddings", None) or 2**20

    async def handle_request(self, body: dict, request_id: str) -> StreamingResponse | JSONResponse:
        """Raises `RequestError` for whatever is wrong with a request."""
        until = time.monotonic() + self.limits.seconds
        self._check(body)
        model_id, model, processor = self._resolve_model(body)
        characters = CHARACTERS_PER_TOKEN * self.context
        opener = Opener(self.limits, processor.num_frames, self.allow_fetch, characters, until)
        try:
            reading = asyncio.get_running_loop().run_in_executor(self.readers, self._read, body, opener)
            inputs = await asyncio.wait_for(reading, self.limits.seconds)
        finally:
            opener.until = 0.0  # its thread cannot be ended from here, and nobody waits for it any longer
        config = self._config(body, inputs["input_ids"].shape[1])
        config.max_time = until - time.monotonic()
        manager = self.generation_state.get_manager(model_id)
        given = (request_id, model, processor, model_id, inputs, config)
        if not body.get("stream"):
            return await self._non_streaming(*given, gen_manager=manager)
        streamed = self._streaming(*given, gen_manager=manager)
        usage_apart = (body.get("stream_options") or {}).get("include_usage") is True
        streamed.body_iterator = _as_openai(streamed.body_iterator, usage_apart)
        return streamed

    def _check(self, body: dict) -> None:
        if unknown := sorted(set(body) - self._valid_params_class.__mutable_keys__):
            raise RequestError(400, f"Unexpected fields in the request: {', '.join(unknown):.200}")
        asked, own = body.get("model"), self.model_manager.force_model
        if asked not in (None, own):
            raise RequestError(404, f"there is no model {asked!r:.100} here; the server is pinned to {own!r}")
        for name in sorted(set(body) - READ - HARMLESS):
            # Refused, not ignored: the answer would be another than what was asked for.
            if body[name] not in EMPTY and body[name] not in NEUTRAL.get(name, ()):
                raise RequestError(400, f"{name} is not supported; leave it away")
        if not isinstance(body.get("stream"), bool | None):
            raise RequestError(400, "stream must be true or false")
        self._check_stream_options(body)
        if body.get("n") not in (None, 1):
            raise RequestError(400, "n must be 1; there is one answer")
        for name, (low, high) in SAMPLING.items():
            value = body.get(name)
            if value is not None and not (_is_number(value) and low <= value <= high):
                raise RequestError(400, f"{name} must be a number from {low:g} to {high:g}")
        for name in ("max_tokens", "max_completion_tokens"):
            value = body.get(name)
            if value is not None and not (type(value) is int and 1 <= value <= self.limits.new_tokens):
                raise RequestError(400, f"{name} must be a whole number from 1 to {self.limits.new_tokens}")
        seed = body.get("seed")
        if seed is not None and not (type(seed) is int and 0 <= seed < 2**63):
            raise RequestError(400, "seed must be a whole number from 0 on")
        options = body.get("chat_template_kwargs") or {}
        known = isinstance(options, dict) and set(options) <= set(TEMPLATE_OPTIONS)
        if not known or not all(type(value) is bool for value in options.values()):
            raise RequestError(400, f"chat_template_kwargs may hold {' and '.join(TEMPLATE_OPTIONS)}, true or false")

    def _check_stream_options(self, body: dict) -> None:
        options = body.get("stream_options")
        if options is None:
            return
        if not body.get("stream"):
            raise RequestError(400, "stream_options is for stream: true alone")
        known = isinstance(options, dict) and set(options) <= STREAM_OPTIONS
        if not known or not all(isinstance(value, bool | None) for value in options.values()):
            raise RequestError(400, f"stream_options may hold {' and '.join(sorted(STREAM_OPTIONS))}, true or false")

    def _read(self, body: dict, opener: Opener) -> dict[str, Any]:
        """What a request holds, words on the model's device: all that takes time before the model."""
        model, processor = self.model_manager.model, self.model_manager.processor  # type: ignore[attr-defined]
        chat = opener.chat(body.get("messages"))
        try:
            with self.tokenizing:
                inputs = processor.encode_chats([chat], body.get("chat_template_kwargs") or {})
        except (ValueError, jinja2.TemplateError) as error:
            raise RequestError(400, " ".join(str(error).split())[:300]) from error
        tokens = inputs["input_ids"].shape[1]
        if tokens >= self.context:
            raise RequestError(400, f"pictures and words make {tokens} tokens, and the model reads {self.context}")
        words = {name: value.to(model.device) for name, value in inputs.items() if name not in FEATURES}
        # transformers' handler hands all of it on as it is. Pixels wait here until it is known which are new.
        return {
            **words,
            "units": {name: inputs[name] for name in FEATURES if name in inputs},
            "named": digests(inputs),
        }

    def _config(self, body: dict, tokens: int) -> Any:
        room = self.context - tokens
        asked = body.get("max_completion_tokens") or body.get("max_tokens")
        if asked and asked > room:
            raise RequestError(400, f"the prompt leaves room for {room} tokens, and max_tokens is {asked}")
        config = self._build_generation_config(
            {name: body.get(name) for name in SAMPLING},  # the seed is set where it is used
            self.model_manager.model.generation_config,  # type: ignore[attr-defined]
        )
        config.max_new_tokens = asked or min(self.limits.new_tokens, room)
        if (body.get("temperature") or 0) >= COLDEST:
            config.do_sample = True
        config.seed = body.get("seed")
        return config


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


async def _as_openai(parts: Any, usage_apart: bool = False) -> AsyncIterator[str]:
    """The stream as OpenAI's clients read it: an error is an object with a message, and the end is told.

    Args:
        usage_apart: In a last part without choices, as `include_usage` asks, not beside the finish reason.
    """
    async with aclosing(parts):
        async for part in parts:
            before, is_error, behind = part.partition(ERROR)
            if usage_apart and USAGE in before:  # it comes alone
                chunk = json.loads(before.removeprefix("data: "))
                usage = {**chunk, "choices": []}
                del chunk["usage"]
                before = f"data: {json.dumps(chunk)}\n\ndata: {json.dumps(usage)}\n\n"
            if before:
                yield before  # words and an error may come together
            if not is_error:
                continue
            message = behind.rsplit('"', 1)[0]
            yield f"data: {json.dumps({'error': {'message': message, 'type': 'server_error'}})}\n\n"
    yield "data: [DONE]\n\n"
