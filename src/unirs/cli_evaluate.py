"""`unirs evaluate`: a benchmark's scores with everything that must stand beside them."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .extras import install_command
from .model_source import find_any_model, find_model
from .terminal import InputError, Json, busy, counted, quieten

if TYPE_CHECKING:
    from unirs.evaluation.samples import Benchmark


def evaluate(
    benchmark: Annotated[str, typer.Argument(help="levir-cc, rsvqa-lr, era, ..., or own; a wrong name lists them.")],
    data: Annotated[Path, typer.Option(help="Folder of the data set, as its authors give it; of own rows the file.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="Folder or hub id: UniRS, or any image-text-to-text model.", show_default="the embedded unirs-tiny"
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split of the data set.", show_default="the one that papers report")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Use only this many samples, evenly spread.")] = None,
    metric: Annotated[str | None, typer.Option(help="Of own rows: vqa, captions or classes.")] = None,
    all_types: Annotated[bool, typer.Option(help="Keep RSVQA's questions about numbers and areas.")] = False,
    clue: Annotated[
        bool, typer.Option("--clue/--no-clue", help="Use the rows' clues; the base model gives missing ones.")
    ] = False,
    base: Annotated[
        str | None, typer.Option(help="The base model.", show_default="--model, its adapter left out")
    ] = None,
    blind: Annotated[
        bool, typer.Option(help="Ask once more with blank pictures, and show what words alone give.")
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples asked at a time.")] = 8,
    max_new_tokens: Annotated[int, typer.Option(min=1, max=4096, help="Longest answer, in tokens.")] = 64,
    from_predictions: Annotated[
        Path | None, typer.Option(help="Score these answers (JSONL, `id` and `prediction`) instead of asking a model.")
    ] = None,
    blind_predictions: Annotated[Path | None, typer.Option(help="The same model's answers to blank pictures.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Folder for predictions, scores.json, report, PNGs. [default, if a model is asked: unirs-BENCHMARK]"
        ),
    ] = None,
    meteor: Annotated[bool, typer.Option(help="Score METEOR too: needs Java and ten seconds more.")] = True,
    as_json: Json = False,
) -> None:
    """Ask a model the questions of a benchmark and score it, beside majority, blind and published figures."""
    if base is not None and not clue:
        raise InputError("--base is the model that is asked for clues; add --clue")
    if blind_predictions is not None and from_predictions is None:
        raise InputError("--blind-predictions goes with --from-predictions; add --blind to ask the model")
    if from_predictions is not None and (model is not None or clue or blind):
        raise InputError("--from-predictions asks no model; leave --model, --clue and --blind away")
    quieten()  # before other libraries tell of themselves
    if output is not None and output.exists() and not output.is_dir():
        raise InputError(f"--output {output}: is a file; give a folder")
    settings: dict[str, Any] = {"command": sys.argv[1:], "limit": limit}
    try:
        if from_predictions is None:
            import unirs.evaluation.running  # noqa: F401
        from unirs.evaluation.ablation import without_clues
        from unirs.evaluation.benchmarks import load_benchmark
        from unirs.evaluation.report import write_report
        from unirs.evaluation.scoring import score
        from unirs.trainers.data_sets import DataError

        known = load_benchmark(benchmark, data, split, limit, metric, all_types)  # type: ignore[arg-type]
        if from_predictions is not None:
            predictions, blinds, problems = read(from_predictions, blind_predictions)
            settings |= {
                "subset": known.subset,
                "predictions": str(from_predictions),
                "blind_predictions": str(blind_predictions or "") or None,
            }
            if output is not None:
                check_kept(from_predictions, output)
        else:
            output = output or Path(f"unirs-{benchmark}")
            known = known if clue else without_clues(known)
            asked = ask(known, model, output, blind, clue, base, batch_size, max_new_tokens)
            if asked is None:  # not the first of several processes
                return
            predictions, blinds, run_settings = asked
            settings, problems = {**settings, **run_settings}, {}
        with busy("Scoring"):
            scores = score(known, predictions, blind=blinds, problems=problems, meteor=meteor)
            if output is not None:
                if from_predictions is not None:
                    keep(from_predictions, output)
                write_report(output, known, predictions, scores, settings)
    except ImportError as error:
        raise InputError(f"evaluation needs more packages ({error.name}): {install_command('evaluation')}") from error
    except DataError as error:
        raise InputError(str(error)) from error
    if as_json:
        typer.echo(json.dumps({"task": "evaluate", **scores}, ensure_ascii=False))
        return
    show(scores)
    if output is not None:
        typer.echo(f"Report: {output / 'report.html'}")


def read(file: Path, blind_file: Path | None) -> tuple[list[Any], list[Any] | None, dict[str, list[str]]]:
    """Others' predictions, and what was wrong with their files."""
    from unirs.evaluation.predictions import read_predictions

    predictions, problems = read_predictions(file)
    if blind_file is None:
        return predictions, None, problems
    blind, more = read_predictions(blind_file)
    return predictions, blind, problems | {f"blind: {kind}": lines for kind, lines in more.items()}


def ask(
    known: Benchmark,
    model: str | None,
    output: Path,
    blind: bool,
    clue: bool,
    base: str | None,
    batch_size: int,
    max_new_tokens: int,
) -> tuple[list[Any], list[Any] | None, dict[str, Any]] | None:
    """The model's answers, those to blank pictures, and all that is needed to repeat the run.

    None in every process but the first, of several.
    """
    from unirs.evaluation.ablation import all_have_clues, arm_of
    from unirs.evaluation.models import UniRS, load_model
    from unirs.evaluation.running import evaluation_process, run

    name = find_any_model(model)
    state = evaluation_process()
    with busy("Loading the model"):
        network = load_model(name, state.device)
        if clue and isinstance(network, UniRS):
            network.ask_for_clues(None if base is None else find_model(base, "--base"))
        elif clue and not all_have_clues(known):
            raise InputError(f"--clue: {name} is no UniRS model, and not every row has a clue (see unirs data clues)")
    answers = {}
    for what, is_blind in (("predictions", False), *((("blind", True),) if blind else ())):
        with counted("Asking" + " with blank pictures" * is_blind, unit="rows") as progress:
            answers[what] = run(
                known, network, output / f"{what}.jsonl", batch_size, max_new_tokens, is_blind, progress=progress
            )
    if not state.is_main_process:
        return None
    settings = json.loads((output / "predictions.settings.json").read_text(encoding="utf-8"))
    settings["clues"] = arm_of(name, clue)
    return answers["predictions"], answers.get("blind"), settings


def check_kept(predictions: Path, output: Path) -> None:
    """Other predictions that are there are not overwritten."""
    kept = output / "predictions.jsonl"
    if kept.exists() and kept.read_bytes() != predictions.read_bytes():
        raise InputError(f"{kept}: holds other predictions; give another --output")


def keep(predictions: Path, output: Path) -> None:
    """The predictions stand beside their scores as `predictions.jsonl`."""
    kept = output / "predictions.jsonl"
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
