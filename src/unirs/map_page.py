"""A change map as one HTML file that opens without a server or a network."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from .map_preview import heat_layer, rings

if TYPE_CHECKING:
    from unirs.geo.change_map import ChangeMap
    from unirs.geo.changes import Change

TEMPLATE = Path(__file__).with_name("map_page.html")
LISTED = 2000  # changes, strongest first; more would make the page slow
LATTICE = 9  # points a side at which longitude and latitude are known


def write_page(change_map: ChangeMap, changes: Sequence[Change], pictures: Sequence[Image.Image], path: Path) -> None:
    """Writes the HTML; `pictures` are the dates over the whole grid."""
    from unirs.whole_file import whole_or_absent

    data = page_data(change_map, changes, pictures)
    # "</script>" or "<!--" inside a caption must not end the script.
    text = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
    with whole_or_absent(path) as part:
        part.write_text(TEMPLATE.read_text(encoding="utf-8").replace("/*DATA*/null", text), encoding="utf-8")


def page_data(change_map: ChangeMap, changes: Sequence[Change], pictures: Sequence[Image.Image]) -> dict[str, Any]:
    """All that the page shows: pictures as data URIs, rings in pixels of the pictures."""
    from unirs.geo.changes import ground_of, properties

    scene, ground = change_map.scene, ground_of(change_map)
    across, down = pictures[0].width / scene.grid.width, pictures[0].height / scene.grid.height
    strongest = sorted(changes, key=lambda one: -(one.score if one.score is not None else -1))[:LISTED]
    lattice = None
    if scene.grid.crs is not None:
        fractions = [step / (LATTICE - 1) for step in range(LATTICE)]
        lattice = [[ground.lonlat(x * scene.grid.width, y * scene.grid.height) for x in fractions] for y in fractions]
        first = lattice[0][0][0]
        # neighbours on both sides of the 180th meridian must not be a whole turn apart; the page wraps what it shows
        lattice = [[(lon - 360 * round((lon - first) / 360), lat) for lon, lat in row] for row in lattice]
        if not all(math.isfinite(value) for row in lattice for point in row for value in point):
            lattice = None
    return {
        "labels": scene.labels,
        "width": pictures[0].width,
        "height": pictures[0].height,
        "dates": [_data_uri(picture, "JPEG", quality=85) for picture in pictures],
        "heat": _data_uri(heat_layer(change_map, pictures[0].size), "PNG"),
        "threshold": change_map.threshold,
        "lattice": lattice,
        "hidden": len(changes) - len(strongest),
        "notes": change_map.about.get("notes", []),
        "changes": [
            {
                **properties(change, ground, change_map),
                "rings": [[[round(x * across, 1), round(y * down, 1)] for x, y in ring] for ring in rings(change)],
            }
            for change in strongest
        ],
    }


def _data_uri(picture: Image.Image, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return f"data:image/{kind.lower()};base64," + base64.b64encode(buffer.getvalue()).decode()
