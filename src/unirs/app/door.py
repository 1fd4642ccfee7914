"""The door of the page: who may come in, with how much, and which files of the machine may be named.

Gradio's application has many more routes than its page uses: it fetches URLs, proxies, runs functions past the queue.
A mounted one also copies any file that a request names into the folder that it serves. Here a short list is open,
and what a request names must lie in the folder of uploads.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unirs.serving.guard import replayed

from .uploads import Uploads

logger = logging.getLogger(__name__)

API = "/gradio_api"
FILE = f"{API}/file="
UPLOAD = f"{API}/upload"
JOIN = f"{API}/queue/join"
READ = re.compile(
    rf"/|/(config|theme\.css|favicon\.ico|manifest\.json|robots\.txt)|/(assets|static)/.+"
    rf"|{API}/(info|startup-events|queue/data|upload_progress|app_id|heartbeat/\w+)|{FILE}.+"
)
WRITTEN = (UPLOAD, JOIN, f"{API}/cancel", f"{API}/reset")
BODY = 2**20  # bytes of a request that uploads nothing
FORM = 2**16  # bytes around the files of an upload
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
HEADERS = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


class RefusedError(Exception):
    """A request that does not come in: `status` of HTTP, and a sentence."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status = status


class Door:
    """Args:
    app: What is behind the door.
    hosts: Names by which the page may be called, without port; None for any. A web page whose name was made to point
        to this machine (DNS rebinding) calls it by its own.
    """

    def __init__(self, app: ASGIApp, uploads: Uploads, hosts: set[str] | None):
        self.app, self.uploads, self.hosts = app, uploads, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":  # a web socket: closed before it is open
            return await send({"type": "websocket.close", "code": 1008})
        try:
            self._check(scope)
            if scope["method"] == "POST" and scope["path"] != UPLOAD:
                receive = await self._read(scope, receive)
            await self.app(scope, receive, _with_headers(send))
        except RefusedError as error:
            logger.info("refused %s %s: %s", scope["method"], scope["path"], error)
            await PlainTextResponse(str(error), error.status)(scope, receive, _with_headers(send))

    def _check(self, scope: Scope) -> None:
        headers, method, path = Headers(scope=scope), scope["method"], scope["path"]
        host = headers.get("host", "")
        if self.hosts is not None and host.rsplit(":", 1)[0].lower() not in self.hosts:
            raise RefusedError(403, "This page answers to its own names only.")
        if method in ("GET", "HEAD"):
            if not READ.fullmatch(path):
                raise RefusedError(404, "There is no such page.")
            if path.startswith(FILE) and not self.uploads.holds(path.removeprefix(FILE)):
                raise RefusedError(403, "This file is none of the page's.")
            return
        if method != "POST" or path not in WRITTEN:
            raise RefusedError(404, "There is no such page.")
        if "origin" in headers and urlsplit(headers["origin"]).netloc != host:
            raise RefusedError(403, "Another site's page may not ask here.")
        if path == UPLOAD:
            self._check_upload(headers.get("content-length", ""))

    def _check_upload(self, length: str) -> None:
        """A browser tells the length beforehand, and the server holds it to that."""
        if not (length.isascii() and length.isdigit()):
            raise RefusedError(411, "The upload does not say how long it is.")
        limits = self.uploads.limits
        if int(length) > limits.upload_bytes + FORM:
            raise RefusedError(413, f"The upload has more than {limits.upload_bytes / 2**20:,.0f} MB.")
        if self.uploads.is_full():
            raise RefusedError(503, "The page holds as many uploads as it may. Try again later.")

    async def _read(self, scope: Scope, receive: Receive) -> Receive:
        """The whole body, whose files are all uploads."""
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise RefusedError(400, "The request was cut off.")
            body += message.get("body", b"")
            if len(body) > BODY:
                raise RefusedError(413, "The request is too large.")
            if not message.get("more_body"):
                break
        try:
            files = list(_files(json.loads(body or b"{}")))
        except (ValueError, RecursionError):
            raise RefusedError(400, "The request is no JSON.") from None
        if not all(isinstance(file, str) and self.uploads.holds(file) for file in files):
            raise RefusedError(403, "The request names a file that is no upload.")
        return replayed(body, receive)


def _files(value: Any) -> Iterator[Any]:
    """Every `path` in a request: what Gradio takes for a file, or for the address of one."""
    if isinstance(value, dict):
        if "path" in value:
            yield value["path"]
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _files(one)


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(HEADERS)
        await send(message)

    return sent
