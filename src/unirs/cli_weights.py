"""Commands about weights: `unirs convert`."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from .terminal import InputError, Json, counted


def convert(
    source: Annotated[Path, typer.Argument(help="Folder: VILA-1.5, released UniRS, a SigLIP tower, or UniRS.")],
    target: Annotated[Path, typer.Argument(help="Folder to make; it appears when it is complete.")],
    language_model: Annotated[
        Path | None, typer.Option(help="Folder of a causal language model, where SOURCE is a vision tower alone.")
    ] = None,
    change_extraction: Annotated[
        Path | None, typer.Option(help="File or folder of a trained Change Extraction to put in.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of weights that the source lacks.")] = 0,
    as_json: Json = False,
) -> None:
    """Turn weights in another layout into a UniRS folder. Nothing is left out or left random in silence."""
    for path in (source, language_model, change_extraction):
        if path is not None and not path.expanduser().exists():
            raise InputError(f"{path}: no such file or folder; check the path")
    from unirs.hub.convert import convert as run_conversion
    from unirs.hub.weight_files import WeightError

    with counted("Copying weights") as progress:
        try:
            report = run_conversion(source, target, language_model, change_extraction, seed, progress)
        except WeightError as error:
            raise InputError(str(error)) from error
    if as_json:
        typer.echo(json.dumps({"task": "convert", "target": str(target), **asdict(report)}, ensure_ascii=False))
        return
    typer.echo(f"{target}: {report.parameters:,} parameters from {report.source_format}, {report.used} tensors used")
    for title, names in (("left out", report.left_out), ("fresh", dict.fromkeys(report.fresh, ""))):
        for place, (count, reason) in by_module(names).items():
            typer.echo(f"  {title}: {place}{f' ({count} tensors)' if count > 1 else ''}{reason and f', {reason}'}")


def by_module(reasons: dict[str, str]) -> dict[str, tuple[int, str]]:
    """Tensors with a reason, counted by the module that they belong to: `{module: (count, reason)}`."""
    groups: dict[str, tuple[int, str]] = {}
    for name, reason in reasons.items():
        layer = re.match(r".*\blayers\.\d+(?=\.)", name)
        place = layer[0] if layer else ".".join(name.split(".")[:3])
        groups[place] = (groups.get(place, (0, ""))[0] + 1, reason)
    return groups
