"""What the commands share towards the terminal: errors of one line, progress, the --json flag."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


class InputError(Exception):
    """What the user gave cannot be used; the message is the one line that is shown."""


def quieten() -> None:
    """Silences other libraries' notes on their own insides, which no user can act upon."""
    for name in ("bitsandbytes", "unirs.modeling_unirs.prompt_augmentation_unirs"):  # commands tell of missing clues
        logging.getLogger(name).setLevel(logging.ERROR)
    import transformers
    from huggingface_hub.utils import disable_progress_bars

    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    disable_progress_bars()


@contextmanager
def busy(message: str) -> Iterator[None]:
    """A spinner on the terminal's error stream, so that answers can be piped."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        progress.add_task(message, total=None)
        yield


@contextmanager
def counted(
    message: str, afterwards: str | None = None, unit: Literal["bytes", "rows"] = "bytes"
) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on the error stream; what it yields is told how much is done, and how much there is in all.

    Args:
        afterwards: What goes on once all is done.
    """
    from rich import progress as rich_progress
    from rich.console import Console

    console = Console(stderr=True)
    columns = [rich_progress.TextColumn("{task.description}"), rich_progress.BarColumn()]
    if unit == "bytes":
        columns += [rich_progress.DownloadColumn(), rich_progress.TransferSpeedColumn()]
    else:
        columns += [rich_progress.MofNCompleteColumn()]
    columns.append(rich_progress.TimeRemainingColumn())
    with rich_progress.Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(message, total=None)

        def told(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)
            if afterwards and done >= total:
                progress.update(task, description=afterwards)

        yield told
