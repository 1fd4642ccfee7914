"""A whole scene: tiles read ahead, looked at, kept in the journal, and together a change map."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from .change_finder import ChangeFinder
from .coregistration import AlignedDates, Grid, open_dates
from .footprints import Ground
from .journal import Journal, TileResult
from .raster_files import Raster
from .rgb import Rendering, StretchMode, make_rendering
from .tile_reader import TileBatch, TileReader, read_ahead
from .tiles import Tile, lay_tiles

ISO_DATE = re.compile(r"(?<!\d)(\d{4})[-_.]?(\d{2})[-_.]?(\d{2})(?!\d)")

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Scene:
    """Dates of one place, and all that is the same for every tile."""

    sources: Sequence[str]
    reading: dict[str, Any]  # of `open_dates`
    grid: Grid
    rendering: Rendering
    tiles: list[Tile]
    labels: list[str]  # a date, or the file's name
    placed: list[str]  # where each date lies, by its own georeference

    @property
    def steps(self) -> list[tuple[str, str]]:
        """What stands before and after in each step."""
        return list(zip(self.labels[:-1], self.labels[1:], strict=True))


@dataclass(frozen=True)
class ChangeMap:
    """What was found in every tile of a scene."""

    scene: Scene
    threshold: float
    results: list[TileResult]
    about: dict[str, Any] = field(default_factory=dict)  # how it was made, for the outputs

    @property
    def tile_of(self) -> dict[str, Tile]:
        return {tile.id: tile for tile in self.scene.tiles}


def look_at(
    aligned: AlignedDates,
    sources: Sequence[str | os.PathLike],
    reading: dict[str, Any],
    tile: int,
    overlap: int = 0,
    stretch: StretchMode = "joint",
    labels: Sequence[str] | None = None,
) -> Scene:
    """Find the stretch, lay the tiles, name the dates.

    Args:
        aligned: The opened dates, by `open_dates(sources, **reading)`.
        tile: Pixels a side, on the first date's grid.
        overlap: Pixels that neighbouring tiles share.
        labels: What to call the dates; by default as `labels_of` does.

    Raises:
        RasterError: The dates cannot be stretched together, or their grid has no place on the ground.
    """
    if aligned.grid.crs is not None:
        Ground(aligned.grid, math.inf).check(aligned.names[0])
    tiles = lay_tiles(aligned.grid, aligned.overlap, tile, overlap)
    named = list(labels) if labels else labels_of([one.raster for one in aligned.dates])
    rendering = make_rendering(aligned, stretch)
    placed = [f"{one.raster.crs} {tuple(one.raster.transform or ())} {one.raster.size}" for one in aligned.dates]
    return Scene([os.fspath(source) for source in sources], reading, aligned.grid, rendering, tiles, named, placed)


def find_changes(
    scene: Scene,
    finder: ChangeFinder,
    journal: Journal,
    batch_size: int,
    skip_broken: bool = False,
    progress: Progress = lambda done, total: None,
    about: dict[str, Any] | None = None,
) -> ChangeMap:
    """Look at every tile that the journal does not have yet.

    Raises:
        RasterError: A tile is broken, and that was not allowed; what was found before stays in the journal. Or there
            are more dates than the model reads.
    """
    finder.check(len(scene.sources))
    starts = range(0, len(scene.tiles), batch_size)
    batches = {number: scene.tiles[start : start + batch_size] for number, start in enumerate(starts)}
    reader = TileReader(scene.rendering, finder.processor.image_processor, finder.grid, skip_broken)

    def read() -> Iterator[TileBatch]:
        # A thread of its own needs datasets of its own.
        with open_dates(scene.sources, **scene.reading) as aligned:
            for number, tiles in batches.items():
                if number not in journal.batches:
                    yield reader.batch(aligned, number, tiles)

    done = sum(len(batches[number]) for number in journal.batches)
    progress(done, len(scene.tiles))
    for batch in read_ahead(read):
        journal.add(batch.number, finder.find(batch))
        done += len(batch.tiles)
        progress(done, len(scene.tiles))
    results = [result for number in batches for result in journal.batches[number]]
    return ChangeMap(scene, finder.threshold, results, about or {})


def labels_of(rasters: Sequence[Raster]) -> list[str]:
    """A name for each date, by the first way that tells them apart: `label_of`, the file's name, its folder's too."""
    paths = [Path(os.path.abspath(raster.name)) for raster in rasters]
    labels = [label_of(raster) for raster in rasters]
    for others in ([path.stem for path in paths], [f"{path.parent.name}/{path.stem}" for path in paths]):
        if len(set(labels)) == len(labels):
            break
        labels = others
    return labels


def label_of(raster: Raster) -> str:
    """The day in the file's name, else in its TIFF tag (often the day of processing), else the name itself."""
    name = Path(raster.name).stem
    for text in (name, raster.dataset.tags().get("TIFFTAG_DATETIME", "").replace(":", "-")):
        for found in ISO_DATE.finditer(text):
            try:
                return date(*map(int, found.groups())).isoformat()
            except ValueError:
                continue
    return name
