"""`unirs serve`: an OpenAI-compatible API around one model."""

from __future__ import annotations

import os
from math import ceil, isfinite
from typing import Annotated

import typer

from .extras import install_command
from .listening import LOOPBACK, MEGABYTE, MEGAPIXEL, address, listen, own_names, served_name
from .model_source import DType, find_model, load_for_answers
from .terminal import InputError, quieten


def serve(
    model: Annotated[
        str | None, typer.Option("--model", help="Folder or hub id.", show_default="the embedded unirs-tiny")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The model's name for clients.", show_default="its folder or id")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 is every one.")] = LOOPBACK[0],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    api_key: Annotated[
        str | None, typer.Option(envvar="UNIRS_API_KEY", help="Key that every client must send.", show_envvar=True)
    ] = None,
    allow_fetch: Annotated[
        bool, typer.Option("--allow-fetch", help="Fetch pictures from URLs, of public addresses only.")
    ] = False,
    max_new_tokens: Annotated[int, typer.Option(min=1, max=4096, help="Longest answer, in tokens.")] = 512,
    max_request_mb: Annotated[int, typer.Option(min=1, max=1024, help="Largest request, pictures included.")] = 32,
    max_megapixels: Annotated[int, typer.Option(min=1, max=1024, help="All pictures of a request together.")] = 64,
    time_limit: Annotated[float, typer.Option(min=1, help="Seconds to an answer's end.")] = 60,
    batch_size: Annotated[int, typer.Option(min=1, max=256, help="Requests answered together.")] = 16,
    picture_memory_mb: Annotated[
        int, typer.Option(min=0, help="Memory for features of pictures that are asked about again.")
    ] = 256,
    log: Annotated[bool, typer.Option(help="Log each request in a line on stderr, without its content.")] = True,
    dtype: DType = None,
) -> None:
    """Answer OpenAI's chat completions about pictures, pairs and clips."""
    # typer takes an empty variable for none at all, and the server would be open.
    given = os.environ.get("UNIRS_API_KEY") if api_key is None else api_key
    if given is not None and not given.strip():
        raise InputError("the API key is empty; check UNIRS_API_KEY or --api-key")
    key = given and given.strip()  # a line's end from a file of secrets: no header can hold it
    if not isfinite(time_limit):
        raise InputError(f"--time-limit {time_limit}: must be a number of seconds")
    find_model(model)
    quieten()
    try:
        import uvicorn

        from unirs.serving.application import application
        from unirs.serving.limits import Limits
        from unirs.serving.request_log import RequestLog, log_to_stderr
    except ImportError as error:
        raise InputError(f"serving needs more packages ({error.name}): {install_command('serve')}") from error

    limits = Limits(
        request_bytes=max_request_mb * MEGABYTE,
        pixels=max_megapixels * MEGAPIXEL,
        new_tokens=max_new_tokens,
        seconds=time_limit,
        batch=batch_size,
        seen_bytes=picture_memory_mb * MEGABYTE,
    )
    listening = listen(host, port)
    answering = load_for_answers(find_model(model), dtype)
    served, hosts = name or served_name(model), own_names(host)
    app = application(served, answering.network, answering.processor, limits, allow_fetch, key, hosts)
    if hosts is None and key is None:
        typer.echo(f"Anyone who reaches {host} may ask; set UNIRS_API_KEY to change that.", err=True)
    place = address(host, listening.getsockname()[1])
    typer.echo(f"{served} answers at {place}/v1 (Ctrl-C ends it)", err=True)
    if log:
        log_to_stderr()
    config = uvicorn.Config(
        RequestLog(app) if log else app,
        log_level="warning",
        timeout_keep_alive=15,
        timeout_graceful_shutdown=ceil(time_limit),  # a client that does not read would hold the end up
        server_header=False,
    )
    uvicorn.Server(config).run(sockets=[listening])
