"""The page as an application to serve: settings of Gradio in one place, and the door in front."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .limits import Limits
from .uploads import Uploads

SECONDS_BETWEEN_SWEEPS = 60.0  # at most


@contextmanager
def application(
    network: Any,
    processor: Any,
    base: Any,
    model: str,
    limits: Limits,
    clue: bool = False,
    hosts: set[str] | None = None,
) -> Iterator[Any]:
    """The page as an ASGI application, with a folder of its own that goes with it.

    Args:
        base, clue, model: See `Asker` and `build`.
        hosts: See `Door`.
    """
    with TemporaryDirectory(prefix="unirs-app-") as folder:
        uploads, examples = Uploads(Path(folder, "uploads"), limits), Path(folder, "examples")
        for one in (uploads.folder, examples):
            one.mkdir()
        # Gradio reads these once it is imported, and some each time.
        os.environ.update(
            GRADIO_ANALYTICS_ENABLED="False",
            GRADIO_TEMP_DIR=str(uploads.folder),
            GRADIO_EXAMPLES_CACHE=str(uploads.folder / "examples"),
            HF_HUB_DISABLE_TELEMETRY="1",
        )
        app = _application(network, processor, base, model, clue, hosts, uploads, examples)
        with _swept(uploads):
            yield app


@contextmanager
def _swept(uploads: Uploads) -> Iterator[None]:
    """Old files go while the page is open; what lies there already are the examples, which stay."""
    examples, ended = set(uploads.folder.rglob("*")), threading.Event()

    def sweep() -> None:
        while not ended.wait(min(SECONDS_BETWEEN_SWEEPS, uploads.limits.kept_seconds)):
            uploads.sweep(examples)

    sweeping = threading.Thread(target=sweep, name="sweep", daemon=True)
    sweeping.start()
    try:
        yield
    finally:
        ended.set()
        sweeping.join()


def _application(
    network: Any,
    processor: Any,
    base: Any,
    model: str,
    clue: bool,
    hosts: set[str] | None,
    uploads: Uploads,
    examples: Path,
) -> Any:
    import gradio as gr
    from fastapi import FastAPI

    from .asking import Asker
    from .door import Door
    from .examples import write_examples
    from .handlers import Handlers
    from .page import CSS, SCRIPT, THEME, build

    handlers = Handlers(Asker(network, processor, base, uploads.limits), uploads)
    page = build(handlers, write_examples(examples), model, clue)
    page.has_launched = True  # else a mounted page does not check where the files of a request lie
    app = gr.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        page,
        path="/",
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=uploads.limits.upload_bytes,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=THEME,
        css_paths=CSS,
        js=SCRIPT.read_text(encoding="utf-8"),
    )

    async def forget(session: str) -> None:
        """As Gradio does with a session whose stream breaks off."""
        queue = page._queue
        queue.pending_messages_per_session.pop(session, None)
        queue.pending_event_ids_session.pop(session, None)
        await queue.clean_events(session_hash=session)

    return Door(app, uploads, hosts, forget)
