"""What the commands share towards the terminal: errors of one line, progress, the --json flag."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Annotated, Literal

import typer

SECONDS_BETWEEN_LINES = 30  # of progress, in a log

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


class InputError(Exception):
    """What the user gave cannot be used; the message is the one line that is shown."""


class StoppedError(Exception):
    """Ctrl-C; the message is the one line that is shown."""


@contextmanager
def resumable() -> Iterator[None]:
    """Around a command that goes on where it was: Ctrl-C is answered with that."""
    try:
        yield
    except KeyboardInterrupt:
        raise StoppedError("stopped; run the same command again to go on") from None


def quieten() -> None:
    """Silences other libraries' notes on their own insides, which no user can act upon."""
    # commands tell of missing clues themselves
    clues = "unirs.modeling_unirs.prompt_augmentation_unirs"
    for name in ("bitsandbytes", "torchao", "torch.utils._pytree", "huggingface_hub", clues):
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
    message: str, afterwards: str | None = None, unit: Literal["bytes", "rows", "tiles", "samples"] = "bytes"
) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on the error stream; what it yields is told how much is done, and how much there is in all.

    Rows have their rate and the time left. Where the stream is no terminal, they are told in a line every half minute.

    Args:
        afterwards: What goes on once all is done.
    """
    from rich import progress as rich_progress
    from rich.console import Console

    console = Console(stderr=True)
    if unit != "bytes" and not console.is_terminal:
        yield rows_as_lines(message, unit)
        return
    columns = [rich_progress.TextColumn("{task.description}"), rich_progress.BarColumn()]
    if unit == "bytes":
        columns += [rich_progress.DownloadColumn(), rich_progress.TransferSpeedColumn()]
    else:
        columns += [rich_progress.MofNCompleteColumn(), rich_progress.TextColumn("{task.fields[rate]}")]
    columns.append(rich_progress.TimeRemainingColumn())
    with rich_progress.Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(message, total=None, rate="")
        begun = False

        def told(done: int, total: int) -> None:
            nonlocal begun
            if not begun:  # what an earlier run has done says nothing about the rate
                progress.reset(task, completed=done, total=total)
                begun = True
            speed = progress.tasks[task].speed
            progress.update(task, completed=done, total=total, rate=f"{speed:,.1f} {unit}/s" if speed else "")
            if afterwards and done >= total:
                progress.update(task, description=afterwards)

        yield told


def rows_as_lines(message: str, unit: str = "rows") -> Callable[[int, int], None]:
    """For logs: what it gives is told rows done and rows in all, and now and then prints them, rate and time left."""
    first: int | None = None
    start = last = time.monotonic()

    def told(done: int, total: int) -> None:
        nonlocal first, last
        now = time.monotonic()
        if first is None:
            first = done
        if now - last < SECONDS_BETWEEN_LINES or done == first:
            return
        last = now
        rate = (done - first) / (now - start)
        left = timedelta(seconds=round((total - done) / rate))
        typer.echo(f"{message}: {done:,} of {total:,} {unit}, {rate:,.1f} {unit}/s, {left} left", err=True)

    return told
