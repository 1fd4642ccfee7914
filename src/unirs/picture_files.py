"""Picture files that the commands are given: rasters through `unirs.geo` where rasterio is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Literal

from unirs.processing import load_image
from unirs.processing.image_loading_unirs import VisualInputError, find_file, open_header, quiet_strict_pillow

from .extras import install_command
from .given import ending

if TYPE_CHECKING:
    from PIL import Image

    from unirs.geo import Composition
    from unirs.geo.raster_files import Raster

RASTERS = {".tif", ".tiff", ".jp2"}
ORIENTATION, UPRIGHT = 274, 1  # a tag of TIFF, and its value for rows from the top down


def load_dates(files: list[str], bands: str | None = None) -> list[Image.Image]:
    """The pictures of `read_dates`."""
    return read_dates(files, bands)[0]


def read_dates(files: list[str], bands: str | None = None) -> tuple[list[Image.Image], list[Composition]]:
    """Pictures of one place, or of one date of it, and how rasters became pictures; of others nothing is known.

    Rasters of any sensor are read as `unirs.geo` does it: several with one stretch, on the first one's grid where all
    have one.

    Args:
        bands: Of every raster, as `unirs.geo.choose_bands` takes them; by default the usual ones.

    Raises:
        ValueError: One cannot be read, or georeferenced rasters do not overlap.
    """
    are_rasters = all(ending(file) in RASTERS for file in files)
    if bands is not None and not are_rasters:
        raise ValueError(f"--bands {bands}: is for rasters ({', '.join(sorted(RASTERS))}); leave it out")
    if not are_rasters or importlib.util.find_spec("rasterio") is None:
        if bands is not None:
            raise ValueError(f"--bands needs more packages: {install_command('geo')}")
        return [load_image(file) for file in files], []
    from unirs.geo import RasterError, choose_bands, open_raster
    from unirs.geo.rgb import read_composed

    try:
        with ExitStack() as stack:
            rasters = [stack.enter_context(open_raster(file)) for file in files]
            plain = bands is None and _are_plain_pictures(files, rasters)
            if not plain:
                for raster in rasters:
                    choose_bands(raster, bands)
            kinds, sizes = {raster.dataset.dtypes[0] for raster in rasters}, {raster.size for raster in rasters}
            placed = all(raster.crs is not None and raster.transform is not None for raster in rasters)
    except RasterError:
        if len(files) > 1 or bands is not None:
            raise
        # What GDAL refuses by its header may be a picture for Pillow after all, as print colours are.
        try:
            return [load_image(files[0])], []
        except ValueError:
            pass
        raise
    if plain:
        return [load_image(file) for file in files], []
    if placed or len(sizes) == 1:
        pixel = not placed or len(files) == 1
        stretch: Literal["joint", "each"] = "joint" if len(kinds) == 1 else "each"
        pictures, compositions = read_composed(files, bands, pixel=pixel, stretch=stretch)
        return pictures, list(compositions)
    alone = [read_composed([file], bands, pixel=True) for file in files]
    return [pictures[0] for pictures, _ in alone], [compositions[0] for _, compositions in alone]


def _are_plain_pictures(files: Sequence[str], rasters: Sequence[Raster]) -> bool:
    """Pictures whose numbers are no measurements, and which GDAL would show as they are: Pillow reads them.

    All in 256 colours; or of 8 bits on no ground, one of them with a tag that says that it lies on its side.
    """
    if all(raster.dataset.colorinterp[0].name == "palette" for raster in rasters):
        return True
    on_ground = any(
        raster.crs is not None or raster.transform is not None or raster.dataset.dtypes[0] != "uint8"
        for raster in rasters
    )
    return not on_ground and any(map(_is_turned, files))


def _is_turned(file: str) -> bool:
    with quiet_strict_pillow, find_file(file)[0].open("rb") as content, suppress(VisualInputError):
        tags = getattr(open_header(content, file), "tag_v2", {})
        return tags.get(ORIENTATION, UPRIGHT) != UPRIGHT
    return False


def notes_on_bands(names: Sequence[str], compositions: Sequence[Composition]) -> list[str]:
    """Which bands were shown to the model, and whether it knows such data."""
    if len({one.described for one in compositions}) == 1:
        notes = [f"Shown to the model: {compositions[0].described}."]
    else:
        pairs = dict(zip(names, compositions, strict=True)).items()
        notes = [f"Shown to the model of {name}: {one.described}." for name, one in pairs]
    if not all(one.in_domain for one in compositions):
        notes.append("The model was trained on RGB: what it says about these data is outside of its training.")
    return notes


def details_of_bands(compositions: Sequence[Composition]) -> dict[str, Any]:
    """The same for `--json`, in the words of the features of `unirs map`."""
    if not compositions:
        return {}
    return {
        "composition": compositions[0].kind,
        "bands": [one.bands for one in compositions],
        "in_training_domain": all(one.in_domain for one in compositions),
    }
