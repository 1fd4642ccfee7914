"""What every door asks of a request: the name that it calls, and a body of some size within some time."""

from __future__ import annotations

import asyncio
import re

from starlette.datastructures import Headers
from starlette.types import Message, Receive

from .limits import RequestError

SECONDS_FOR_A_BODY = 30.0


def check_host(headers: Headers, hosts: set[str] | None) -> None:
    """Web pages of elsewhere: one whose name was made to point to this machine (DNS rebinding) calls it by its own,
    another, which calls it rightly, is named by the browser in `Origin`.

    Args:
        hosts: Names by which the server may be called, without port; None for any.

    Raises:
        RequestError: It is called otherwise, or by a page of another host.
    """
    if hosts is None:
        return
    if _without_port(headers.get("host", "")) not in hosts:
        raise RequestError(403, "this server answers to its own names only")
    origin = headers.get("origin")  # of browsers alone; "null" of pages from files
    if origin is not None and _without_port(origin.partition("://")[2]) not in hosts:
        raise RequestError(403, "this server answers to no web page of another host")


def _without_port(host: str) -> str:
    return re.sub(r":\d*$", "", host.lower())  # [::1] has colons of its own


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
