"""Changes to GeoJSON (RFC 7946), GeoPackage or GeoParquet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import shapely

from ..whole_file import whole_or_absent
from .change_map import ChangeMap
from .changes import Change, ground_of, properties
from .raster_files import RasterError

GEOJSON, GEOPACKAGE, GEOPARQUET = (".geojson", ".json"), (".gpkg",), (".parquet", ".geoparquet")
VECTOR_ENDINGS = GEOJSON + GEOPACKAGE + GEOPARQUET
LAYER = "changes"


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
    yield '{"type": "FeatureCollection", "unirs": ' + _about(change_map, "WGS 84") + ', "features": ['
    for number, change in enumerate(changes):
        place = ground.in_wgs84(change.place) if on_ground else change.place
        feature = {
            "type": "Feature",
            "geometry": None if place.is_empty else shapely.geometry.mapping(place),
            "properties": properties(change, ground, change_map),
        }
        yield ("," if number else "") + "\n" + json.dumps(feature, ensure_ascii=False)
    yield "\n]}\n"


def _about(change_map: ChangeMap, coordinates: str) -> str:
    """How the map was made, as JSON; `coordinates` are those of a scene with a place on the ground."""
    on_ground = change_map.scene.grid.crs is not None
    where = coordinates if on_ground else "columns and rows of the first date"
    return json.dumps({**change_map.about, "coordinates": where}, ensure_ascii=False)


def _write_geojson(changes: Sequence[Change], change_map: ChangeMap, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(geojson(changes, change_map))


def _write_table(changes: Sequence[Change], change_map: ChangeMap, path: Path) -> None:
    import geopandas
    import pyarrow.parquet as pq

    ground = ground_of(change_map)
    rows = [properties(change, ground, change_map) for change in changes]
    columns = {name: [row[name] for row in rows] for name in (rows[0] if rows else ("caption", "score"))}
    crs = None if ground.grid.crs is None else ground.grid.crs.to_wkt()
    frame = geopandas.GeoDataFrame(columns, geometry=[ground.in_crs(one.place) for one in changes], crs=crs)
    about = {"unirs": _about(change_map, "the first date's own CRS")}
    if path.suffix.lower() in GEOPACKAGE:
        # One type for all: a region whose cells touch at corners has several parts.
        kinds = {"geometry_type": "MultiPolygon", "promote_to_multi": True}
        frame.to_file(path, driver="GPKG", layer=LAYER, engine="pyogrio", metadata=about, **kinds)
    else:
        frame.to_parquet(path)
        table = pq.read_table(path)  # geopandas takes no metadata
        pq.write_table(table.replace_schema_metadata({**table.schema.metadata, **about}), path)
