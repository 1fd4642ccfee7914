"""Squares on BEFORE's grid that the model looks at one by one."""

from __future__ import annotations

from dataclasses import dataclass

from rasterio.windows import Window

from .coregistration import Grid
from .raster_files import RasterError

MAX_TILES = 2_000_000


@dataclass(frozen=True)
class Tile:
    """A square of `side` pixels; on a raster that is smaller it reaches over the right or lower edge."""

    row: int
    column: int
    left: int
    top: int
    side: int

    @property
    def id(self) -> str:
        return f"r{self.row:04d}c{self.column:04d}"

    def inside(self, grid: Grid) -> Window:
        """The part that lies on the grid."""
        return Window(
            self.left,
            self.top,
            min(self.side, grid.width - self.left),
            min(self.side, grid.height - self.top),
        )


def lay_tiles(grid: Grid, area: Window, side: int, overlap: int = 0) -> list[Tile]:
    """The tiles that cover an area of the grid, row by row.

    Tiles start at multiples of `side - overlap` from the grid's corner, wherever the area lies, so that the same place
    has the same tile. The last of a row or column is moved back onto the grid.

    Raises:
        RasterError: There are more than two million.
    """
    step = side - overlap
    columns = _starts(area.col_off, area.col_off + area.width, grid.width, side, step)
    rows = _starts(area.row_off, area.row_off + area.height, grid.height, side, step)
    if len(columns) * len(rows) > MAX_TILES:
        raise RasterError(f"{len(columns)} x {len(rows)} tiles are more than {MAX_TILES}; give a larger --tile")
    return [Tile(row, column, left, top, side) for row, top in rows for column, left in columns]


def _starts(first: int, end: int, length: int, side: int, step: int) -> list[tuple[int, int]]:
    """Number and place of each tile along one axis of `length` pixels, for those between `first` and `end`."""
    last = max(0, length - side)
    count = -(-last // step) + 1
    places = [(number, min(number * step, last)) for number in range(count)]
    return [(number, place) for number, place in places if place < end and place + side > first]
