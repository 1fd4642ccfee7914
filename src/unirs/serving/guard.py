"""The door of the server: who may come in, and with how much."""

from __future__ import annotations

import asyncio
import hmac

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .incoming import check_host, check_origin, read_body, replayed
from .limits import TOO_SLOW, Limits, RequestError

MODEL = "/v1/models/{model:path}"  # a model's name may hold slashes
ROUTES = {"/v1/chat/completions": "POST", "/v1/models": "GET", MODEL: "GET", "/health": "GET"}
MOST_OF_AN_ID = 128  # characters; each part of a stream repeats it
MOST_VALUES = 10**6  # in a body: 32 MB of "[],[]," are 900 in Python
TO_TAKE_IT = 10.0  # seconds beyond its time for who reads an answer slowly
KINDS = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


def refusal(error: RequestError) -> JSONResponse:
    """In the form that OpenAI's clients read."""
    kind = KINDS.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    message = str(error).encode(errors="backslashreplace").decode()  # it may repeat half a character
    content = {"error": {"message": message, "type": kind, "code": None, "param": None}}
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {"Retry-After": "1"}
    return JSONResponse(content, error.status, headers if error.status in (401, 429, 503) else None)


class Guard:
    """Args:
    app: What is behind the door.
    api_key: Wanted of everybody but `/health`; None where all may come in.
    hosts: See `check_host`.
    """

    def __init__(self, app: ASGIApp, limits: Limits, api_key: str | None, hosts: set[str] | None):
        self.app, self.limits, self.hosts = app, limits, hosts
        self.api_key = None if api_key is None else f"Bearer {api_key}".encode()
        self.inside = self.bytes_inside = 0  # requests that are being answered, and their bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":  # a web socket: closed before it is open
            return await send({"type": "websocket.close", "code": 1008})
        try:
            if scope["method"] == "HEAD":  # what watches servers; uvicorn leaves the body away
                scope = {**scope, "method": "GET"}
            self._check(scope)
            if scope["path"] != "/v1/chat/completions":
                return await self.app(scope, receive, send)
            check_origin(Headers(scope=scope))
            await self._counted(scope, receive, send)
        except RequestError as error:
            await refusal(error)(scope, receive, send)

    async def _counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request in if there is room for it, and for its body, beside those that are being answered."""
        if self.inside >= self.limits.waiting:
            raise RequestError(429, f"{self.limits.waiting} requests are being answered; try again")
        size = 0

        async def weighed() -> Message:
            nonlocal size
            message = await receive()
            arrived = len(message.get("body", b""))
            size += arrived
            self.bytes_inside += arrived
            if self.bytes_inside > max(self.limits.waiting_bytes, size):  # alone it is always let in
                raise RequestError(429, "requests of many bytes are being answered; try again")
            return message

        self.inside += 1
        try:
            body = await read_body(weighed, self.limits.request_bytes)
            if sum(body.count(mark) for mark in (b",", b"[", b"{")) > MOST_VALUES:
                raise RequestError(413, f"the request holds more than {MOST_VALUES:,} values")
            await _while_there(self.app, scope, body, receive, send, self.limits.seconds + TO_TAKE_IT)
        finally:
            self.inside -= 1
            self.bytes_inside -= size

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        check_host(headers, self.hosts)
        route = MODEL if scope["path"].startswith("/v1/models/") else scope["path"]
        if ROUTES.get(route) != scope["method"]:
            known = ", ".join(f"{method} {path.replace(':path', '')}" for path, method in ROUTES.items())
            raise RequestError(404, f"there is no such thing here; there are {known}")
        if len(headers.get("x-request-id", "")) > MOST_OF_AN_ID:
            raise RequestError(400, f"X-Request-ID has more than {MOST_OF_AN_ID} characters")
        if self.api_key is None or scope["path"] == "/health":
            return
        if not hmac.compare_digest(headers.get("authorization", "").encode("latin-1"), self.api_key):
            raise RequestError(401, "the API key is missing or wrong")


async def _while_there(app: ASGIApp, scope: Scope, body: bytes, receive: Receive, send: Send, seconds: float) -> None:
    """The app's answer, ended if the client leaves before: FastAPI and uvicorn go on with one that is not streamed.

    Args:
        seconds: After which it is ended in any case: a client that does not read its answer would keep its place.

    Raises:
        RequestError: Until then no answer was begun.
    """
    begun = is_whole = False

    async def sent(message: Message) -> None:
        nonlocal begun, is_whole
        begun = True
        await send(message)
        is_whole = message["type"] == "http.response.body" and not message.get("more_body", False)

    # The only one who listens from here on; the app hears of it from here.
    leaving = asyncio.ensure_future(_disconnect(receive))
    answering = asyncio.ensure_future(app(scope, replayed(body, lambda: asyncio.shield(leaving)), sent))
    try:
        in_time, _ = await asyncio.wait((answering, leaving), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if is_whole:  # the server tells a disconnect then, too
            await asyncio.wait((answering,))
    finally:
        answering.cancel()
        leaving.cancel()
    await asyncio.wait((answering,))
    if not in_time and not begun:
        raise RequestError(503, TOO_SLOW)
    if not answering.cancelled():
        answering.result()  # raises what the app raised


async def _disconnect(receive: Receive) -> Message:
    while (message := await receive())["type"] != "http.disconnect":
        pass
    return message
