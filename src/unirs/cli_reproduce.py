"""`unirs reproduce`: the paper's three claims, tested on a laptop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .extras import install_command
from .given import make_folder
from .model_source import find_model
from .terminal import InputError, Json, quieten, resumable


def reproduce(
    output: Annotated[Path, typer.Option(help="Folder of the run; one that is there is gone on with.")] = Path(
        "runs/reproduce"
    ),
    seeds: Annotated[int, typer.Option(min=1, max=10, help="Trainings of each arm.")] = 5,
    scenes: Annotated[
        int, typer.Option(min=50, max=100_000, help="Training pictures, and as many pairs; half as many clips.")
    ] = 1000,
    test: Annotated[int, typer.Option(min=10, max=100_000, help="Test scenes of each task.")] = 300,
    epochs: Annotated[float, typer.Option(min=0.01, help="How often an arm sees each scene.")] = 2.0,
    clues: Annotated[
        bool, typer.Option("--clues/--no-clues", help="Compare with clues in all arms but one, or with none in any.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Train with and without joint tuning, Change Extraction and clues on generated scenes, and compare.

    The paper's tables VIII, IX and X in the small (X with --clues alone): a table, a figure and a verdict with
    intervals over seeds. It takes about a hundred minutes on two cores, and 2.8 GB; a run that was stopped goes on
    where it was.
    """
    if output.exists() and not output.is_dir():
        raise InputError(f"{output}: is a file; --output names a folder")
    make_folder(output, "--output")
    with resumable():
        try:
            quieten()  # before other libraries tell of themselves
            from unirs.evaluation.reproduce import Plan, PlanError
            from unirs.evaluation.reproduce import reproduce as run
        except ImportError as error:
            raise InputError(f"this needs more packages ({error.name}): {install_command('train')}") from error
        plan = Plan(single=scenes, pair=scenes, video=scenes // 2, test=test, seeds=seeds, epochs=epochs, clues=clues)

        def say(line: str) -> None:
            typer.echo(line, err=True)

        try:
            result = run(output, plan, find_model(None), say)
        except PlanError as error:
            raise InputError(str(error)) from error
    if as_json:
        typer.echo(json.dumps({"task": "reproduce", **result}, ensure_ascii=False, allow_nan=False))
        return
    typer.echo((output / "claims.md").read_text(encoding="utf-8"))
    typer.echo(f"All of it, with a figure: {output}")
