"""The door of the server: who may come in, and with how much."""

from __future__ import annotations

import hmac

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from .incoming import check_host, read_body, replayed
from .limits import Limits, RequestError

ROUTES = {"/v1/chat/completions": "POST", "/v1/models": "GET", "/health": "GET"}
KINDS = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


def refusal(error: RequestError) -> JSONResponse:
    """In the form that OpenAI's clients read."""
    kind = KINDS.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    content = {"error": {"message": str(error), "type": kind, "code": None, "param": None}}
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
        self.inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":  # a web socket: closed before it is open
            return await send({"type": "websocket.close", "code": 1008})
        counted = scope["path"] == "/v1/chat/completions"
        try:
            self._check(scope)
            if not counted:
                return await self.app(scope, receive, send)
            if self.inside >= self.limits.waiting:
                raise RequestError(429, f"{self.limits.waiting} requests are being answered; try again")
            self.inside += 1
            try:
                body = await read_body(receive, self.limits.request_bytes)
                return await self.app(scope, replayed(body, receive), send)
            finally:
                self.inside -= 1
        except RequestError as error:
            await refusal(error)(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        check_host(headers, self.hosts)
        if ROUTES.get(scope["path"]) != scope["method"]:
            known = ", ".join(f"{method} {path}" for path, method in ROUTES.items())
            raise RequestError(404, f"there is no such thing here; there are {known}")
        if self.api_key is None or scope["path"] == "/health":
            return
        if not hmac.compare_digest(headers.get("authorization", "").encode("latin-1"), self.api_key):
            raise RequestError(401, "the API key is missing or wrong")
