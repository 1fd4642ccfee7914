"""`unirs map` on every real raster: against itself on another grid, and against itself with a known edit.

    python benchmarks/map_real_files.py ../shared/data

The first pair shows what co-registration alone is taken for; the second whether the edit is found where it is. It
covers a sixteenth of the picture with the brightest usual colour of that picture (its 98th percentile), or the darkest
where that differs more. Leaves benchmarks/results/map_real_files.md.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import mean

import numpy as np
import rasterio
import shapely
from rasterio.warp import Resampling, calculate_default_transform, reproject
from shapely.geometry import box
from transformers import AutoModelForImageTextToText, AutoProcessor
from unirs.geo.change_finder import ChangeFinder
from unirs.geo.change_map import find_changes, look_at
from unirs.geo.changes import region_changes
from unirs.geo.coregistration import open_dates
from unirs.geo.journal import Journal

import unirs

RESULTS = Path(__file__).parent / "results" / "map_real_files.md"
THRESHOLD, TILES_A_SIDE = 0.5, 2


def edited(file: Path, path: Path) -> shapely.Polygon:
    """Writes the raster with its edit; the place of the edit in pixels."""
    with rasterio.open(file) as source:
        values, profile, valid = source.read(), source.profile, source.dataset_mask() > 0
        alpha = source.colorinterp[-1] == rasterio.enums.ColorInterp.alpha
    height, width = valid.shape
    top, left, high, wide = round(height * 0.4), round(width * 0.45), height // 4, width // 4
    inside = np.s_[top : top + high, left : left + wide]
    bands = values[:-1] if alpha else values
    for band in bands:
        low, high_value = np.percentile(band[valid], (2, 98))
        far = high_value if high_value - band[inside].mean() > band[inside].mean() - low else low
        band[inside] = np.where(valid[inside], far, band[inside])
    profile.update(driver="GTiff", compress="deflate", photometric=None, tiled=False, blockxsize=None, blockysize=None)
    with rasterio.open(path, "w", **{name: value for name, value in profile.items() if value is not None}) as out:
        out.colorinterp = rasterio.open(file).colorinterp
        out.write(values)
    return box(left, top, left + wide, top + high)


def warped(file: Path, path: Path) -> None:
    """Writes the raster on a grid of another CRS, 0.9 of its pixel size."""
    with rasterio.open(file) as source:
        crs = "EPSG:3857" if source.crs.to_epsg() != 3857 else "EPSG:4326"
        plain = calculate_default_transform(source.crs, crs, source.width, source.height, *source.bounds)
        transform, width, height = calculate_default_transform(
            source.crs, crs, source.width, source.height, *source.bounds, resolution=plain[0].a * 0.9
        )
        has_alpha = source.colorinterp[-1] == rasterio.enums.ColorInterp.alpha
        planes = source.read()
        if not has_alpha:
            opaque = np.iinfo(planes.dtype).max * (source.dataset_mask() > 0)
            planes = np.concatenate([planes, opaque.astype(planes.dtype)[None]])
        out = np.zeros((len(planes), height, width), planes.dtype)
        reproject(
            planes, out, src_transform=source.transform, src_crs=source.crs, dst_transform=transform,
            dst_crs=crs, resampling=Resampling.cubic,
        )  # fmt: skip
        colours = [*source.colorinterp[: len(planes) - 1], rasterio.enums.ColorInterp.alpha]
        profile = {"driver": "GTiff", "count": len(out), "dtype": out.dtype, "width": width, "height": height}
    with rasterio.open(path, "w", crs=crs, transform=transform, compress="deflate", **profile) as file_out:
        file_out.colorinterp = colours
        file_out.write(out)


def regions(pair: tuple[Path, Path], finder: ChangeFinder, folder: Path) -> tuple[list, shapely.Polygon]:
    """Changed regions of a pair in pixels, and the extent."""
    with open_dates(pair) as aligned:
        grid = aligned.grid
        tile = max(64, min(256, max(grid.width, grid.height) // TILES_A_SIDE))
        scene = look_at(aligned, pair, {}, tile)
    journal = Journal(folder / "journal", {}, False)
    found = find_changes(scene, finder, journal, 16)
    journal.remove()
    return region_changes(found), box(0, 0, grid.width, grid.height)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    data = parser.parse_args().data
    network = AutoModelForImageTextToText.from_pretrained(unirs.default_checkpoint())
    processor = AutoProcessor.from_pretrained(unirs.default_checkpoint())
    lines, sums = [], {}
    for kind in ("geotiff", "rsvqa_lr", "rsvqa_hr"):
        rows = []
        finder = ChangeFinder(network, processor, THRESHOLD, max_new_tokens=16 if kind == "geotiff" else 1)
        for file in sorted((data / kind).glob("*.tif")):
            with tempfile.TemporaryDirectory() as temporary:
                folder = Path(temporary)
                warped(file, folder / "same.tif")
                true = edited(file, folder / "edited.tif")
                same, whole = regions((file, folder / "same.tif"), finder, folder)
                found, _ = regions((file, folder / "edited.tif"), finder, folder)
            place = shapely.unary_union([one.place for one in found])
            iou = place.intersection(true).area / place.union(true).area
            false = shapely.unary_union([one.place for one in same]).area / whole.area
            rows.append((iou, false, bool(place.intersects(true))))
            if kind == "geotiff":
                caption = found[0].caption if found else ""
                lines.append(f"| {file.name} | {iou:.2f} | {false:.1%} | {caption} |")
            print(file.name, f"IoU {iou:.2f}, re-gridded only {false:.1%}", flush=True)
        sums[kind] = (
            f"| {kind} | {len(rows)} | {sum(hit for *_, hit in rows)} | {mean(iou for iou, *_ in rows):.2f} | "
            f"{mean(false for _, false, _ in rows):.1%} | {sum(false > 0 for _, false, _ in rows)} |"
        )
    head = [
        "# `unirs map` on real rasters",
        "",
        "`python benchmarks/map_real_files.py ../shared/data`: unirs-tiny, threshold 0.5, two tiles a side of at most",
        "256 pixels. Every raster against itself with an edit of a sixteenth of its area, and on another grid.",
        "",
        "| folder | rasters | edit found | mean IoU with the edit | re-gridded only: area changed | in so many |",
        "|---|---|---|---|---|---|",
        *sums.values(),
        "",
        "| geotiff | IoU | re-gridded only | caption of the first region |",
        "|---|---|---|---|",
    ]
    RESULTS.write_text("\n".join([*head, *lines]) + "\n")


if __name__ == "__main__":
    main()
