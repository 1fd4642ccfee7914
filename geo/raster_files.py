"""The door for rasters nobody has looked at: opened by four in-process GDAL drivers, with nothing beside them trusted.

GDAL itself would follow a sidecar (`.ovr`, `.msk`, `.aux.xml`) or a tag inside the file to any other file or address:
an overview that is a VRT is opened as one, network included. So siblings are never given to GDAL; world files and the
CRS beside a PNG or JPEG are read here.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import rasterio
from affine import Affine, loadsw
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError

from ..processing.image_loading_unirs import VisualInputError, find_file, shown

# Whether a raster lies on the ground is asked here, and told where it matters.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)

# First bytes of what is read, with the one GDAL driver that may read it. A COG is a GTiff.
SIGNATURES = {
    b"II*\0": "GTiff",
    b"MM\0*": "GTiff",
    b"II+\0": "GTiff",
    b"MM\0+": "GTiff",
    b"\0\0\0\x0cjP  ": "JP2OpenJPEG",
    b"\xffO\xffQ": "JP2OpenJPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
}
SEQUENTIAL = ("PNG", "JPEG")  # decoded from the top, so only fit for pictures
MAX_PIXELS = 2**34  # 131,072 x 131,072
MAX_SEQUENTIAL_PIXELS = 2**28  # as for pictures: 16,384 x 16,384
MAX_BLOCK_BYTES = 2**29  # GDAL decodes a whole block, whatever the window
MAX_BANDS = 1024
MAX_EXPANSION = 5000  # pixel bytes for each byte on disk; DEFLATE alone can do 1032
EXPANSION_MATTERS = 2**30  # bytes; below this a bomb is harmless
MAX_SIDECAR = 2**20  # bytes
GDAL_OPTIONS: dict[str, Any] = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "CPL_VSIL_CURL_ALLOWED_FILENAME": "-",
    "GDAL_CACHEMAX": 256 * 2**20,  # bytes; GDAL's own default is a share of the machine
}


class RasterError(VisualInputError):
    """A bad raster, or rasters that do not fit together; one line that names the file and says what to do."""


@dataclass(frozen=True)
class Raster:
    """An open raster, with the georeference that the file or its world file gives."""

    dataset: Any  # rasterio.DatasetReader
    name: str
    crs: Any | None  # rasterio.crs.CRS
    transform: Affine | None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.dataset.width, self.dataset.height

    @cached_property
    def _white_is_zero(self) -> bool:
        return self.dataset.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES"

    @cached_property
    def _bits(self) -> int | None:
        """Of its type that are in use, where a file says that they are fewer."""
        told = self.dataset.tags(1, ns="IMAGE_STRUCTURE").get("NBITS")
        return int(told) if told else None

    def as_meant(self, values: np.ndarray) -> np.ndarray:
        """Its values from dark to bright, bytes over all of 0..255: GDAL hands them out as they are stored."""
        if values.dtype == np.uint8 and self._bits:
            values = (values.astype(np.uint16) * 255 // (2**self._bits - 1)).clip(0, 255).astype(np.uint8)
        if not self._white_is_zero:
            return values
        if values.dtype.kind == "u" and values.dtype != np.uint8 and self._bits:
            return (2**self._bits - 1) - np.minimum(values, 2**self._bits - 1)
        return ~values if values.dtype.kind in "ui" else -values  # no negative of the least integer exists


@contextmanager
def open_raster(source: str | os.PathLike, crs: str | None = None) -> Iterator[Raster]:
    """Open one raster file for reading by windows.

    Args:
        source: Path of a GeoTIFF, COG, JPEG 2000, PNG or JPEG. Never a URL or a GDAL connection string.
        crs: For files that have a transform and no CRS of their own, e.g. "EPSG:32631".

    Raises:
        RasterError: It is none of these, too large, or damaged.
    """
    try:
        path, name = find_file(source)
    except VisualInputError as error:
        raise RasterError(str(error)) from error
    driver = _driver(path, name)
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError as error:
        raise RasterError(f"{name}: its name or a folder's is no UTF-8, which GDAL needs; rename it") from error
    with rasterio.Env(**GDAL_OPTIONS):
        given = _given_crs(crs) if crs else None  # a slip in it is told though the file has its own
        try:
            dataset = rasterio.open(path, driver=driver)
        except RasterioError as error:
            raise RasterError(f"{name}: {driver} cannot open it ({shown(error)}); copy or export it again") from error
        with dataset:
            _check(dataset, name, path.stat().st_size)
            found = _own_crs(dataset, name) or _sidecar_crs(path) or given
            yield Raster(dataset, name, found, _transform(dataset, path))


def _driver(path: Path, name: str) -> str:
    with path.open("rb") as file:
        head = file.read(16)
    for signature, driver in SIGNATURES.items():
        if head.startswith(signature):
            return driver
    raise RasterError(f"{name}: is no GeoTIFF, JPEG 2000, PNG or JPEG; convert it with gdal_translate")


def _check(dataset: Any, name: str, file_bytes: int) -> None:
    """Refuses what would fill memory or never end, from the header alone."""
    width, height, bands = dataset.width, dataset.height, dataset.count
    if not bands:
        raise RasterError(f"{name}: holds no band of its own; name one of its sub-datasets' files")
    limit = MAX_SEQUENTIAL_PIXELS if dataset.driver in SEQUENTIAL else MAX_PIXELS
    if width * height > limit or bands > MAX_BANDS:
        raise RasterError(
            f"{name}: {width} x {height} x {bands} bands is above the limit of {limit} pixels and {MAX_BANDS} bands "
            f"for {dataset.driver}; cut it with gdal_translate -srcwin, or make it a tiled GeoTIFF"
        )
    complex_ones = [kind for kind in dataset.dtypes if kind.startswith("complex")]
    if complex_ones:
        raise RasterError(
            f"{name}: holds {complex_ones[0]} values; write their intensity first, e.g. with gdal_calc.py"
        )
    value_bytes = max(np.dtype(kind).itemsize for kind in dataset.dtypes)
    rows, columns = dataset.block_shapes[0]
    together = bands if str(dataset.interleaving or "").lower().endswith("pixel") else 1
    if rows * columns * value_bytes * together > MAX_BLOCK_BYTES:
        raise RasterError(
            f"{name}: is stored in blocks of {columns} x {rows} pixels, too large to read by windows; "
            "tile it with gdal_translate -co TILED=YES"
        )
    pixel_bytes = width * height * bands * value_bytes
    if pixel_bytes > EXPANSION_MATTERS and pixel_bytes > MAX_EXPANSION * file_bytes:
        raise RasterError(
            f"{name}: {file_bytes} bytes claim to hold {pixel_bytes} bytes of pixels, as a decompression bomb does; "
            "if you trust it, cut out the part with data with gdal_translate -srcwin"
        )
    if dataset.tags(ns="OVERVIEWS"):
        raise RasterError(f"{name}: points to another file for its overviews; remove that with gdal_edit.py -unsetmd")


def _own_crs(dataset: Any, name: str) -> Any | None:
    try:
        return dataset.crs or None
    except CRSError as error:
        raise RasterError(
            f"{name}: its CRS cannot be read ({shown(error)}); set it with gdal_edit.py -a_srs"
        ) from error


def _given_crs(text: str) -> Any:
    try:
        return rasterio.crs.CRS.from_user_input(text)
    except (CRSError, UnicodeEncodeError) as error:
        raise RasterError(f"--crs {shown(text)}: is no CRS; write it like EPSG:32631") from error


def _sidecar_crs(path: Path) -> Any | None:
    """The CRS beside a file with a world file: WKT in `.prj`, or `<SRS>` in QGIS's and GDAL's `.aux.xml`."""
    prj = _sidecar(_beside(path.with_suffix(".prj")))
    aux = _sidecar(path.with_name(path.name + ".aux.xml"))
    try:
        if prj:
            return rasterio.crs.CRS.from_wkt(prj, morph_from_esri_dialect=True)
        srs = ElementTree.fromstring(aux).findtext("SRS") if aux else None
        return rasterio.crs.CRS.from_wkt(srs) if srs else None
    except (CRSError, ElementTree.ParseError) as error:
        raise RasterError(
            f"{path.name}: the CRS beside it cannot be read ({shown(error)}); mend the sidecar"
        ) from error


def _transform(dataset: Any, path: Path) -> Affine | None:
    if dataset.transform != Affine.identity():
        return dataset.transform
    ending = path.suffix[1:].lower()
    for suffix in (f".{ending[:1]}{ending[-1:]}w", f".{ending}w", ".wld"):
        beside = _beside(path.with_suffix(suffix))
        text = _sidecar(beside)
        if text:
            try:
                return loadsw(text)  # world files give the centre of the first pixel, this its corner
            except (ValueError, TypeError, IndexError) as error:
                raise RasterError(f"{shown(beside)}: is no world file of six numbers") from error
    return None


def _beside(path: Path) -> Path:
    """The file of that name, or with its ending in capitals, as Windows programs write them."""
    capitals = path.with_suffix(path.suffix.upper())
    return capitals if not path.is_file() and capitals.is_file() else path


def _sidecar(path: Path) -> str | None:
    if not path.is_file():
        return None
    if path.stat().st_size > MAX_SIDECAR:
        raise RasterError(f"{shown(path)}: is too large for a world file or CRS; remove it")
    return path.read_text(encoding="utf-8", errors="replace")
