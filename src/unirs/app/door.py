"""The door of the page: who may come in, with how much, and which files of the machine may be named.

Gradio's application has many more routes than its page uses: it fetches URLs, proxies, runs functions past the queue.
A mounted one also copies any file that a request names into the folder that it serves. Here a short list is open,
and what a request names must lie in the folder of uploads.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from typing import Any
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unirs.serving.incoming import check_host, check_origin, read_body, replayed
from unirs.serving.limits import RequestError

from .uploads import Uploads

logger = logging.getLogger(__name__)

API = "/gradio_api"
FILE = f"{API}/file="
UPLOAD = f"{API}/upload"
JOIN = f"{API}/queue/join"
DATA = f"{API}/queue/data"
READ = re.compile(
    rf"/|/(config|theme\.css|favicon\.ico|manifest\.json|robots\.txt)|/(assets|static)/.+"
    rf"|{API}/(info|startup-events|queue/data|upload_progress|app_id|heartbeat/\w+)|{FILE}.+"
)
WRITTEN = (UPLOAD, JOIN, f"{API}/cancel", f"{API}/reset")
BODY = 2**20  # bytes of a request that uploads nothing
FORM = 2**16  # bytes around the files of an upload
SECONDS_TO_LISTEN = 60.0  # from a question that is taken to whoever reads its answer
SECONDS_OF_SILENCE = 30.0
SLOWEST = 50_000  # bytes a second of an upload, counted from its seconds of silence on
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
HEADERS = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


class Door:
    """Args:
    app: What is behind the door.
    hosts: See `check_host`.
    forget: Ends what a session has asked, and drops what it has not read.
    """

    def __init__(
        self,
        app: ASGIApp,
        uploads: Uploads,
        hosts: set[str] | None,
        forget: Callable[[str], Coroutine[Any, Any, None]],
    ):
        self.app, self.uploads, self.hosts, self.forget = app, uploads, hosts, forget
        self.arriving = 0  # bytes of the uploads that are under way
        self.listening: Counter[str] = Counter()  # streams of answers that a session has open
        self.unheard: dict[str, asyncio.TimerHandle] = {}  # sessions that have asked and do not listen yet
        self.forgetting: set[asyncio.Task[None]] = set()  # a loop holds its tasks weakly

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":  # a web socket: closed before it is open
            return await send({"type": "websocket.close", "code": 1008})
        send = _with_headers(send)
        try:
            self._check(scope)
            if scope["path"] == UPLOAD:
                return await self._upload(scope, receive, send)
            if scope["path"] == DATA:
                return await self._listen(scope, receive, send)
            if scope["method"] == "POST":
                body = await read_body(receive, BODY)
                asked = self._check_files(body)
                receive = replayed(body, receive)
                if scope["path"] == JOIN:
                    return await self._join(asked, scope, receive, send)
            await self.app(scope, receive, send)
        except RequestError as error:
            logger.info("refused %s %s: %s", scope["method"], scope["path"], error)
            sentence = f"{str(error)[:1].upper()}{str(error)[1:]}."
            await PlainTextResponse(sentence, error.status)(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers, method, path = Headers(scope=scope), scope["method"], scope["path"]
        check_host(headers, self.hosts)
        if method in ("GET", "HEAD"):
            if not READ.fullmatch(path):
                raise RequestError(404, "there is no such page")
            if path.startswith(FILE) and not self.uploads.holds(path.removeprefix(FILE)):
                raise RequestError(403, "this file is none of the page's")
            return
        if method != "POST" or path not in WRITTEN:
            raise RequestError(404, "there is no such page")
        check_origin(headers)

    async def _listen(self, scope: Scope, receive: Receive, send: Send) -> None:
        session = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])[-1]
        if waited := self.unheard.pop(session, None):
            waited.cancel()
        self.listening[session] += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.listening[session] -= 1
            if not self.listening[session]:
                del self.listening[session]

    async def _join(self, asked: Any, scope: Scope, receive: Receive, send: Send) -> None:
        """Gradio keeps answers, of megabytes each, until they are read; whoever does not come for them has left."""
        session = asked.get("session_hash") if isinstance(asked, dict) else None
        if not isinstance(session, str):
            raise RequestError(400, "the request names no session")
        await self.app(scope, receive, send)
        if not self.listening[session] and session not in self.unheard:
            timer = asyncio.get_running_loop().call_later
            self.unheard[session] = timer(SECONDS_TO_LISTEN, self._hang_up, session)

    def _hang_up(self, session: str) -> None:
        del self.unheard[session]
        forgetting = asyncio.create_task(self.forget(session))
        self.forgetting.add(forgetting)
        forgetting.add_done_callback(self.forgetting.discard)

    async def _upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets an upload in if there is room for it beside those that are coming in already.

        All that was announced is kept free for it, so neither silence nor a trickle may last: `n` bytes are in after
        `SECONDS_OF_SILENCE + n / SLOWEST` seconds or not at all.
        """
        length = self._length(Headers(scope=scope))
        held = await asyncio.to_thread(self.uploads.bytes_held)
        # nothing is awaited between the look and the reservation: else a later upload could put an earlier one out
        if held + self.arriving + length > self.uploads.limits.folder_bytes:
            raise RequestError(503, "the page holds as many uploads as it may; try again later")
        self.arriving += length
        try:
            async with asyncio.timeout(SECONDS_OF_SILENCE) as limit:
                await self.app(scope, _hurried(receive, limit), send)
        except TimeoutError:
            rate = f"{SLOWEST / 1000:g} kB a second"
            raise RequestError(408, f"the upload fell silent, or came slower than {rate}") from None
        finally:
            self.arriving -= length

    def _length(self, headers: Headers) -> int:
        """A browser tells the length beforehand, and the server holds it to that; not to pieces."""
        length, most = headers.get("content-length", ""), self.uploads.limits.upload_bytes
        if "transfer-encoding" in headers or not (length.isascii() and length.isdigit()):
            raise RequestError(411, "the upload does not say how long it is")
        if int(length) > most + FORM:
            raise RequestError(413, f"the upload has more than {most / 2**20:,.0f} MB")
        return int(length)

    def _check_files(self, body: bytes) -> Any:
        """What is asked, all files of which are uploads."""
        try:
            asked = json.loads(body or b"{}")
            files = list(_files(asked))
        except (ValueError, RecursionError):
            raise RequestError(400, "the request is no JSON") from None
        if not all(isinstance(file, str) and self.uploads.holds(file) for file in files):
            raise RequestError(403, "the request names a file that is no upload")
        return asked


def _hurried(receive: Receive, limit: asyncio.Timeout) -> Receive:
    """Moves the limit on as the bytes come, and lifts it when all are in: what follows is the page's own time."""
    clock = asyncio.get_running_loop().time
    begun, came = clock(), 0

    async def hurried() -> Message:
        nonlocal came
        message = await receive()
        came += len(message.get("body", b""))
        is_on = message.get("more_body", False)
        limit.reschedule(SECONDS_OF_SILENCE + min(clock(), begun + came / SLOWEST) if is_on else None)
        return message

    return hurried


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
