"""transformers' server application around one UniRS, behind the guard."""

from __future__ import annotations

import inspect
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from transformers.cli.serving.server import build_server

from .chat import Chat
from .engine import Batches, OneModel
from .guard import MODEL, ROUTES, Guard, refusal
from .limits import Limits, RequestError


def application(
    name: str,
    model: Any,
    processor: Any,
    limits: Limits,
    allow_fetch: bool = False,
    api_key: str | None = None,
    hosts: set[str] | None = None,
) -> Guard:
    """The server as an ASGI application.

    Args:
        name: Of the model, for clients.
        allow_fetch: Whether pictures are fetched from public http(s) addresses.
        api_key, hosts: See `Guard`.
    """
    models, batches = OneModel(name, model, processor), Batches(model, processor, limits)
    chat = Chat(models, batches, limits, allow_fetch)
    # Routes of other handlers differ between versions of transformers, and none of them is reachable.
    others = {one: None for one in inspect.signature(build_server).parameters if one.endswith("_handler")}
    app = build_server(models, **{**others, "chat_handler": chat}, generation_state=batches)  # type: ignore[arg-type]
    app.router.routes[:] = [route for route in app.router.routes if getattr(route, "path", None) in ROUTES]

    @app.get(MODEL)  # transformers' server lists models, and tells of none alone
    async def one_model(model: str) -> dict[str, Any]:
        if model != name:
            raise RequestError(404, f"there is no model {model!r} here; there is {name!r}")
        return models.get_gen_models()[0]

    _tell_errors(app)
    return Guard(app, limits, api_key, hosts)


def _tell_errors(app: FastAPI) -> None:
    """Every failure in OpenAI's form, and none with the insides of the server."""

    @app.exception_handler(RequestError)
    async def refused(_: Request, error: RequestError) -> JSONResponse:
        return refusal(error)

    @app.exception_handler(TimeoutError)
    async def slow(_: Request, error: TimeoutError) -> JSONResponse:
        return refusal(RequestError(503, "reading the request took longer than this server allows"))

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        return refusal(RequestError(error.status_code, str(error.detail)))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return refusal(
            RequestError(
                400, "the request is no JSON object of a chat completion, sent as Content-Type: application/json"
            )
        )

    @app.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> JSONResponse:
        return refusal(RequestError(500, "the server failed on this request"))
