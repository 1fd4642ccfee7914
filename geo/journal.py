"""What a run has found so far, kept on disk, so that a killed run goes on where it was."""

from __future__ import annotations

import base64
import json
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.windows import Window

from ..file_lock import lock
from .raster_files import RasterError

STEPS = 250  # of a map value between 0 and 1
NO_VALUE = 255  # cells without data
BEGINS = b'{"files": '  # every journal of ours


@dataclass(frozen=True)
class TileResult:
    """What was found in a tile, for each step from one date to the next.

    Args:
        tile: Its id.
        maps: `(steps, grid, grid)` bytes: the change map times 250, 255 without data. None without any data.
        scores: 0..1, None without data.
        captions: Of the steps that passed the threshold.
        sequence: What was said about all dates together, if there are more than two.
        broken: Why the tile could not be read.
        data: Which of its pixels on the grid have data at all dates, by `packed`; None where all of them have.
    """

    tile: str
    maps: np.ndarray | None = None
    scores: tuple[float | None, ...] = ()
    captions: tuple[str | None, ...] = ()
    sequence: str | None = None
    broken: str | None = None
    data: bytes | None = None

    def to_json(self) -> dict[str, Any]:
        plain = {name: value for name, value in vars(self).items() if name not in ("maps", "data")}
        found: dict[str, Any] = {name: value for name, value in plain.items() if value not in (None, ())}
        if self.maps is not None:
            found["maps"] = base64.b64encode(self.maps.tobytes()).decode()
            found["shape"] = self.maps.shape
        if self.data is not None:
            found["data"] = base64.b64encode(self.data).decode()
        return found

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> TileResult:
        maps = None
        if "maps" in found:
            maps = np.frombuffer(base64.b64decode(found["maps"]), np.uint8).reshape(found["shape"])
        return cls(
            found["tile"],
            maps,
            tuple(found.get("scores", ())),
            tuple(found.get("captions", ())),
            found.get("sequence"),
            found.get("broken"),
            base64.b64decode(found["data"]) if "data" in found else None,
        )

    def values(self, step: int) -> np.ndarray:
        """The map of a step as `(grid, grid)` floats, NaN without data."""
        assert self.maps is not None
        return np.where(self.maps[step] == NO_VALUE, np.nan, self.maps[step].astype(np.float32) / STEPS)

    def has_data(self, window: Window) -> np.ndarray:
        """Which pixels have data at all dates: `(H, W)` of the tile's window on the grid (`Tile.inside`)."""
        height, width = window.height, window.width
        if self.data is None:
            return np.ones((height, width), bool)
        bits = np.frombuffer(zlib.decompress(self.data), np.uint8)
        return np.unpackbits(bits, count=height * width).reshape(height, width).astype(bool)


def packed(valid: np.ndarray) -> bytes | None:
    """A mask as `TileResult.data` keeps it: most tiles have data everywhere, and masks are large and plain."""
    return None if valid.all() else zlib.compress(np.packbits(valid).tobytes())


class Journal:
    """One JSON object a line: the settings of the run first, then each batch of tiles once it is done.

    A batch is on the disk before the next is begun. Batches are the unit because numbers may differ in the last bit
    between batches of other sizes: a batch that was cut by a kill is computed again as a whole.

    Raises:
        RasterError: The file was made with other settings, is no journal, or another run is writing it.
    """

    def __init__(self, path: Path, settings: dict[str, Any], resume: bool):
        self.path = path
        self.file = path.open("a+b")
        self._lock()
        self.file.seek(0)
        if not BEGINS.startswith(self.file.read(len(BEGINS))):
            raise RasterError(f"{path}: is no journal of `unirs map`; move it away")
        self.file.seek(0)
        lines = [line for line in self.file if line.endswith(b"\n")]
        if len(lines) > 1 and not resume:
            raise RasterError(f"{path}: an unfinished run is kept there; go on with --resume, or remove it")
        if len(lines) == 1:  # nothing was found yet
            lines = []
        if lines:
            self._check(lines[0], settings)
        self.batches: dict[int, list[TileResult]] = {}
        for number, line in enumerate(lines[1:], start=2):
            try:
                found = json.loads(line)
                self.batches[found["batch"]] = [TileResult.from_json(one) for one in found["tiles"]]
            except (ValueError, KeyError, TypeError) as error:
                raise RasterError(f"{path}: its line {number} is damaged; remove the file, and begin again") from error
        self.file.truncate(sum(map(len, lines)))
        if not lines:
            self._write(settings)

    def add(self, batch: int, results: list[TileResult]) -> None:
        self._write({"batch": batch, "tiles": [one.to_json() for one in results]})
        self.batches[batch] = results

    def close(self) -> None:
        self.file.close()

    def remove(self) -> None:
        """At the end, when all outputs are written."""
        self.path.unlink()  # while it is locked
        self.close()

    def _lock(self) -> None:
        if not lock(self.file.fileno(), self.path):
            raise RasterError(f"{self.path}: another run is writing it; wait for that one")

    def _check(self, line: bytes, settings: dict[str, Any]) -> None:
        try:
            kept = json.loads(line)
        except ValueError as error:
            raise RasterError(f"{self.path}: is no journal of `unirs map`; move it away") from error
        now = json.loads(json.dumps(settings))
        changed = sorted(name for name in {*kept, *now} if kept.get(name) != now.get(name))
        if changed:
            raise RasterError(
                f"{self.path}: that run had other settings ({', '.join(changed)}); repeat those, or remove the file"
            )

    def _write(self, line: dict[str, Any]) -> None:
        self.file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        self.file.flush()
        os.fsync(self.file.fileno())
