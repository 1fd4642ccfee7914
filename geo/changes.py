"""Changed places as features: one for each changed tile, or one for each connected region of changed cells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from rasterio.features import shapes
from shapely.geometry import box, shape
from shapely.geometry.base import BaseGeometry

from .change_map import ChangeMap
from .footprints import Ground
from .tiles import Tile

EDGE = 4  # pieces of a tile's edge on the ground


@dataclass(frozen=True)
class Change:
    """Something that changed.

    Args:
        place: Polygon of (column, row) on the first date's grid.
        kind: "tile", "region", or "sequence" for what was said about all dates of a tile together.
        tiles: Ids; of a region all that it touches, the one whose caption it has first.
        score: Of the tile, or the mean of the region's cells; None for a sequence.
        before, after: Dates or file names.
    """

    place: BaseGeometry
    kind: str
    tiles: tuple[str, ...]
    score: float | None
    caption: str
    before: str
    after: str


def tile_changes(change_map: ChangeMap) -> list[Change]:
    """One change for each step of each tile that has a caption."""
    tile_of, steps = change_map.tile_of, change_map.scene.steps
    found = []
    for result in change_map.results:
        for step, caption in enumerate(result.captions):
            if caption is not None:
                place = _square(tile_of[result.tile], change_map)
                found.append(Change(place, "tile", (result.tile,), result.scores[step], caption, *steps[step]))
    return found + sequences(change_map)


def sequences(change_map: ChangeMap) -> list[Change]:
    """What was said about all dates of a tile together."""
    labels, tile_of = change_map.scene.labels, change_map.tile_of
    return [
        Change(
            _square(tile_of[result.tile], change_map),
            "sequence",
            (result.tile,),
            None,
            result.sequence,
            labels[0],
            labels[-1],
        )
        for result in change_map.results
        if result.sequence is not None
    ]


def region_changes(change_map: ChangeMap) -> list[Change]:
    """One change for each connected region of cells at or above the threshold, across tiles.

    Regions of tiles that have no caption are left out: their few cells did not make the tile pass.
    """
    found: list[Change] = []
    for step, (before, after) in enumerate(change_map.scene.steps):
        pieces = list(_pieces(change_map, step))
        if not pieces:
            continue
        joined = shapely.unary_union([piece.place for piece in pieces])
        regions = shapely.get_parts(joined)
        tree = shapely.STRtree([piece.place.representative_point() for piece in pieces])
        for region in regions:
            inside = [pieces[index] for index in sorted(tree.query(region, predicate="intersects"))]
            told = [piece for piece in inside if piece.caption is not None]
            if not told:
                continue
            first = max(told, key=lambda piece: piece.place.area)
            others = {piece.tile for piece in inside} - {first.tile}
            weights = [piece.place.area for piece in inside]
            score = round(float(np.average([piece.score for piece in inside], weights=weights)), 4)
            tiles = (first.tile, *sorted(others))
            found.append(Change(region, "region", tiles, score, first.caption or "", before, after))
    found.sort(key=lambda one: (one.before, min(one.tiles), one.place.bounds))
    return found + sequences(change_map)


def properties(change: Change, ground: Ground, change_map: ChangeMap) -> dict[str, Any]:
    """What every output says about a change."""
    composition = change_map.scene.rendering.compositions[0]
    on_ground = ground.grid.crs is not None
    return {
        "kind": change.kind,
        "caption": change.caption,
        "score": change.score,
        "before": change.before,
        "after": change.after,
        "tile": change.tiles[0],
        "tiles": len(change.tiles),
        "area_m2": round(ground.area(change.place), 2) if on_ground else None,
        "area_pixels": round(change.place.area, 1),
        "composition": composition.kind,
        "in_training_domain": composition.in_domain,
    }


def ground_of(change_map: ChangeMap) -> Ground:
    return Ground(change_map.scene.grid, change_map.scene.tiles[0].side / EDGE)


@dataclass(frozen=True)
class _Piece:
    """Connected changed cells of one tile."""

    place: BaseGeometry
    tile: str
    score: float
    caption: str | None


def _pieces(change_map: ChangeMap, step: int) -> Iterator[_Piece]:
    tile_of = change_map.tile_of
    for result in change_map.results:
        if result.maps is None:
            continue
        values = result.values(step)  # (grid, grid)
        changed = np.nan_to_num(values, nan=-1.0) >= change_map.threshold
        if not changed.any():
            continue
        tile = tile_of[result.tile]
        for outline, _ in shapes(changed.astype(np.uint8), mask=changed):
            cells = shape(outline)  # in cells of the map
            place = shapely.transform(cells, lambda xy: xy * tile.side / len(values) + (tile.left, tile.top))  # noqa: B023
            place = shapely.intersection(place, _square(tile, change_map))
            if place.area:
                inside = shapely.contains_xy(cells, *_centres(len(values)))
                yield _Piece(place, result.tile, float(values.ravel()[inside].mean()), result.captions[step])


def _centres(grid: int) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.mgrid[:grid, :grid] + 0.5
    return columns.ravel(), rows.ravel()


def _square(tile: Tile, change_map: ChangeMap) -> BaseGeometry:
    window = tile.inside(change_map.scene.grid)
    return box(tile.left, tile.top, tile.left + window.width, tile.top + window.height)
