"""The map tab: `unirs map` on two uploaded rasters, with the model that is loaded."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from unirs.cli_map import notes_on, write
from unirs.geo import RasterError, open_dates
from unirs.geo.change_finder import ChangeFinder
from unirs.geo.change_map import find_changes, look_at
from unirs.geo.changes import Change, ground_of
from unirs.geo.journal import Journal
from unirs.terminal import InputError

BATCH = 16  # tiles looked at together


@dataclass(frozen=True)
class SceneMap:
    """Args:
    preview: The later date with the change map over it, changes outlined, and a legend.
    files: GeoJSON, heat map, and a page to pan and zoom.
    changes, areas: What changed, with square metres where the dates lie on the ground.
    notes: How the map was made.
    """

    preview: Image.Image
    files: list[Path]
    changes: list[Change]
    areas: list[float | None]
    notes: list[str]


def map_scene(
    network: Any,
    processor: Any,
    rasters: Sequence[Path],
    folder: Path,
    tile: int,
    threshold: float,
    merge: bool,
    pixel: bool,
    new_tokens: int,
    progress: Callable[[int, int], None],
) -> SceneMap:
    """Args:
        folder: Gets a folder with the files of the map.
        progress: Told the tiles that are done, and how many there are.

    Raises:
        InputError: The rasters do not make a pair.
    """
    sources = [str(path) for path in rasters]
    reading: dict[str, Any] = {"bands": None, "sar": False, "crs": None, "pixel": pixel}
    place = Path(tempfile.mkdtemp(prefix="map-", dir=folder))
    output, heatmap, preview, page = (
        place / name for name in ("changes.geojson", "change.tif", "map.png", "map.html")
    )
    try:
        with open_dates(sources, **reading) as aligned:
            scene = look_at(aligned, sources, reading, tile)
            notes = notes_on(aligned, scene, shift=False)
            finder = ChangeFinder(network, processor, threshold, max_new_tokens=new_tokens)
            about = {"dates": scene.labels, "tile": tile, "threshold": threshold, "notes": notes}
            with closing(Journal(place / "journal", {}, resume=False)) as journal:
                found = find_changes(scene, finder, journal, BATCH, progress=progress, about=about)
                changes = write(found, aligned, merge, output, heatmap, preview, page)
                journal.remove()
    except RasterError as error:
        sentence = str(error)
        for path in rasters:
            sentence = sentence.replace(f"{path.parent}/", "")
        raise InputError(f"{sentence.rstrip('.')}.") from error
    ground = ground_of(found) if scene.grid.crs is not None else None
    areas = [None if ground is None else ground.area(change.place) for change in changes]
    with Image.open(preview) as drawn:
        drawn.load()
    preview.unlink()
    return SceneMap(drawn, [output, heatmap, page], changes, areas, notes)
