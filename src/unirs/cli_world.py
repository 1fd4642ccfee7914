"""`unirs data world`: RS-World, the generated benchmark, as a `datasets` folder."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from .extras import install_command
from .given import check_writable
from .terminal import InputError, Json, counted, resumable

FULL = (errno.ENOSPC, errno.EDQUOT)


def world(
    output: Annotated[Path, typer.Argument(help="Folder to write: a `datasets` folder with a part for each metric.")],
    split: Annotated[
        Literal["train", "validation", "test"],
        typer.Option(help="The test's kinds of layout occur in no other split."),
    ] = "test",
    single: Annotated[int, typer.Option(min=0, help="Single pictures, with four to eight questions each.")] = 500,
    pair: Annotated[int, typer.Option(min=0, help="Pairs of dates.")] = 500,
    video: Annotated[int, typer.Option(min=0, help="Clips.")] = 100,
    sequence: Annotated[int, typer.Option(min=0, help="Sequences of four dates.")] = 100,
    size: Annotated[int, typer.Option(min=32, max=1024, help="Pixels of a side.")] = 256,
    num_frames: Annotated[int, typer.Option(min=3, max=64, help="Frames of a clip.")] = 8,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes that draw.", show_default="one a core")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write RS-World, the generated benchmark. Stopped at any moment, the same command goes on where it was."""
    check_writable(output / "x" if output.is_dir() else output)
    try:
        import datasets

        from unirs.trainers.data_sets import DataError
        from unirs.trainers.world_export import export
    except ImportError as error:
        raise InputError(f"writing data needs more packages ({error.name}): {install_command('train')}") from error

    datasets.disable_progress_bars()
    try:
        with resumable(), counted("Drawing", "Writing", unit="samples") as progress:
            rows = export(
                output,
                split,
                {"single": single, "pair": pair, "video": video, "sequence": sequence},
                size,
                num_frames,
                processes,
                progress,
            )
    except DataError as error:
        raise InputError(str(error)) from error
    except OSError as error:
        # what was drawn before the disk was full is kept
        advice = "make room and run the command again" if error.errno in FULL else "give another OUTPUT"
        raise InputError(f"{output}: cannot be written ({error.strerror or error}); {advice}") from error
    if as_json:
        typer.echo(json.dumps({"task": "data world", "output": str(output), "split": split, "rows": rows}))
    else:
        typer.echo(f"{output}: " + ", ".join(f"{count:,} rows of {part}" for part, count in rows.items()))
        typer.echo(f"In Python: datasets.load_from_disk({str(output)!r})")
