"""What every door asks of a request: the name that it calls, and a body of some size within some time."""

from __future__ import annotations

import asyncio
import re

from starlette.datastructures import Headers
from starlette.types import Message, Receive

from .limits import RequestError

SECONDS_FOR_A_BODY = 30.0


def check_host(headers: Headers, hosts: set[str] | None) -> None:
    """A web page whose name was made to point to this machine (DNS rebinding) calls it by its own.

    Args:
        hosts: Names by which the server may be called, without port; None for any.

    Raises:
        RequestError: It is called otherwise.
    """
    called = re.sub(r":\d*$", "", headers.get("host", "").lower())  # without port; [::1] has colons of its own
    if hosts is not None and called not in hosts:
        raise RequestError(403, "this server answers to its own names only")


def check_origin(headers: Headers) -> None:
    """A browser says in `Origin` which page asks; what is no browser has none. For requests that do something.

    Raises:
        RequestError: It is a page of another host or port, or a file.
    """
    if "origin" in headers and headers["origin"].partition("://")[2] != headers.get("host", ""):
        raise RequestError(403, "another site's page may not ask here")


async def read_body(receive: Receive, most: int) -> bytes:
    """The whole body.

    Raises:
        RequestError: It has more than `most` bytes, is cut off, or takes too long.
    """
    parts, size = [], 0
    try:
        async with asyncio.timeout(SECONDS_FOR_A_BODY):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise RequestError(400, "the request was cut off")
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > most:
                    raise RequestError(413, f"the request has more than {most:,} bytes")
                if not message.get("more_body"):
                    return b"".join(parts)
    except TimeoutError:
        raise RequestError(408, f"the request did not arrive within {SECONDS_FOR_A_BODY:g} seconds") from None


def replayed(body: bytes, receive: Receive) -> Receive:
    """What gives a body that has been read to the next reader once more, and keeps it no longer."""
    kept = [body]

    async def replay() -> Message:
        if kept:
            return {"type": "http.request", "body": kept.pop(), "more_body": False}
        return await receive()

    return replay
