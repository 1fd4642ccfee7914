"""Changes to GeoJSON (RFC 7946), GeoPackage or GeoParquet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import shapely

from .change_map import ChangeMap
from .changes import Change, ground_of, properties
from .raster_files import RasterError

GEOJSON, GEOPACKAGE, GEOPARQUET = (".geojson", ".json"), (".gpkg",), (".parquet", ".geoparquet")
VECTOR_ENDINGS = GEOJSON + GEOPACKAGE + GEOPARQUET
LAYER = "changes"


@contextmanager
def whole_or_absent(path: Path) -> Iterator[Path]:
    """A name to write to, which becomes `path` once all is written; a killed run leaves no half file under it.

    What such a run has left is written over by the next; two at a time are kept apart by the journal's lock.
    """
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_changes(changes: Sequence[Change], change_map: ChangeMap, path: Path) -> None:
    """Write by the file's ending: GeoJSON in WGS 84, the other two in the first date's own CRS.

    Without a CRS (`pixel`) coordinates are columns and rows of the first date.

    Raises:
        RasterError: A wrong ending.
    """
    ending = path.suffix.lower()
    if ending not in VECTOR_ENDINGS:
        raise RasterError(f"{path}: give a name that ends in {', '.join(VECTOR_ENDINGS)}")
    with whole_or_absent(path) as part:
        if ending in GEOJSON:
            _write_geojson(changes, change_map, part)
        else:
            _write_table(changes, change_map, part)


def geojson(changes: Sequence[Change], change_map: ChangeMap) -> Iterator[str]:
    """A FeatureCollection in pieces of text, one feature a line."""
    ground = ground_of(change_map)
    on_ground = ground.grid.crs is not None
    about = {**change_map.about, "coordinates": "WGS 84" if on_ground else "columns and rows of the first date"}
    yield '{"type": "FeatureCollection", "unirs": ' + json.dumps(about, ensure_ascii=False) + ', "features": ['
    for number, change in enumerate(changes):
        place = ground.in_wgs84(change.place) if on_ground else change.place
        feature = {
            "type": "Feature",
            "geometry": None if place.is_empty else shapely.geometry.mapping(place),
            "properties": properties(change, ground, change_map),
        }
        yield ("," if number else "") + "\n" + json.dumps(feature, ensure_ascii=False)
    yield "\n]}\n"


def _write_geojson(changes: Sequence[Change], change_map: ChangeMap, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(geojson(changes, change_map))


def _write_table(changes: Sequence[Change], change_map: ChangeMap, path: Path) -> None:
    import geopandas

    ground = ground_of(change_map)
    rows = [properties(change, ground, change_map) for change in changes]
    columns = {name: [row[name] for row in rows] for name in (rows[0] if rows else ("caption", "score"))}
    crs = None if ground.grid.crs is None else ground.grid.crs.to_wkt()
    frame = geopandas.GeoDataFrame(columns, geometry=[ground.in_crs(one.place) for one in changes], crs=crs)
    if path.suffix.lower() in GEOPACKAGE:
        frame.to_file(path, driver="GPKG", layer=LAYER, engine="pyogrio", geometry_type="Polygon")
    else:
        frame.to_parquet(path)
