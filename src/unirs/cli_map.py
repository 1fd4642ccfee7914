"""`unirs map`: what changed between the dates of a large scene, where on the ground."""

from __future__ import annotations

import errno
import json
import os
import platform
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .extras import install_command
from .given import check_files, check_words, check_writable
from .map_outputs import notes_on, write
from .model_source import EMBEDDED, find_model, load_model
from .terminal import InputError, Json, busy, counted, plural, quieten

if TYPE_CHECKING:
    from unirs.geo.change_finder import ChangeFinder
    from unirs.geo.change_map import ChangeMap, Scene
    from unirs.geo.changes import Change

MOST_DATES = 64  # as frames of a clip


class StretchOption(StrEnum):
    """One stretch for all dates, or one for each."""

    JOINT = "joint"
    EACH = "each"


def map_scene(
    rasters: Annotated[
        list[str], typer.Argument(help="BEFORE and AFTER, or more dates in order; BEFORE's grid counts.")
    ],
    output: Annotated[Path, typer.Option(help="Changes, as .geojson, .gpkg or .parquet.")],
    heatmap: Annotated[Path | None, typer.Option(help="Write the change map to this GeoTIFF (COG).")] = None,
    preview: Annotated[Path | None, typer.Option(help="Write a picture with a legend to this PNG.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a map that opens in a browser, offline.")] = None,
    tile: Annotated[int, typer.Option(min=16, max=8192, help="Side of a tile in BEFORE's pixels.")] = 256,
    overlap: Annotated[int, typer.Option(min=0, help="Pixels that neighbouring tiles share.")] = 0,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Score from which a tile counts as changed.")] = 0.5,
    merge: Annotated[
        bool, typer.Option("--merge/--no-merge", help="Write regions of touching changed cells, or whole tiles.")
    ] = False,
    min_area: Annotated[
        float, typer.Option(min=0, max=1e15, help="Leave out what is smaller: square metres, or pixels with --pixel.")
    ] = 0,
    bands: Annotated[str | None, typer.Option(help="Red, green, blue by number or description, e.g. 4,3,2.")] = None,
    sar: Annotated[bool, typer.Option("--sar", help="The bands are SAR backscatter.")] = False,
    stretch: Annotated[
        StretchOption, typer.Option(help="How values become 8 bits: one stretch for all dates, or each its own.")
    ] = StretchOption.JOINT,
    crs: Annotated[
        str | None, typer.Option(help="CRS of files that have a world file alone, e.g. EPSG:32631.")
    ] = None,
    pixel: Annotated[
        bool, typer.Option("--pixel", help="Files of equal size show the same place pixel by pixel.")
    ] = False,
    shift: Annotated[
        bool, typer.Option("--shift", help="Estimate and report how far each date is displaced.")
    ] = False,
    dates: Annotated[
        str | None, typer.Option(help="Names of the dates, with commas.", show_default="from the files")
    ] = None,
    instruction: Annotated[str | None, typer.Option(help="What to say about a changed tile.")] = None,
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="Leave out tiles that cannot be read.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
    model: Annotated[
        str | None, typer.Option(help="Folder or hub id.", show_default="the embedded unirs-tiny")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, max=1024, help="Tiles looked at together.")] = 16,
    max_new_tokens: Annotated[int, typer.Option(min=1, max=4096, help="Longest caption, in tokens.")] = 64,
    as_json: Json = False,
) -> None:
    """Find what changed in a large scene: captions with places, a heat map, a map to look at.

    Every tile gets a change map; the language model describes those alone that pass the threshold.
    """
    check_files(rasters)
    if not 2 <= len(rasters) <= MOST_DATES:
        given = plural(len(rasters), "file")
        raise InputError(f"given {given}; a map needs two dates, and {MOST_DATES} at most")
    if overlap > tile // 2:
        raise InputError(f"--overlap {overlap}: is more than half of a tile of {tile} pixels")
    for words, option in ((instruction, "the instruction"), (dates, "--dates"), (bands, "--bands")):
        if words is not None:
            check_words(words, option)
    labels = None if dates is None else [one.strip() for one in dates.split(",")]
    if labels is not None and len(labels) != len(rasters):
        raise InputError(f"--dates {dates}: names {plural(len(labels), 'date')} for {len(rasters)} files")
    if labels is not None and (len(set(labels)) < len(labels) or "" in labels):
        raise InputError(f"--dates {dates}: give each date a name of its own")
    find_model(model)
    quieten()
    try:
        from unirs.geo.change_map import find_changes, look_at
        from unirs.geo.coregistration import open_dates
        from unirs.geo.journal import Journal
        from unirs.processing.image_loading_unirs import VisualInputError, local_path
    except ImportError as error:
        raise InputError(f"maps need more packages ({error.name}): {install_command('geo')}") from error

    reading: dict[str, Any] = {"bands": bands, "sar": sar, "crs": crs, "pixel": pixel}
    try:
        rasters = [local_path(one) for one in rasters]
        check_outputs(rasters, output, heatmap, preview, html)
        with open_dates(rasters, **reading) as aligned:
            with busy("Looking at the files"):
                scene = look_at(aligned, rasters, reading, tile, overlap, stretch.value, labels)
                notes = notes_on(aligned, scene, shift)
            if not as_json:
                for note in notes:
                    typer.echo(note, err=True)
            about = {
                "dates": scene.labels,
                "model": model or EMBEDDED,
                "tile": tile,
                "overlap": overlap,
                "threshold": threshold,
                "stretch": stretch.value,
                "notes": notes,
            }
            with busy("Loading the model"):
                finder = load_finder(model, threshold, instruction, max_new_tokens)
                settings = settings_of(scene, finder, model, about, batch_size)
                journal = Journal(output.with_name(f"{output.name}.journal"), settings, resume)
            with closing(journal):
                kept = sum(map(len, journal.batches.values()))
                if resume and not as_json:
                    of_all = f"{kept:,} of {plural(len(scene.tiles), 'tile')} were kept"
                    typer.echo(f"Going on: {of_all}." if kept else "No tile was kept: begun anew.", err=True)
                with counted("Looking at tiles", unit="tiles") as progress:
                    found = find_changes(scene, finder, journal, batch_size, skip_broken, progress, about)
                with busy("Writing"):
                    changes = write(found, aligned, merge, output, heatmap, preview, html, min_area)
                    journal.remove()
    except VisualInputError as error:
        raise InputError(str(error)) from error
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise InputError(f"{output}: no space is left on its disk; free some, and go on with --resume") from error
    outputs = {"output": output, "heatmap": heatmap, "preview": preview, "html": html}
    if as_json:
        told = {"task": "map", "model": model or EMBEDDED, "inputs": rasters, **outputs, "went_on_from": kept}
        told |= {**counts(found, changes, finder), "notes": notes}
        typer.echo(json.dumps(told, ensure_ascii=False, default=str))  # paths
    else:
        tell(found, changes, finder, outputs)


def check_outputs(
    rasters: list[str], output: Path, heatmap: Path | None, preview: Path | None, html: Path | None
) -> None:
    """Wrong names are told before hours of work, and no input is written over."""
    from unirs.geo.vector_files import VECTOR_ENDINGS

    wanted = (
        ("--output", output, VECTOR_ENDINGS),
        ("--heatmap", heatmap, (".tif", ".tiff")),
        ("--preview", preview, (".png",)),
        ("--html", html, (".html", ".htm")),
    )
    for option, path, endings in wanted:
        if path is None:
            continue
        if path.suffix.lower() not in endings:
            raise InputError(f"{option} {path}: give a name that ends in {', '.join(endings)}")
        check_words(str(path), option)
        if path.exists() and any(path.samefile(one) for one in rasters if os.path.exists(one)):
            raise InputError(f"{option} {path}: is one of the dates; give another name")
        check_writable(path)


def load_finder(model: str | None, threshold: float, instruction: str | None, max_new_tokens: int) -> ChangeFinder:
    """The model, on the accelerator where there is one."""
    import torch

    from unirs.geo.change_finder import ChangeFinder

    network, processor = load_model(model)
    if torch.accelerator.is_available():
        network.to(torch.accelerator.current_accelerator())
    return ChangeFinder(network, processor, threshold, instruction, max_new_tokens=max_new_tokens)


def settings_of(
    scene: Scene, finder: ChangeFinder, model: str | None, about: dict[str, Any], batch_size: int
) -> dict[str, Any]:
    """All that what is found in a tile depends on: a run that was stopped goes on with the same alone."""
    import rasterio
    import torch
    import transformers

    from unirs import __version__
    from unirs.evaluation.model_hash import model_hash

    return {
        "files": [[os.path.abspath(one), os.stat(one).st_size, os.stat(one).st_mtime_ns] for one in scene.sources],
        "reading": scene.reading,
        "stretch": [vars(one) for one in scene.rendering.stretches],
        # world files and CRS beside the files count too
        "grids": [scene.grid.to_json(), *scene.placed],
        "tile": about["tile"],
        "overlap": about["overlap"],
        "dates": scene.labels,
        "threshold": finder.threshold,
        "model": model_hash(find_model(model)),
        "instruction": finder.instruction,
        "options": finder.options,
        "batch_size": batch_size,
        # Another library or machine may round otherwise, and the halves of the map would not fit together.
        "made_with": [
            __version__,
            torch.__version__,
            transformers.__version__,
            rasterio.__gdal_version__,
            str(finder.network.device),
            platform.machine(),
        ],
    }


def counts(found: ChangeMap, changes: list[Change], finder: ChangeFinder) -> dict[str, Any]:
    """How much changed, what was skipped, and what the two passes spared."""
    seen = [result for result in found.results if result.maps is not None]
    broken = [result.tile for result in found.results if result.broken]
    pairs = sum(len(result.scores) for result in seen)
    passed = sum(caption is not None for result in seen for caption in result.captions)
    each = finder.caption_seconds / finder.captions_made if finder.captions_made else None
    sequences = sum(change.kind == "sequence" for change in changes)
    return {
        "tiles": len(found.results),
        "changed_tiles": sum(any(caption is not None for caption in result.captions) for result in seen),
        "without_data": len(found.results) - len(seen) - len(broken),
        "broken": broken,
        "pairs_of_tiles": pairs,
        "captioned": passed,
        "changes": len(changes) - sequences,
        "sequences": sequences,
        "seconds_saved": None if each is None else round(each * (pairs - passed), 1),
    }


def tell(found: ChangeMap, changes: list[Change], finder: ChangeFinder, outputs: dict[str, Path | None]) -> None:
    """The same in words."""
    for result in found.results:
        if result.broken:
            typer.echo(f"Left out: tile {result.tile}: {result.broken}", err=True)
    known, steps = counts(found, changes, finder), len(found.scene.steps)
    looked_at = known["tiles"] - known["without_data"] - len(known["broken"])
    over = f" in {steps} steps" if steps > 1 else ""
    together = f", {plural(known['sequences'], 'caption')} of all dates together" if steps > 1 else ""
    typer.echo(
        f"{plural(known['changes'], 'change')}{over} from {known['changed_tiles']:,} of {plural(looked_at, 'tile')}"
        f"{together}: {outputs['output']}"
    )
    pairs, saved = known["pairs_of_tiles"], known["seconds_saved"]
    spared = pairs - known["captioned"]
    if spared:
        time = "" if saved is None else f", {_duration(saved)} of its time"
        what = plural(spared, "pair") + " of tiles" if steps > 1 else plural(spared, "tile")
        typer.echo(f"The language model was spared {what} ({spared / pairs:.0%}){time}.", err=True)
    for name, path in outputs.items():
        if path is not None and name != "output":
            typer.echo(f"Written: {path}", err=True)


def _duration(seconds: float) -> str:
    return (
        "less than a second"
        if seconds < 1
        else f"about {seconds:.0f} s"
        if seconds < 90
        else f"about {seconds / 60:.0f} min"
        if seconds < 5400
        else f"about {seconds / 3600:.1f} h"
    )
