"""Which bands of a raster become red, green and blue."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..processing.image_loading_unirs import shown
from .raster_files import Raster, RasterError

# Without names or colours in the file, by the number of data bands: the usual product of that many bands.
DEFAULTS = {
    3: (1, 2, 3),
    4: (3, 2, 1),  # blue, green, red, near infrared: PlanetScope, QuickBird, Sentinel-2's 10 m stack
    5: (3, 2, 1),  # RapidEye, MicaSense
    6: (3, 2, 1),  # Landsat 5 and 7's reflective bands; HLS
    7: (4, 3, 2),  # Landsat 8 and 9 surface reflectance
    8: (5, 3, 2),  # WorldView-2 and -3
    10: (3, 2, 1),  # Sentinel-2 without its 60 m bands
    11: (4, 3, 2),  # Landsat 8 and 9
    12: (4, 3, 2),  # Sentinel-2 L2A
    13: (4, 3, 2),  # Sentinel-2 L1C
}
RED_GREEN_BLUE = ("red", "green", "blue")
COLOUR = re.compile(r"(?<![a-z])(red|green|blue)(?![a-z])", re.IGNORECASE)
OTHER_COLOUR = re.compile(r"edge|infra|coast|nir", re.IGNORECASE)  # red edge, near infrared, coastal blue
THEMATIC_MAPPER = {"B1", "B2", "B3", "B4", "B5", "B7"}  # the reflective bands of Landsat 4 to 7
POLARISATION = re.compile(r"(?<![a-z])(vv|vh|hh|hv)(?![a-z])", re.IGNORECASE)
CO_POLARISED = ("vv", "hh")
SAR_WORDS = re.compile(r"sigma|gamma0|backscatter|(?<![a-z])sar(?![a-z])", re.IGNORECASE)
DARKEST_POWER = 1e-6  # -60 dB; lower backscatter is noise

Kind = Literal["rgb", "single band", "SAR"]
Bands = str | Sequence[str | int]  # "4,3,2", "B04,B03,B02", [4, 3, 2]


@dataclass(frozen=True)
class Composition:
    """How the values of some bands become three channels.

    Args:
        bands: Numbers from 1: three for RGB, one for a single band; of SAR one, two (co-, cross-polarised) or three.
        kind: "rgb" is what the model was trained on; the other two are outside of its training.
        decibels: SAR values are decibels already.
    """

    bands: tuple[int, ...]
    kind: Kind
    decibels: bool = False

    @property
    def in_domain(self) -> bool:
        return self.kind == "rgb"

    @property
    def described(self) -> str:
        if self.kind == "rgb":
            return "bands {} as red, green, blue".format(", ".join(map(str, self.bands)))
        if self.kind == "single band":
            return f"band {self.bands[0]} as grey"
        if len(self.bands) == 1:
            return f"SAR: band {self.bands[0]} in decibels as grey"
        if len(self.bands) == 3:
            return "SAR: bands {}, {}, {} in decibels as red, green, blue".format(*self.bands)
        return "SAR: bands {} and {} in decibels as red and green, their difference as blue".format(*self.bands)

    def channels(self, values: np.ndarray) -> np.ndarray:
        """`(bands, ...)` values to `(3, ...)` float32 channels, before the stretch."""
        values = values.astype(np.float32, copy=False)
        if self.kind == "SAR":
            if not self.decibels:
                values = 10 * np.log10(np.maximum(values, DARKEST_POWER))
            if len(values) == 2:
                return np.stack([values[0], values[1], values[0] - values[1]])  # (3, ...)
        return np.broadcast_to(values, (3, *values.shape[1:])) if len(values) == 1 else values


def choose_bands(raster: Raster, asked: Bands | None = None, sar: bool = False) -> Composition:
    """The composition for a raster: as asked, else by the file's colours and names, else by the number of bands.

    Args:
        asked: One to three band numbers or descriptions, in a list or with commas between: "4,3,2", "VV,VH", ["B11"].
        sar: The bands are SAR backscatter, linear or in decibels, though no band is named VV, VH, HH or HV.

    Raises:
        RasterError: A band is not there, the number of bands says nothing, two are no SAR, or colours are in a table.
    """
    names = _names(raster)
    if {"palette", "cyan"} & set(_colours(raster)):
        raise RasterError(
            f"{raster.name}: holds a colour table or print colours; gdal_translate -expand rgb makes RGB"
        )
    data = [number for number, colour in enumerate(_colours(raster), start=1) if colour != "alpha"]
    if asked is not None:
        words = asked.split(",") if isinstance(asked, str) else [str(one) for one in asked]
        chosen = [_find(word.strip(), names, raster) for word in words]
        if not 1 <= len(chosen) <= 3:
            raise RasterError(
                f"--bands {','.join(words)}: names {len(chosen)} bands; give three, or one, or two for SAR"
            )
    else:
        chosen = _usual(raster, data, names, sar)
    # Two bands that the user did not choose, and nobody named: dual-polarised SAR is the only usual product.
    unknown_pair = asked is None and not any(names)
    is_sar = sar or any(_is_sar(names[number - 1]) for number in chosen)
    if len(chosen) == 2 and not is_sar and not unknown_pair:
        raise RasterError(
            f"{raster.name}: bands {chosen[0]} and {chosen[1]} are two, and not named VV, VH, HH or HV as of SAR; "
            "give three or one with --bands, or say --sar to `unirs map`"
        )
    if is_sar and len(chosen) == 3:
        return Composition(tuple(chosen), "SAR")
    if is_sar or len(chosen) == 2:
        co_first = sorted(chosen, key=lambda number: not _is_co_polarised(names[number - 1]))
        return Composition(tuple(co_first), "SAR")
    if len(chosen) == 1 or len(set(chosen)) == 1:
        return Composition((chosen[0],), "single band")
    return Composition(tuple(chosen), "rgb")


def _usual(raster: Raster, data: Sequence[int], names: list[str], sar: bool) -> list[int]:
    if sar or any(_is_sar(names[number - 1]) for number in data):
        polarised = [number for number in data if POLARISATION.search(names[number - 1])]
        return list(polarised or data)[:2]
    if len(data) in (1, 2):
        return list(data)
    for labels in (_colours(raster), [name.lower() for name in names], [_colour_in(name) for name in names]):
        if all(labels.count(colour) == 1 for colour in RED_GREEN_BLUE):
            return [labels.index(colour) + 1 for colour in RED_GREEN_BLUE]
    normal = [_normal(names[number - 1]) for number in data]
    # Names that merely count the bands say nothing of their colours.
    counted = normal == [f"B{place}" for place in range(1, len(data) + 1)]
    if set(normal) == THEMATIC_MAPPER:
        return [data[normal.index(name)] for name in ("B3", "B2", "B1")]
    if {"B4", "B3", "B2"} <= set(normal) and not (counted and len(data) in DEFAULTS):  # Sentinel-2, Landsat 8 and 9
        return [data[normal.index(name)] for name in ("B4", "B3", "B2")]
    if len(data) not in DEFAULTS:
        raise RasterError(
            f"{raster.name}: has {len(data)} bands without names; say which are red, green, blue: --bands"
        )
    return [data[place - 1] for place in DEFAULTS[len(data)]]


def _find(word: str, names: list[str], raster: Raster) -> int:
    """Number of the band that a word names; a number counts from 1."""
    if word.isdecimal():
        if 1 <= int(word) <= len(names):
            return int(word)
        raise RasterError(f"{raster.name}: has no band {word}; it has {len(names)}")
    for labels in ([name.lower() for name in names], _colours(raster), [_normal(name).lower() for name in names]):
        for wanted in (word.lower(), _normal(word).lower()):
            if labels.count(wanted) == 1:
                return labels.index(wanted) + 1
    known = ", ".join(name for name in names if name) or "none of its bands has a name"
    raise RasterError(
        f"{raster.name}: has no band {word!r} ({shown(known)[:200]}); give numbers from 1 to {len(names)}"
    )


def _names(raster: Raster) -> list[str]:
    return [(name or "").strip() for name in raster.dataset.descriptions]


def _colours(raster: Raster) -> list[str]:
    return [colour.name for colour in raster.dataset.colorinterp]


def _normal(name: str) -> str:
    """B04, b4 and "B4 - Red" are one name."""
    found = re.match(r"\s*b(?:and)?[ _-]?0*(\d+a?)\b", name, re.IGNORECASE)
    return f"B{found[1].upper()}" if found else name


def _colour_in(name: str) -> str:
    """The one colour that words like "Band 3: Red" name; nothing where they name none, or something beside it."""
    found = COLOUR.findall(name)
    return found[0].lower() if len(found) == 1 and not OTHER_COLOUR.search(name) else ""


def _is_sar(name: str) -> bool:
    return bool(POLARISATION.search(name) or SAR_WORDS.search(name))


def _is_co_polarised(name: str) -> bool:
    found = POLARISATION.search(name)
    return found is None or found[1].lower() in CO_POLARISED
