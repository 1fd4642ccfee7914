"""A line for each request: who asked, for what, how it ended, how long it took. Nothing of its content."""

from __future__ import annotations

import logging
import time
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

LEFT = 499  # what nginx writes of a client that left before its answer was whole
LONGEST = {"method": 10, "path": 100}  # characters


class RequestLog:
    """Around the whole server, so that what its door refuses is told as well.

    `/health` is left out: what watches a server asks every few seconds.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == "/health":
            return await self.app(scope, receive, send)
        started = time.monotonic()
        status = ended = LEFT

        async def sent(message: Message) -> None:
            nonlocal status, ended
            await send(message)
            if message["type"] == "http.response.start":
                status = message["status"]
            elif not message.get("more_body", False):
                ended = status

        try:
            await self.app(scope, receive, sent)
        except Exception:
            ended = 500
            raise
        finally:
            client = (scope.get("client") or ("-",))[0]
            # Quoted: a path may hold line ends, and whatever else a terminal obeys.
            method, path = (quote(scope[name])[:most] for name, most in LONGEST.items())
            logger.info("%s %s %s %d %.3f s", client, method, path, ended, time.monotonic() - started)


def log_requests() -> None:
    """Requests are told on stderr from now on."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%dT%H:%M:%S%z"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
