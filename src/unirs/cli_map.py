"""`unirs map`: what changed between the dates of a large scene, where on the ground."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .given import check_files, check_words, check_writable
from .model_source import EMBEDDED, find_model, load_model
from .terminal import InputError, Json, busy, counted, quieten

if TYPE_CHECKING:
    from unirs.geo.change_finder import ChangeFinder
    from unirs.geo.change_map import ChangeMap, Scene
    from unirs.geo.changes import Change
    from unirs.geo.coregistration import AlignedDates

MOST_DATES = 64  # as frames of a clip
SHOWN = 2048  # pixels a side of each date on the page; one of two dates has about 2 MB


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
        bool, typer.Option("--merge/--no-merge", help="Connected regions of changed cells, or whole tiles.")
    ] = False,
    bands: Annotated[str | None, typer.Option(help="Red, green, blue by number or description, e.g. 4,3,2.")] = None,
    sar: Annotated[bool, typer.Option("--sar", help="The bands are SAR backscatter.")] = False,
    stretch: Annotated[StretchOption, typer.Option(help="Values to 8 bits: all dates alike, or each by itself.")] = (
        StretchOption.JOINT
    ),
    crs: Annotated[
        str | None, typer.Option(help="CRS of files that have a world file alone, e.g. EPSG:32631.")
    ] = None,
    pixel: Annotated[
        bool, typer.Option("--pixel", help="Files of equal size show the same place pixel by pixel.")
    ] = False,
    shift: Annotated[bool, typer.Option("--shift", help="Estimate how far each date lies beside BEFORE.")] = False,
    dates: Annotated[
        str | None, typer.Option(help="Names of the dates, with commas. [default: from the files]")
    ] = None,
    instruction: Annotated[str | None, typer.Option(help="What to say about a changed tile.")] = None,
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="Leave out tiles that cannot be read.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
    model: Annotated[str | None, typer.Option(help="Folder or hub id. [default: the embedded unirs-tiny]")] = None,
    batch_size: Annotated[int, typer.Option(min=1, max=1024, help="Tiles looked at together.")] = 16,
    max_new_tokens: Annotated[int, typer.Option(min=1, max=4096, help="Longest caption, in tokens.")] = 64,
    as_json: Json = False,
) -> None:
    """Find what changed in a large scene: captions with places, a heat map, a map to look at.

    Every tile gets a change map; the language model describes those alone that pass the threshold.
    """
    check_files(rasters)
    if not 2 <= len(rasters) <= MOST_DATES:
        raise InputError(f"{len(rasters)} files are given; a map needs two dates, and {MOST_DATES} at most")
    if overlap > tile // 2:
        raise InputError(f"--overlap {overlap}: is more than half of a tile of {tile} pixels")
    if instruction is not None:
        check_words(instruction, "the instruction")
    labels = None if dates is None else [one.strip() for one in dates.split(",")]
    if labels is not None and len(labels) != len(rasters):
        raise InputError(f"--dates names {len(labels)} dates for {len(rasters)} files")
    find_model(model)
    quieten()
    try:
        from unirs.geo.change_map import look_at
        from unirs.geo.coregistration import open_dates
        from unirs.geo.raster_files import RasterError
    except ImportError as error:
        raise InputError(f"maps need more packages ({error.name}): pip install 'unirs[geo]'") from error
    check_outputs(rasters, output, heatmap, preview, html)

    reading: dict[str, Any] = {"bands": bands, "sar": sar, "crs": crs, "pixel": pixel}
    try:
        with open_dates(rasters, **reading) as aligned:
            with busy("Looking at the files"):
                scene = look_at(aligned, rasters, reading, tile, overlap, stretch.value, labels)
                notes = notes_on(aligned, scene, shift)
            if not as_json:
                for note in notes:
                    typer.echo(note, err=True)
            options = {"max_new_tokens": max_new_tokens}
            found, finder, journal = find(
                scene, model, threshold, instruction, options, batch_size, skip_broken, resume, output, notes
            )
            with closing(journal), busy("Writing"):
                changes = write(found, aligned, merge, output, heatmap, preview, html)
                journal.remove()
    except RasterError as error:
        raise InputError(str(error)) from error
    tell(found, changes, finder, model, rasters, output, as_json, [heatmap, preview, html])


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
        if path.exists() and any(os.path.samefile(path, one) for one in rasters):
            raise InputError(f"{option} {path}: is one of the dates; give another name")
        check_writable(path)


def notes_on(aligned: AlignedDates, scene: Scene, shift: bool) -> list[str]:
    """What a reader of the map should know about its making."""
    from unirs.geo.shift import estimate_shift

    compositions = dict(zip(aligned.names, scene.rendering.compositions, strict=True))
    if len({one.described for one in compositions.values()}) == 1:
        notes = [f"Shown to the model: {scene.rendering.compositions[0].described}."]
    else:
        notes = [f"Shown to the model of {name}: {one.described}." for name, one in compositions.items()]
    if not scene.rendering.compositions[0].in_domain:  # all are of one kind
        notes.append("The model was trained on RGB: what it says about these data is outside of its training.")
    area, grid = aligned.overlap, aligned.grid
    share = area.width * area.height / (grid.width * grid.height)
    if share < 1:
        notes.append(f"All dates show {share:.0%} of the first one's extent.")
    for number, date in enumerate(aligned.dates):
        if date.warped:
            notes.append(f"{date.raster.name} is warped onto the first date's grid.")
        if not shift or number == 0:
            continue
        found = estimate_shift(aligned, number)
        if found is None:
            notes.append(f"Shift of {date.raster.name}: cannot be told, too little in it agrees with the first date.")
        else:
            notes.append(
                f"Shift of {date.raster.name} against the first date: {found.east:+.2f} pixels to the right, "
                f"{found.south:+.2f} down (within {found.spread:.2f} in {found.patches[0]} of "
                f"{found.patches[1]} patches)."
            )
    return notes


def find(
    scene: Scene,
    model: str | None,
    threshold: float,
    instruction: str | None,
    options: dict[str, Any],
    batch_size: int,
    skip_broken: bool,
    resume: bool,
    output: Path,
    notes: list[str],
) -> tuple[ChangeMap, ChangeFinder, Any]:
    """Loads the model, goes over the tiles, and gives the journal back, which is kept until all is written."""
    import rasterio
    import torch
    import transformers

    from unirs import __version__
    from unirs.evaluation.model_hash import model_hash
    from unirs.geo.change_finder import ChangeFinder
    from unirs.geo.change_map import find_changes
    from unirs.geo.journal import Journal

    with busy("Loading the model"):
        network, processor = load_model(model)
        if torch.accelerator.is_available():
            network.to(torch.accelerator.current_accelerator())
        finder = ChangeFinder(network, processor, threshold, instruction, **options)
        about = {
            "dates": scene.labels,
            "model": model or EMBEDDED,
            "tile": scene.tiles[0].side,
            "threshold": threshold,
            "notes": notes,
        }
        settings = {
            "files": [[os.path.abspath(one), os.stat(one).st_size, os.stat(one).st_mtime_ns] for one in scene.sources],
            "reading": scene.reading,
            "stretch": [vars(one) for one in scene.rendering.stretches],
            # world files and CRS beside the files count too
            "grids": [scene.grid.to_json(), *scene.placed],
            "tiles": [scene.tiles[0].side, hashlib.sha256(repr(scene.tiles).encode()).hexdigest()],
            "dates": scene.labels,
            "threshold": threshold,
            "model": model_hash(find_model(model)),
            "instruction": finder.instruction,
            "options": options,
            "batch_size": batch_size,
            "skip_broken": skip_broken,
            # Another library or machine may round otherwise, and the halves of the map would not fit together.
            "made_with": [
                __version__,
                torch.__version__,
                transformers.__version__,
                rasterio.__gdal_version__,
                str(network.device),
                platform.machine(),
            ],
        }
        journal = Journal(output.with_name(f"{output.name}.journal"), settings, resume)
    try:
        with counted("Looking at tiles", unit="tiles") as progress:
            return find_changes(scene, finder, journal, batch_size, skip_broken, progress, about), finder, journal
    except BaseException:
        journal.close()
        raise


def write(
    found: ChangeMap,
    aligned: AlignedDates,
    merge: bool,
    output: Path,
    heatmap: Path | None,
    preview: Path | None,
    html: Path | None,
) -> list[Change]:
    """Writes all outputs, each whole or not at all; returns the changes."""
    from unirs.geo.changes import region_changes, tile_changes
    from unirs.geo.heatmap import write_heatmap
    from unirs.geo.vector_files import write_changes

    broken = [result.tile for result in found.results if result.broken]
    if broken:
        found.about["broken_tiles"] = broken
    changes = region_changes(found) if merge else tile_changes(found)
    write_changes(changes, found, output)
    if heatmap is not None:
        write_heatmap(found, heatmap)
    if preview is None and html is None:
        return changes
    from .map_page import write_page
    from .map_preview import dates_small, write_preview

    pictures = dates_small(found, aligned, SHOWN)
    if preview is not None:
        write_preview(found, changes, pictures[-1], preview)
    if html is not None:
        write_page(found, changes, pictures, html)
    return changes


def tell(
    found: ChangeMap,
    changes: list[Change],
    finder: ChangeFinder,
    model: str | None,
    rasters: list[str],
    output: Path,
    as_json: bool,
    others: list[Path | None],
) -> None:
    """How much changed, what was skipped, and what the two passes spared."""
    seen = [result for result in found.results if result.maps is not None]
    pairs = sum(len(result.scores) for result in seen)
    passed = sum(caption is not None for result in seen for caption in result.captions)
    broken = [result for result in found.results if result.broken]
    each = finder.caption_seconds / finder.captions_made if finder.captions_made else None
    saved = None if each is None else each * (pairs - passed)
    if as_json:
        counts = {
            "tiles": len(found.results),
            "without_data": len(found.results) - len(seen) - len(broken),
            "broken": [result.tile for result in broken],
            "pairs_of_tiles": pairs,
            "captioned": passed,
            "changes": len(changes),
            "seconds_saved": None if saved is None else round(saved, 1),
        }
        shown = {"task": "map", "model": model or EMBEDDED, "inputs": rasters, "output": str(output), **counts}
        typer.echo(json.dumps({**shown, "notes": found.about["notes"]}, ensure_ascii=False))
        return
    for result in broken:
        typer.echo(f"Left out: tile {result.tile}: {result.broken}", err=True)
    typer.echo(f"{len(changes):,} changes from {passed:,} of {pairs:,} tiles: {output}")
    if pairs > passed:
        time = "" if saved is None else f", about {_duration(saved)} of its time"
        typer.echo(
            f"The language model was spared {pairs - passed:,} tiles ({(pairs - passed) / pairs:.0%}){time}.", err=True
        )
    for path in others:
        if path is not None:
            typer.echo(f"Written: {path}", err=True)


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )
