"""The map tab: `unirs map` on two uploaded rasters, with the model that is loaded."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from unirs.geo import RasterError, open_dates
from unirs.geo.change_finder import ChangeFinder
from unirs.geo.change_map import find_changes, labels_of, look_at
from unirs.geo.changes import Change, ground_of
from unirs.geo.journal import Journal
from unirs.map_outputs import notes_on, write

from .uploads import known, readable

if TYPE_CHECKING:
    from unirs.geo.raster_files import Raster

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


@dataclass(frozen=True)
class MapSettings:
    """Args:
    tile: Side of a tile, in pixels of the earlier date.
    threshold: Score from which a tile counts as changed.
    merge: Outline what changed, not whole tiles.
    pixel: Files of equal size show the same place pixel by pixel.
    """

    tile: int = 256
    threshold: float = 0.5
    merge: bool = True
    pixel: bool = False


def map_scene(
    finder: ChangeFinder,
    rasters: Sequence[Path],
    folder: Path,
    settings: MapSettings,
    progress: Callable[[int, int], None],
) -> SceneMap:
    """Args:
        folder: Gets a folder with the files of the map; nothing stays there where the map fails.
        progress: Told the tiles that are done, and how many there are. What it raises ends the map.

    Raises:
        InputError: The rasters do not make a pair.
    """
    place = Path(tempfile.mkdtemp(prefix="map-", dir=folder))
    try:
        return _map_scene(finder, rasters, place, settings, progress)
    except BaseException as error:
        shutil.rmtree(place)
        if isinstance(error, RasterError):
            raise readable(error, rasters) from error
        raise


def _map_scene(
    finder: ChangeFinder,
    rasters: Sequence[Path],
    place: Path,
    settings: MapSettings,
    progress: Callable[[int, int], None],
) -> SceneMap:
    sources = [str(path) for path in rasters]
    reading: dict[str, Any] = {"bands": None, "sar": False, "crs": None, "pixel": settings.pixel}
    output, heatmap, preview, page = (
        place / name for name in ("changes.geojson", "change.tif", "map.png", "map.html")
    )
    with open_dates(sources, **reading) as aligned:
        labels = _labels([one.raster for one in aligned.dates], rasters)
        scene = look_at(aligned, sources, reading, settings.tile, labels=labels)
        notes = [known(note, rasters) for note in notes_on(aligned, scene, shift=False)]
        about = {
            "dates": scene.labels,
            "tile": settings.tile,
            "overlap": 0,
            "threshold": settings.threshold,
            "stretch": "joint",
            "notes": notes,
        }
        with closing(Journal(place / "journal", {}, resume=False)) as journal:
            found = find_changes(scene, finder, journal, BATCH, progress=progress, about=about)
            changes = write(found, aligned, settings.merge, output, heatmap, preview, page)
            journal.remove()
    ground = ground_of(found) if scene.grid.crs is not None else None
    areas = [None if ground is None else ground.area(change.place) for change in changes]
    with Image.open(preview) as drawn:
        drawn.load()
    preview.unlink()
    return SceneMap(drawn, [output, heatmap, page], changes, areas, notes)


def _labels(dates: Sequence[Raster], rasters: Sequence[Path]) -> list[str]:
    """Two files of one name are told apart by their order, not by the server's folders."""
    labels = labels_of(dates)
    if any(f"{path.parent.name}/" in label for path, label in zip(rasters, labels, strict=True)):
        return [f"{path.stem}, {which}" for path, which in zip(rasters, ("before", "after"), strict=True)]
    return labels
