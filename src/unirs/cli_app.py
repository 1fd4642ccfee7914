"""`unirs app`: a web page around one model."""

from __future__ import annotations

import importlib.util
import signal
import sys
from typing import Annotated

import typer

from .extras import install_command
from .listening import LOOPBACK, MEGABYTE, MEGAPIXEL, address, listen, own_names, served_name
from .model_source import find_model, load_base, load_model
from .terminal import InputError, busy, quieten

MAP_TIMES = 10  # a map may take so many times as long as an answer
SECONDS_TO_END = 3  # for visitors whose answers are under way when the page is stopped


def app(
    model: Annotated[
        str | None, typer.Option("--model", help="Folder or hub id.", show_default="the embedded unirs-tiny")
    ] = None,
    clue: Annotated[bool, typer.Option("--clue/--no-clue", help="Start with the clue box ticked.")] = False,
    base: Annotated[
        str | None,
        typer.Option(
            help="Folder or hub id of the base model for clues.", show_default="--model, its adapter left out"
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 is every one.")] = LOOPBACK[0],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 7860,
    max_upload_mb: Annotated[int, typer.Option(min=1, max=4096, help="Largest upload.")] = 64,
    max_megapixels: Annotated[
        int, typer.Option(min=1, max=1024, help="All pictures of a question together, or each raster of a map.")
    ] = 64,
    max_new_tokens: Annotated[int, typer.Option(min=1, max=4096, help="Longest answer, in tokens.")] = 64,
    time_limit: Annotated[
        float, typer.Option(min=1, help="Seconds to an answer's end; ten times as many to a map's.")
    ] = 60,
    keep_minutes: Annotated[int, typer.Option(min=1, max=1440, help="Uploads are removed after this time.")] = 30,
) -> None:
    """Show a web page for pictures, pairs, clips and maps."""
    find_model(model)
    if base is not None:
        find_model(base, "--base")
    for package in ("gradio", "rasterio"):  # looked for, not loaded: Gradio reads its settings when it is
        if importlib.util.find_spec(package) is None:
            raise InputError(f"the page needs more packages ({package}): {install_command('app')}")
    quieten()
    import uvicorn

    from unirs.app.limits import Limits
    from unirs.app.serving import application

    limits = Limits(
        upload_bytes=max_upload_mb * MEGABYTE,
        pixels=max_megapixels * MEGAPIXEL,
        new_tokens=max_new_tokens,
        seconds=time_limit,
        map_seconds=MAP_TIMES * time_limit,
        kept_seconds=keep_minutes * 60,
    )
    listening = listen(host, port)
    with busy("Loading the model"):
        network, processor = load_model(model)
        second = None if base is None else load_base(base, processor)
    shown, hosts = served_name(model), own_names(host)
    # uvicorn ends in order, and then sends itself the signal that it was sent: the folder of uploads is to go first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with application(network, processor, second, shown, limits, clue, hosts) as page:
        if hosts is None:
            typer.echo(f"Anyone who reaches {host} may use the page; it has no passwords.", err=True)
        typer.echo(f"{shown} is at {address(host, listening.getsockname()[1])} (Ctrl-C ends it)", err=True)
        config = uvicorn.Config(
            page, log_level="warning", server_header=False, timeout_graceful_shutdown=SECONDS_TO_END
        )
        uvicorn.Server(config).run(sockets=[listening])
