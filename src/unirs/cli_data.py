"""`unirs data`: training data looked at before they are trained on, clues for them, and generated ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .cli_clues import clues
from .cli_world import world
from .extras import install_command
from .given import check_writable
from .terminal import InputError, Json, counted

if TYPE_CHECKING:
    from unirs.trainers.check_data import Report

data = typer.Typer(
    help="Check your own training data, give them clues, or write generated ones.", no_args_is_help=True
)
data.command()(clues)
data.command()(world)
SHOWN_PROBLEMS = 5  # of each kind


@data.command()
def check(
    path: Annotated[Path, typer.Argument(help="JSONL, Parquet, a `datasets` folder or LLaVA's JSON.")],
    against: Annotated[Path | None, typer.Option(help="Test data that must not share a picture with PATH.")] = None,
    images: Annotated[bool, typer.Option(help="Open pictures and clips, or only check that they exist.")] = True,
    output: Annotated[Path | None, typer.Option(help="Write every problem to this JSONL file.")] = None,
    max_length: Annotated[int, typer.Option(min=1, help="Longest row in tokens.")] = 4096,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes that read rows.", show_default="one a core")
    ] = None,
    as_json: Json = False,
) -> None:
    """Read every row: form, pictures, lengths, duplicates, and pictures shared with the test data."""
    if against is not None and not images:
        raise InputError("--against compares pictures, so it cannot go with --no-images")
    if output is not None:
        check_writable(output)
        if output.exists() and any(one.exists() and output.samefile(one) for one in (path, against) if one):
            raise InputError(f"--output {output}: is the data itself; give another name for the problems")
    try:
        from datasets import disable_progress_bars

        from unirs.trainers.check_data import as_json as to_json
        from unirs.trainers.check_data import check as check_rows
        from unirs.trainers.data_sets import DataError
    except ImportError as error:
        raise InputError(f"checking data needs more packages ({error.name}): {install_command('train')}") from error

    disable_progress_bars()  # of casting: rows are counted here
    with counted("Reading rows", unit="rows") as progress:
        try:
            report = check_rows(path, images, against, max_length, processes=processes, progress=progress)
        except DataError as error:
            raise InputError(str(error)) from error
    if output is not None:
        report.write(output)
    if as_json:
        typer.echo(json.dumps({"task": "data check", "path": str(path), **to_json(report)}, ensure_ascii=False))
    else:
        show(report)
    if report.bad_rows:
        where = f"all are in {output}" if output else "--output FILE writes all of them"
        raise InputError(f"{report.bad_rows:,} of {report.rows:,} rows of {path} are not fit for training; {where}")


def show(report: Report) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(box=box.SIMPLE, show_header=False)
    shortest, mean, longest = report.lengths
    table.add_row("rows", f"{report.rows:,}")
    for task, count in report.tasks.items():
        table.add_row(f"  {task}", f"{count:,}")
    table.add_row("tokens a row", f"{shortest:,} to {longest:,}, {mean:,} on average (text estimated)")
    if report.pictures:
        table.add_row("pictures and clips", f"{report.pictures:,}, {report.repeated:,} of them more than once")
    for kind, count in report.kinds.items():
        table.add_row(f"[red]{kind}[/red]", f"{count:,}")
    console.print(table)
    shown: dict[str, int] = {}
    for problem in report.problems:
        shown[problem.kind] = shown.get(problem.kind, 0) + 1
        if shown[problem.kind] <= SHOWN_PROBLEMS:
            console.print(f"row {problem.row}: {problem.kind}: {problem.message}", markup=False, highlight=False)
