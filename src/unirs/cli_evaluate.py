"""`unirs evaluate`: a benchmark's scores with everything that must stand beside them."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from .terminal import InputError, Json, busy


def evaluate(
    benchmark: Annotated[str, typer.Argument(help="For instance levir-cc.")],
    data: Annotated[Path, typer.Option(help="Folder of the data set, as its authors give it.")],
    from_predictions: Annotated[
        Path, typer.Option(help="JSONL with `id` and `prediction` in each line; an id may be the picture's file name.")
    ],
    blind_predictions: Annotated[
        Path | None, typer.Option(help="The same of blank pictures: what the questions alone give away.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for predictions.jsonl, scores.json, report and PNGs.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="[default: the one that is reported]")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Score so many samples only.")] = None,
    meteor: Annotated[bool, typer.Option(help="METEOR takes Java and ten seconds more.")] = True,
    as_json: Json = False,
) -> None:
    """Score predictions, beside majority answers, blind answers and published figures."""
    settings = {
        "command": sys.argv[1:],
        "predictions": str(from_predictions),
        "blind_predictions": str(blind_predictions) if blind_predictions else None,
        "limit": limit,
    }
    try:
        from unirs.evaluation.benchmarks import load_benchmark
        from unirs.evaluation.predictions import read_predictions
        from unirs.evaluation.report import write_report
        from unirs.evaluation.scoring import score
        from unirs.trainers.data_sets import DataError

        with busy("Scoring"):
            try:
                known = load_benchmark(benchmark, data, split, limit)
                predictions, problems = read_predictions(from_predictions)
                blind = None
                if blind_predictions is not None:
                    blind, more = read_predictions(blind_predictions)
                    problems |= {f"blind: {kind}": lines for kind, lines in more.items()}
                if output is not None:
                    keep(from_predictions, output)
                scores = score(known, predictions, blind=blind, problems=problems, meteor=meteor)
            except DataError as error:
                raise InputError(str(error)) from error
            if output is not None:
                write_report(output, known, predictions, scores, settings)
    except ImportError as error:
        raise InputError(f"evaluation needs more packages ({error.name}): pip install 'unirs[evaluation]'") from error
    if as_json:
        typer.echo(json.dumps({"task": "evaluate", **scores}, ensure_ascii=False))
        return
    show(scores)
    if output is not None:
        typer.echo(f"Report: {output / 'report.html'}")


def keep(predictions: Path, output: Path) -> None:
    """The predictions stand beside their scores as `predictions.jsonl`; others that are there are not overwritten."""
    kept = output / "predictions.jsonl"
    if kept.exists() and kept.read_bytes() != predictions.read_bytes():
        raise InputError(f"{kept}: holds other predictions; give another --output")
    if not kept.exists():
        output.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(predictions, kept)


def show(scores: dict[str, Any]) -> None:
    """The tables, without what must be read in the report."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from unirs.evaluation.tables import tables

    console = Console()
    for one in tables(scores):
        table = Table(title=Text(one.title), title_justify="left", box=box.SIMPLE)
        for place, name in enumerate(one.head):
            table.add_column(Text(name), justify="right" if place else "left")
        for row in one.rows:
            table.add_row(*(Text(cell) for cell in row))
        console.print(table)
