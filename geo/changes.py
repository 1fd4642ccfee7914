"""Changed places as features: one for each changed tile, or one for each connected region of changed cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from rasterio.features import shapes
from shapely.geometry import MultiPolygon, Polygon, box, shape
from shapely.geometry.base import BaseGeometry

from .change_map import ChangeMap
from .footprints import Ground, polygons_of
from .journal import TileResult
from .tiles import Tile

EDGE = 4  # pieces of a tile's edge on the ground


@dataclass(frozen=True)
class Change:
    """Something that changed.

    Args:
        place: Polygon or MultiPolygon of (column, row) on the first date's grid, cut to where all dates have data.
        kind: "tile", "region", or "sequence" for what was said about all dates of a tile together.
        tiles: Ids; of a region all that it touches, the one whose caption it has first.
        score: Of the tile, or the mean of all cells of the region; None for a sequence.
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
                place = _with_data(tile_of[result.tile], result, change_map)
                found.append(Change(place, "tile", (result.tile,), result.scores[step], caption, *steps[step]))
    return found + sequences(change_map)


def sequences(change_map: ChangeMap) -> list[Change]:
    """What was said about all dates of a tile together."""
    labels, tile_of = change_map.scene.labels, change_map.tile_of
    return [
        Change(
            _with_data(tile_of[result.tile], result, change_map),
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
    """One change for each region of cells at or above the threshold that touch, be it at a corner, across tiles.

    Regions of tiles that have no caption are left out: their few cells did not make the tile pass.
    """
    found: list[Change] = []
    for step, (before, after) in enumerate(change_map.scene.steps):
        pieces = list(_pieces(change_map, step))
        if not pieces:
            continue
        joined = shapely.unary_union([piece.place for piece in pieces])
        tree = shapely.STRtree([piece.place.representative_point() for piece in pieces])
        for region in _touching(shapely.get_parts(joined)):
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


def at_least(area: float, changes: Sequence[Change], change_map: ChangeMap) -> list[Change]:
    """Those of at least so many square metres, or pixels where the dates have no place on the ground."""
    ground = ground_of(change_map)
    on_ground = ground.grid.crs is not None
    return [one for one in changes if (ground.area(one.place) if on_ground else one.place.area) >= area]


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
        "in_training_domain": composition.in_domain and change.kind != "sequence",
    }


def ground_of(change_map: ChangeMap) -> Ground:
    return Ground(change_map.scene.grid, change_map.scene.tiles[0].side / EDGE)


@dataclass(frozen=True)
class _Piece:
    """Connected changed cells of one tile; several pieces, of one score, where places without data part them."""

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
        with_data = _with_data(tile, result, change_map)
        for outline, _ in shapes(changed.astype(np.uint8), mask=changed):
            cells = shape(outline)  # in cells of the map
            place = shapely.transform(cells, lambda xy: xy * tile.side / len(values) + (tile.left, tile.top))  # noqa: B023
            score = float(values.ravel()[shapely.contains_xy(cells, *_centres(len(values)))].mean())
            for part in polygons_of(shapely.intersection(place, with_data)):
                yield _Piece(part, result.tile, score, result.captions[step])


def _centres(grid: int) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.mgrid[:grid, :grid] + 0.5
    return columns.ravel(), rows.ravel()


def _with_data(tile: Tile, result: TileResult, change_map: ChangeMap) -> BaseGeometry:
    """The part of a tile's square where all dates have data."""
    window = tile.inside(change_map.scene.grid)
    if result.data is None:
        return box(tile.left, tile.top, tile.left + window.width, tile.top + window.height)
    has_data = result.has_data(window)
    parts = [shape(outline) for outline, _ in shapes(has_data.astype(np.uint8), mask=has_data)]
    return shapely.transform(_together(parts), lambda xy: np.add(xy, (tile.left, tile.top)))


def _touching(parts: Sequence[Polygon]) -> list[BaseGeometry]:
    """Polygons that share no more than corners, those that do as one geometry."""
    neighbours: dict[int, list[int]] = {}
    for one, other in zip(*shapely.STRtree(parts).query(parts, predicate="intersects").tolist(), strict=True):
        neighbours.setdefault(one, []).append(other)
    found: list[BaseGeometry] = []
    seen: set[int] = set()
    for start in range(len(parts)):
        if start in seen:
            continue
        group = [start]
        seen.add(start)
        for one in group:  # it grows meanwhile
            new = [other for other in neighbours[one] if other not in seen]
            seen.update(new)
            group += new
        found.append(_together([parts[one] for one in group]))
    return found


def _together(polygons: Sequence[Polygon]) -> BaseGeometry:
    return polygons[0] if len(polygons) == 1 else MultiPolygon(polygons)
