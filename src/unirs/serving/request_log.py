"""A line for each request: who asked, for what, how it ended, how long it took. Nothing of its content."""

from __future__ import annotations

import logging
import time
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

LEFT = 499  # what nginx writes of a client that left before its answer was whole
LONGEST = {"client": 45, "method": 10, "path": 100}  # characters


class RequestLog:
    """Around the whole server, so that what its door refuses is told as well.

    `/health` is left out: what watches a server asks every few seconds. A streamed answer that fails half-way is told
    as it began, as 200.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == "/health":
            return await self.app(scope, receive, send)
        started = time.monotonic()
        status, ended, is_there = LEFT, LEFT, True

        async def received() -> Message:
            nonlocal is_there
            message = await receive()
            is_there = is_there and message["type"] != "http.disconnect"
            return message

        async def sent(message: Message) -> None:
            nonlocal status, ended
            if message["type"] == "http.response.start":
                status = message["status"]
            elif is_there and not message.get("more_body", False):
                ended = status
            await send(message)

        try:
            await self.app(scope, received, sent)
        except Exception:
            ended = 500
            raise
        finally:
            client = (scope.get("client") or ("-",))[0]
            told = {"client": client, "method": scope["method"], "path": scope["path"]}
            # Quoted: paths, and the client that a proxy names, may hold line ends and whatever else a terminal obeys.
            words = " ".join(quote(words, safe="/:")[: LONGEST[name]] for name, words in told.items())
            logger.info("%s %d %.3f s", words, ended, time.monotonic() - started)


def log_to_stderr() -> None:
    """Requests are told on stderr from now on."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%dT%H:%M:%S%z"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
