"""A change map for people's eyes: the last date with the heat map over it, changes outlined, and a legend."""

from __future__ import annotations

import contextlib
import math
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .report import CLEARING, GREYED, INK, MUTED, STRONGEST, colour
from .terminal import plural

if TYPE_CHECKING:
    from unirs.geo.change_map import ChangeMap
    from unirs.geo.changes import Change
    from unirs.geo.coregistration import AlignedDates

LONGEST = 1400  # pixels of the picture
LEGEND, MARGIN, LABEL = 300, 24, 44  # and where the date's name begins in the legend
OUTLINE = (0, 229, 255)  # cyan: neither in the ramp nor, often, on the ground
SCALE_STEPS = (1, 2, 5)
PIECE = 64  # pixels a side that are read at a time around a broken tile


def write_preview(change_map: ChangeMap, changes: Sequence[Change], after: Image.Image, path: Path) -> None:
    """Writes the PNG; `after` is the last date over the whole grid, of any size."""
    from unirs.whole_file import whole_or_absent

    after = after.copy()
    after.thumbnail((LONGEST, LONGEST))
    with whole_or_absent(path) as part:
        draw_preview(change_map, changes, after).save(part, format="PNG")


def dates_small(change_map: ChangeMap, aligned: AlignedDates, longest: int) -> list[Image.Image]:
    """Every date over the whole grid, its longer side at most `longest` pixels."""
    from rasterio.windows import Window

    from unirs.geo.raster_files import RasterError
    from unirs.geo.rgb import NO_DATA

    grid = change_map.scene.grid
    shrink = max(1.0, max(grid.width, grid.height) / longest)
    shape = max(1, round(grid.height / shrink)), max(1, round(grid.width / shrink))
    rendering = change_map.scene.rendering
    try:
        pictures, _ = rendering.read(aligned, grid.window, shape)
    except RasterError:  # a broken tile that was left out: all but the piece around it
        pictures = np.full((len(aligned.dates), *shape, 3), NO_DATA, np.uint8)
        for rows, columns in pieces_of(shape):
            left, top, right, bottom = (
                round(edge * size / length)
                for edge, size, length in (
                    (columns.start, grid.width, shape[1]),
                    (rows.start, grid.height, shape[0]),
                    (columns.stop, grid.width, shape[1]),
                    (rows.stop, grid.height, shape[0]),
                )
            )
            window = Window(left, top, right - left, bottom - top)
            with contextlib.suppress(RasterError):
                small = (rows.stop - rows.start, columns.stop - columns.start)
                pictures[:, rows, columns] = rendering.read(aligned, window, small)[0]
    return [Image.fromarray(one) for one in pictures]


def pieces_of(shape: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    """Squares of at most PIECE pixels that cover a picture of `shape` rows and columns."""
    for top in range(0, shape[0], PIECE):
        for left in range(0, shape[1], PIECE):
            yield slice(top, min(top + PIECE, shape[0])), slice(left, min(left + PIECE, shape[1]))


def heat_layer(change_map: ChangeMap, size: tuple[int, int]) -> Image.Image:
    """The change map as an RGBA picture, clear where nothing changed or nothing is known."""
    from unirs.geo.heatmap import shrunk

    values = np.nan_to_num(shrunk(change_map, *size))
    opacity = (255 * STRONGEST * values**CLEARING).astype(np.uint8)
    return Image.fromarray(np.dstack([colour(values), opacity]))


def draw_preview(change_map: ChangeMap, changes: Sequence[Change], after: Image.Image) -> Image.Image:
    """The picture with the heat map and outlines, and the legend on its right."""
    grid = change_map.scene.grid
    across, down = after.width / grid.width, after.height / grid.height  # a strip of one pixel stays one
    base = Image.blend(after, after.convert("L").convert("RGB"), GREYED)
    base = Image.alpha_composite(base.convert("RGBA"), heat_layer(change_map, after.size)).convert("RGB")
    draw = ImageDraw.Draw(base)
    for change in outlined(changes):
        for ring in rings(change):
            draw.line([(x * across, y * down) for x, y in ring], fill=OUTLINE, width=2)
    height = max(base.height, 420)
    canvas = Image.new("RGB", (base.width + LEGEND + 3 * MARGIN, height + 2 * MARGIN), "white")
    canvas.paste(base, (MARGIN, MARGIN))
    _legend(ImageDraw.Draw(canvas), canvas, change_map, changes, base.width + 2 * MARGIN, across)
    return canvas


def outlined(changes: Sequence[Change]) -> list[Change]:
    """All but what is said about all dates of a tile: its outline would hide those of the steps."""
    return [change for change in changes if change.kind != "sequence"]


def rings(change: Change) -> list[list[tuple[float, float]]]:
    """All rings of a change in pixels of the grid."""
    from unirs.geo.footprints import polygons_of

    parts = polygons_of(change.place)
    return [list(ring.coords) for part in parts for ring in (part.exterior, *part.interiors)]


def _legend(
    draw: ImageDraw.ImageDraw,
    canvas: Image.Image,
    change_map: ChangeMap,
    changes: Sequence[Change],
    x: int,
    scale: float,
) -> None:
    labels, y = change_map.scene.labels, MARGIN
    large, plain, small = (ImageFont.load_default(size) for size in (22, 16, 14))
    draw.text((x, y), "Change", fill=INK, font=large)
    y += 34
    for word, label in (("from", labels[0]), ("to", labels[-1])):
        draw.text((x, y), word, fill=MUTED, font=plain)
        draw.text((x + LABEL, y), _shortened(label, plain), fill=INK, font=plain)
        y += 24
    y += 18
    ramp = np.linspace(0, 1, LEGEND)[None].repeat(18, axis=0)
    canvas.paste(Image.fromarray(colour(ramp)), (x, y))
    mark = x + round(change_map.threshold * (LEGEND - 1))
    draw.line((mark, y - 5, mark, y + 23), fill=INK, width=2)
    draw.text((x, y + 26), "0  same", fill=MUTED, font=small)
    draw.text((x + LEGEND, y + 26), "different  1", fill=MUTED, font=small, anchor="ra")
    draw.text((x, y + 48), f"mark: threshold {change_map.threshold:g}", fill=MUTED, font=small)
    y += 86
    draw.rectangle((x, y + 2, x + 22, y + 16), outline=OUTLINE, width=2)
    kind = "region" if any(change.kind == "region" for change in changes) else "tile"
    # A tile that changes at several steps has one outline.
    count = len({change.tiles for change in outlined(changes)}) if kind == "tile" else len(outlined(changes))
    draw.text((x + 34, y), plural(count, f"changed {kind}"), fill=INK, font=plain)
    y += 40
    metre = _metres_a_pixel(change_map)
    if metre:
        length, shown = _scale_bar(metre / scale)
        draw.line((x, y + 8, x + length, y + 8), fill=INK, width=3)
        for end in (x, x + length):
            draw.line((end, y + 2, end, y + 14), fill=INK, width=2)
        draw.text((x + length + 12, y), shown, fill=INK, font=plain)
        y += 40
    composition = change_map.scene.rendering.compositions[0]
    if not composition.in_domain:
        draw.text((x, y), "Outside of the model's training:", fill=INK, font=small)
        draw.text((x, y + 20), f"{composition.kind}, not RGB", fill=INK, font=small)


def _shortened(label: str, font: Any) -> str:
    """In letters that Pillow's own font has, and within the legend: names of dates often differ at their ends."""
    plain = "".join(one for one in unicodedata.normalize("NFKD", label) if not unicodedata.combining(one))
    plain = shown = plain.encode("ascii", "replace").decode()
    kept = len(plain)
    while font.getlength(shown) > LEGEND - LABEL:
        kept -= 1
        shown = f"{plain[: kept // 2]}...{plain[kept // 2 - kept :]}"
    return shown


def _metres_a_pixel(change_map: ChangeMap) -> float | None:
    """At the middle of the map, along a row; None where that has no place on the ground."""
    from unirs.geo.footprints import ELLIPSOID, Ground

    grid = change_map.scene.grid
    if grid.crs is None:
        return None
    ground = Ground(grid, math.inf)
    row, column = grid.height / 2, grid.width / 2
    west, east = ground.lonlat(column - 0.5, row), ground.lonlat(column + 0.5, row)
    metres = ELLIPSOID.inv(*west, *east)[2]
    return metres if math.isfinite(metres) else None


def _scale_bar(metres: float) -> tuple[int, str]:
    """Pixels and words of a bar of a round length, for pixels of so many metres."""
    room = 150 * metres
    power = 10.0 ** math.floor(math.log10(room))
    length = max(step * power for step in SCALE_STEPS if step * power <= room)
    shown = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    return round(length / metres), shown
