"""Commands about weights: `unirs convert` and `unirs publish`."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .model_source import HUB_ID, find_model
from .terminal import InputError, Json, busy, counted, quieten

if TYPE_CHECKING:
    from unirs.hub.publish import Published


def convert(
    source: Annotated[
        Path,
        typer.Argument(help="Folder: VILA-1.5 or released UniRS; or SigLIP or UniRS, with an option."),
    ],
    target: Annotated[Path, typer.Argument(help="Folder to make; it appears when it is complete.")],
    language_model: Annotated[
        Path | None, typer.Option(help="Folder of a causal language model, where SOURCE is a vision tower alone.")
    ] = None,
    change_extraction: Annotated[
        Path | None, typer.Option(help="File or folder of a trained Change Extraction to put in.")
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="SOURCE is a UniRS folder: make its language model's matrices 8-bit.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights that the source lacks.")] = 0,
    as_json: Json = False,
) -> None:
    """Turn weights in another layout into a UniRS folder. Nothing is left out or left random in silence."""
    for path in (source, language_model, change_extraction):
        if path is not None and not path.expanduser().exists():
            raise InputError(f"{path}: no such file or folder; check the path")
    if int8:
        if language_model is not None or change_extraction is not None:
            raise InputError("--int8 takes a whole UniRS folder: put its parts together first, without --int8")
        show_quantized(source, target, as_json)
        return
    quieten()
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


def show_quantized(source: Path, target: Path, as_json: bool) -> None:
    quieten()
    with busy("Rounding weights"):
        from unirs.hub.quantize import quantize
        from unirs.hub.weight_files import WeightError

        try:
            size = quantize(source, target)
        except WeightError as error:
            raise InputError(str(error)) from error
    if as_json:
        typer.echo(json.dumps({"task": "convert", "target": str(target), "bytes": size}, ensure_ascii=False))
    else:
        typer.echo(f"{target}: {size / 2**20:,.0f} MB with int8 matrices; for speed compile it (docs/performance.md)")


def publish(
    model: Annotated[str | None, typer.Argument(help="Folder, hub id, `unirs-tiny`, or a LoRA adapter.")] = None,
    target: Annotated[Path | None, typer.Argument(help="Folder to make; without it MODEL is pushed as it is.")] = None,
    verify: Annotated[
        Path | None, typer.Option(help="Instead: tell which files of this published folder were changed.")
    ] = None,
    push: Annotated[str | None, typer.Option(metavar="OWNER/NAME", help="Upload the folder there.")] = None,
    private: Annotated[bool, typer.Option("--private", help="Make the repository private.")] = False,
    revision: Annotated[str | None, typer.Option(help="Branch to push to.", show_default="main")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what --push would upload.")] = False,
    check: Annotated[bool, typer.Option(help="Load the result without this package and compare its logits.")] = True,
    merge: Annotated[bool, typer.Option("--merge", help="Put a LoRA adapter into the weights.")] = False,
    base: Annotated[str | None, typer.Option(help="Base model, of an adapter or for the card.")] = None,
    evaluation: Annotated[
        Path | None, typer.Option(help="Scores for the card: scores.json of `unirs evaluate`.")
    ] = None,
    license_id: Annotated[
        str | None, typer.Option("--license", help="License of the weights, as the hub names it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a repository of a model that anyone loads with trust_remote_code=True, and push it if you like."""
    quieten()
    from unirs.hub.weight_files import WeightError

    try:
        if verify is not None:
            show_verified(verify, as_json)
        elif model is None or (target is None and not push):
            raise InputError("give MODEL and a folder to make, or --verify FOLDER")
        else:
            for option, given in (("--private", private), ("--revision", revision), ("--dry-run", dry_run)):
                if given and not push:
                    raise InputError(f"{option} says how to --push OWNER/NAME, which is not given")
            if push and not HUB_ID.fullmatch(push):
                raise InputError(f"--push {push}: a hub id is written OWNER/NAME")
            from unirs.hub.publish import check_base_is_on_the_hub, published_before
            from unirs.hub.publish import publish as make
            from unirs.hub.publish import push as upload

            if target is None:  # a push that was cut or refused is repeated
                target = Path(model).expanduser()
                made = published_before(target)
                check_base_is_on_the_hub(target, None)
            else:
                folder = model_folder(model)
                if push and not merge:
                    check_base_is_on_the_hub(folder, base)
                target = target.expanduser()
                with counted(
                    "Writing the repository", "Loading it as a stranger would" if check else None
                ) as progress:
                    made = make(
                        folder,
                        target,
                        name=push,
                        base=base,
                        merge=merge,
                        evaluation=evaluation,
                        license_id=license_id,
                        checked=check,
                        progress=progress,
                    )
            address = None
            if push and not dry_run:
                with busy(f"Uploading to {push}"):
                    address = upload(target, push, private, revision)
            show_published(made, target, push, dry_run, address, as_json)
    except WeightError as error:
        raise InputError(str(error)) from error


def model_folder(model: str) -> Path:
    """The folder of a model; a repository is fetched from the hub first."""
    name = find_model(model)
    if Path(name).is_dir():
        return Path(name)
    with busy(f"Fetching {name}"):
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(name))


def show_verified(folder: Path, as_json: bool) -> None:
    from unirs.hub.whole_folder import verify

    wrong = verify(folder.expanduser())
    if as_json:
        typer.echo(json.dumps({"task": "verify", "folder": str(folder), "wrong": wrong}, ensure_ascii=False))
    elif not wrong:
        typer.echo(f"{folder}: every file is as it was published")
    for name, what in ({} if as_json else wrong).items():
        typer.echo(f"{what}: {name}")
    if wrong:
        raise typer.Exit(1)


def show_published(
    made: Published, target: Path, push: str | None, dry_run: bool, address: str | None, as_json: bool
) -> None:
    if as_json:
        found = {"task": "publish", "target": str(target), "push": push, "dry_run": dry_run, "commit": address}
        typer.echo(json.dumps({**found, **asdict(made)}, ensure_ascii=False))
        return
    size = sum(made.files.values())
    parameters = f", {made.parameters:,} parameters" if made.parameters else ""
    typer.echo(f"{target}: {len(made.files)} files, {size / 1e6:,.1f} MB{parameters}")
    if made.difference is not None:
        typer.echo(f"  loads without the package; its logits differ by {made.difference:.1g} of their size")
    if dry_run:
        typer.echo(f"  would upload to {push}:")
        for name, count in made.files.items():
            typer.echo(f"    {count:>14,}  {name}")
    elif address:
        typer.echo(f"  uploaded: {address}")


def by_module(reasons: dict[str, str]) -> dict[str, tuple[int, str]]:
    """Tensors with a reason, counted by the module that they belong to: `{module: (count, reason)}`."""
    groups: dict[str, list[str]] = {}
    for name in reasons:
        layer = re.match(r".*\blayers\.\d+(?=\.)", name)
        place = layer[0] if layer else ".".join(name.split(".")[:3])
        groups.setdefault(place, []).append(name)
    return {
        (names[0] if len(names) == 1 else place): (len(names), reasons[names[0]]) for place, names in groups.items()
    }
