"""Tiles of all dates, read and made ready for the model in a thread of its own while the model is busy."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image

from .coregistration import AlignedDates
from .journal import packed
from .raster_files import RasterError
from .rgb import NO_DATA, Rendering
from .tiles import Tile

AHEAD = 2  # batches that wait for the model
HALF = 0.5  # of a cell's pixels must have data

Item = TypeVar("Item")


@dataclass
class TileBatch:
    """Tiles that are looked at together.

    Args:
        number: Of the batch.
        tiles: All of them, in order.
        shown: Those of `tiles` that have pixels.
        pixels: `(shown, dates, 3, H, W)`.
        cells: `(shown, grid, grid)`: which cells of the change map have data at all dates.
        data: Of each of `shown`, which pixels on the grid have data at all dates, by `packed`.
        broken: What could not be read, and why, by tile id.
    """

    number: int
    tiles: Sequence[Tile]
    shown: list[Tile] = field(default_factory=list)
    pixels: torch.Tensor | None = None
    cells: np.ndarray | None = None
    data: list[bytes | None] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)


class TileReader:
    """Reads batches of tiles.

    Args:
        image_processor: The model's, which makes pixels of pictures.
        grid: Cells a side of the model's change map.
        skip_broken: Note tiles that cannot be read, instead of stopping there.
    """

    def __init__(self, rendering: Rendering, image_processor: Any, grid: int, skip_broken: bool):
        self.rendering = rendering
        self.image_processor = image_processor
        self.grid = grid
        self.skip_broken = skip_broken

    def batch(self, aligned: AlignedDates, number: int, tiles: Sequence[Tile]) -> TileBatch:
        """Raises `RasterError` where a tile is broken and that was not allowed."""
        batch = TileBatch(number, tiles)
        pixels, cells = [], []  # made tile by tile: pictures of a whole batch of large tiles would fill memory
        for tile in tiles:
            try:
                dates, valid = self.tile(aligned, tile)
            except RasterError as error:
                if not self.skip_broken:
                    raise RasterError(
                        f"tile {tile.id}: {error}; --resume --skip-broken leaves such tiles out"
                    ) from error
                batch.broken[tile.id] = str(error)
                continue
            if not valid.any():
                continue
            batch.shown.append(tile)
            pictures = [Image.fromarray(one) for one in dates]
            pixels.append(self.image_processor(pictures, return_tensors="pt")["pixel_values"])  # (dates, 3, H, W)
            cells.append(valid_cells(valid, self.grid))
            window = tile.inside(aligned.grid)
            batch.data.append(packed(valid[: window.height, : window.width]))
        if batch.shown:
            batch.pixels, batch.cells = torch.stack(pixels), np.stack(cells)
        return batch

    def tile(self, aligned: AlignedDates, tile: Tile) -> tuple[np.ndarray, np.ndarray]:
        """A tile's dates, `(dates, side, side, 3)` bytes, and where all are valid, `(side, side)`."""
        window = tile.inside(aligned.grid)
        dates, valid = self.rendering.read(aligned, window)
        right, bottom = tile.side - window.width, tile.side - window.height
        if right or bottom:
            dates = np.pad(dates, ((0, 0), (0, bottom), (0, right), (0, 0)), constant_values=NO_DATA)
            valid = np.pad(valid, ((0, bottom), (0, right)))
        return dates, valid


def valid_cells(valid: np.ndarray, grid: int) -> np.ndarray:
    """Cells of the map at least half of whose pixels have data: `(side, side)` to `(grid, grid)`."""
    share = Image.fromarray(valid.astype(np.float32)).resize((grid, grid), Image.Resampling.BOX)
    return np.asarray(share) >= HALF


def read_ahead(make: Callable[[], Iterator[Item]], ahead: int = AHEAD) -> Iterator[Item]:
    """Run an iterator in a thread, `ahead` items in front of who takes them. Its errors come out here."""
    waiting: queue.Queue = queue.Queue(ahead)
    stopped = threading.Event()

    def hand(kind: str, item: Any) -> bool:
        while not stopped.is_set():
            try:
                waiting.put((kind, item), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in make():
                if not hand("item", item):
                    return
            hand("end", None)
        except BaseException as error:  # told where it can be handled
            hand("error", error)

    thread = threading.Thread(target=work, name="unirs tile reader", daemon=True)
    thread.start()
    try:
        while True:
            kind, item = waiting.get()
            if kind == "error":
                raise item
            if kind == "end":
                return
            yield item
    finally:
        stopped.set()
        thread.join()
