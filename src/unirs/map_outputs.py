"""What a map is handed over as: notes on its making, and its files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unirs.geo.change_map import ChangeMap, Scene
    from unirs.geo.changes import Change
    from unirs.geo.coregistration import AlignedDates

SHOWN = 2048  # pixels a side of each date on the page; one of two dates has about 2 MB


def notes_on(aligned: AlignedDates, scene: Scene, shift: bool) -> list[str]:
    """What a reader of the map should know about its making."""
    from unirs.geo.shift import estimate_shift

    from .picture_files import notes_on_bands

    notes = notes_on_bands(aligned.names, scene.rendering.compositions)
    if len(scene.labels) > 2:
        notes.append(
            "What is said about all dates together (kind: sequence) is outside of the model's training: it knows "
            "frames from clips of scenes alone."
        )
    area, grid = aligned.overlap, aligned.grid
    share = area.width * area.height / (grid.width * grid.height)
    if share < 1:
        notes.append(f"All dates show at most {math.ceil(100 * share - 1e-9)}% of the first one's extent.")
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


def write(
    found: ChangeMap,
    aligned: AlignedDates,
    merge: bool,
    output: Path,
    heatmap: Path | None,
    preview: Path | None,
    html: Path | None,
    min_area: float = 0,
) -> list[Change]:
    """Writes all outputs, each whole or not at all; returns the changes."""
    from unirs.geo.changes import at_least, region_changes, tile_changes
    from unirs.geo.heatmap import write_heatmap
    from unirs.geo.vector_files import write_changes

    broken = [result.tile for result in found.results if result.broken]
    if broken:
        found.about["broken_tiles"] = broken
    found.about.update(merge=merge, min_area=min_area)
    changes = region_changes(found) if merge else tile_changes(found)
    if min_area:
        changes = at_least(min_area, changes, found)
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
