"""`unirs predict`: answers for a whole table, kept as they come."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable
from contextlib import closing, redirect_stdout
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .extras import install_command
from .given import check_words
from .model_source import DType, find_any_model, find_model, load_for_answers
from .terminal import InputError, Json, busy, counted, quieten

if TYPE_CHECKING:
    from unirs.predicting.ledger import Ledger

Load = Callable[[], tuple[Any, dict[str, Any]]]


def predict(
    table: Annotated[
        str,
        typer.Argument(help="CSV, JSONL, Parquet, or a folder of pictures and clips; a path or s3://..., gs://..."),
    ],
    output: Annotated[str, typer.Option(help="File for the answers: .jsonl or .parquet, local or in a store.")],
    question: Annotated[
        str | None, typer.Option("--question", "-q", help="For rows without a question of their own.")
    ] = None,
    images: Annotated[
        str | None, typer.Option(help="Folder that paths are relative to.", show_default="TABLE's")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Folder or hub id: UniRS, or any image-text-to-text model.", show_default="the embedded unirs-tiny"
        ),
    ] = None,
    clue: Annotated[
        bool, typer.Option("--clue/--no-clue", help="Let the base model look first; its words enter the prompt.")
    ] = False,
    base: Annotated[
        str | None, typer.Option(help="The base model.", show_default="--model, its adapter left out")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, max=1024, help="Rows asked at a time.")] = 8,
    dtype: DType = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, max=4096, help="Longest answer, in tokens.")] = 64,
    num_frames: Annotated[int | None, typer.Option(min=1, max=64, help="Frames to take from a clip.")] = None,
    bands: Annotated[
        str | None,
        typer.Option(help="Bands of local rasters as red, green, blue: 4,3,2, or names.", show_default="usual ones"),
    ] = None,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="This process, or workers on one machine or many, through Ray.")
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Number of workers of --engine ray.", show_default="one for each accelerator"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Answer every row of a table. Stopped at any moment, the same command goes on where it was."""
    for words, option in ((question, "--question"), (bands, "--bands")):
        if words is not None:
            check_words(words, option)
    if base is not None and not clue:
        raise InputError("--base is the model that is asked for clues; add --clue")
    if workers is not None and engine != "ray":
        raise InputError("--workers are processes of Ray; add --engine ray")
    find_any_model(model)
    if base is not None:
        find_model(base, "--base")
    quieten()
    try:
        from unirs.predicting.ledger import Ledger
        from unirs.predicting.output import check_output, journal_of, write_output
        from unirs.predicting.running import answer_table
        from unirs.predicting.stores import without_scheme
        from unirs.predicting.table import Table
        from unirs.trainers.data_sets import DataError
    except ImportError as error:
        raise InputError(f"tables need more packages ({error.name}): {install_command('predict')}") from error

    try:
        output = without_scheme(output)
        if os.path.islink(output):  # or the link would become a file, and what it points to stay as it was
            output = os.path.realpath(output)
        journal = journal_of(output)
        check_output(output, table, journal)
        rows = Table(table)
        if rows.unread and not as_json:
            names = ", ".join(rows.unread[:20])
            typer.echo(f"Not read of {table}: {names} (what is asked stands under question)", err=True)
        loading = partial(load, _from_the_root(model), clue, _from_the_root(base), num_frames, dtype)
        asking, settings = start(engine, loading, batch_size, max_new_tokens, workers, bands)
        settings |= {"question": question, "max_new_tokens": max_new_tokens, "bands": bands}
        with closing(asking), closing(Ledger(journal, settings, len(rows))) as ledger:
            if ledger.begun_with and not as_json:
                typer.echo(f"Going on: {ledger.begun_with:,} of {len(rows):,} rows have their answers.", err=True)
            # Ray prints of dead workers; the output of this command is one line, or one object of JSON.
            with redirect_stdout(sys.stderr), counted("Asking", unit="rows") as progress:
                answer_table(rows, asking, ledger, question, images and without_scheme(images), clue, progress)
            write_output(ledger.in_order(), output, clue)
            tell(ledger, output, model, as_json)
    except DataError as error:
        raise InputError(str(error)) from error
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        told = "no space is left on its disk; free some, and run the command again: it goes on"
        raise InputError(f"{journal}: {told}") from error
    except RuntimeError as error:  # the accelerator's own, outside of any batch
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"the model failed ({reason}); the answers are kept, run the command again") from error
    if not ledger.errors:
        journal.unlink()


def start(
    engine: Literal["local", "ray"],
    load: Load,
    batch_size: int,
    max_new_tokens: int,
    workers: int | None,
    bands: str | None,
) -> tuple[Any, dict[str, Any]]:
    """What answers, with its model loaded; and what its answers depend on."""
    if engine == "ray":
        try:
            from unirs.predicting.ray_engine import RayEngine
        except ImportError as error:
            raise InputError(f"--engine ray needs one more package: {install_command('ray')}") from error
        with busy("Starting the workers"):
            found = RayEngine(load, batch_size, max_new_tokens, workers, bands)
        return found, found.settings
    from unirs.predicting.running import LocalEngine

    network, settings = load()
    return LocalEngine(network, batch_size, max_new_tokens, bands), settings


def _from_the_root(name: str | None) -> str | None:
    """A folder's whole path, since workers of Ray may stand in another folder; a hub id as it is."""
    folder = os.path.expanduser(name or "")
    return os.path.abspath(folder) if os.path.isdir(folder) else name


def load(
    model: str | None, clue: bool, base: str | None, num_frames: int | None, dtype: str | None = None
) -> tuple[Any, dict[str, Any]]:
    """The model, on the accelerator where there is one; and all of it that answers depend on."""
    network = load_for_answers(find_any_model(model), dtype)
    from unirs.evaluation.models import UniRS

    if num_frames is not None:
        network.num_frames = num_frames
    if isinstance(network, UniRS):
        network.processor.num_frames = network.num_frames
        if clue:
            network.ask_for_clues(None if base is None else find_model(base, "--base"))
    elif clue:
        raise InputError(f"--clue: {model} is no UniRS model; clues that are there go into a column `clue`")
    known = network.description()
    kept = ("model_sha256", "dtype", "clue")  # the same model may lie elsewhere, or run on another device
    return network, {**{name: known[name] for name in kept}, "num_frames": network.num_frames}


def tell(ledger: Ledger, output: str, model: str | None, as_json: bool) -> None:
    """How many rows have an answer, and what is wrong with the others.

    Raises:
        InputError: Not one has.
    """
    count, errors = len(ledger.places), ledger.errors
    if as_json:
        counts = {"rows": count, "answered": count - errors, "errors": errors, "went_on_from": ledger.begun_with}
        typer.echo(json.dumps({"task": "predict", "model": model or "unirs-tiny", "output": output, **counts}))
    else:
        typer.echo(f"{count - errors:,} of {count:,} rows have an answer: {output}")
    if not errors:
        return
    first = ledger.first_error()
    if errors == count:
        raise InputError(f"not one of {count:,} rows could be answered; row {first['row']}: {first['error']}")
    typer.echo(
        f"{errors:,} rows have an error, row {first['row']} first: {first['error']}\n"
        f"Mended, they are asked by the same command; {ledger.path} has the other answers.",
        err=True,
    )
