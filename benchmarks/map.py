"""Memory, time and reading of `unirs map` on large pairs that are made on the fly.

    OMP_NUM_THREADS=1 python benchmarks/map.py SCENE.tif --folder /tmp/unirs-map

SCENE is any 8-bit RGB raster; its mirrored copies fill pairs of 5,000, 10,000 and 20,000 pixels a side (tiled, ZSTD),
the second date with a few hundred grey squares. Every run writes all outputs. Leaves benchmarks/results/map.json, .md
and .png.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window
from unirs.geo.change_map import look_at
from unirs.geo.coregistration import open_dates

RESULTS = Path(__file__).parent / "results"
SIDES = (5_000, 10_000, 20_000)
TILE, BLOCK = 256, 512  # the command's own tile
EDITS, EDIT = 300, 120  # squares in the largest pair, and their side in pixels
OUTPUTS = {"--output": "changes.geojson", "--heatmap": "change.tif", "--preview": "preview.png", "--html": "map.html"}


def make_pair(scene: Path, folder: Path, side: int) -> tuple[Path, Path]:
    """Writes both dates, a row of blocks at a time."""
    paths = folder / f"before-{side}.tif", folder / f"after-{side}.tif"
    if all(path.exists() for path in paths):
        return paths
    with rasterio.open(scene) as file:
        picture = file.read((1, 2, 3))
    unit = np.concatenate([picture, picture[:, :, ::-1]], axis=2)
    unit = np.concatenate([unit, unit[:, ::-1]], axis=1)  # mirrored: no seams
    rng = np.random.default_rng(0)
    squares = rng.integers(0, side - EDIT, (round(EDITS * (side / max(SIDES)) ** 2), 2))
    profile = {"driver": "GTiff", "width": side, "height": side, "count": 3, "dtype": "uint8", "crs": "EPSG:32631"}
    profile |= {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "zstd", "zstd_level": 1}
    columns = np.arange(side) % unit.shape[2]
    for number, path in enumerate(paths):
        with rasterio.open(path, "w", transform=from_origin(500_000, 5_700_000, 0.5, 0.5), **profile) as file:
            for top in range(0, side, BLOCK):
                rows = np.arange(top, min(top + BLOCK, side)) % unit.shape[1]
                strip = unit[:, rows][:, :, columns]
                for y, x in squares if number else ():
                    inside = slice(max(0, y - top), max(0, y + EDIT - top))
                    strip[:, inside, x : x + EDIT] = 190
                file.write(strip, window=Window(0, top, side, len(rows)))
    return paths


def run_map(pair: tuple[Path, Path], folder: Path, threshold: float) -> dict:
    """One run of the command: seconds, processor seconds, and the most memory that it ever held."""
    words = [word for option, name in OUTPUTS.items() for word in (option, str(folder / name))]
    command = [sys.executable, "-m", "unirs", "map", *map(str, pair), *words, "--threshold", str(threshold)]
    command += ["--tile", str(TILE), "--json"]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    assert status == 0, printed
    found = json.loads(printed)
    return {
        "tiles": found["tiles"],
        "captioned": found["captioned"],
        "changes": found["changes"],
        "seconds": round(seconds, 1),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mb": round(usage.ru_maxrss / 1024),
    }


def reading(pair: tuple[Path, Path]) -> dict:
    """Processor seconds of our reading of all tiles against bare windowed reads of the same windows; best of three.

    "Reading" is values and validity; "pictures" goes on to what the image processor is given.
    """
    found: dict[str, list[float]] = {"ours": [], "bare": [], "pictures": []}
    for _ in range(3):
        with open_dates(pair) as aligned:
            scene = look_at(aligned, pair, {}, TILE)
            windows = [tile.inside(aligned.grid) for tile in scene.tiles]
            started = time.process_time()
            for window in windows:
                for date in aligned.dates:
                    date.read(window)
            found["ours"].append(time.process_time() - started)
            started = time.process_time()
            for window in windows:
                scene.rendering.read(aligned, window)
            found["pictures"].append(time.process_time() - started)
        with rasterio.Env(GDAL_CACHEMAX=256 * 2**20), rasterio.open(pair[0]) as one, rasterio.open(pair[1]) as other:
            started = time.process_time()
            for window in windows:
                one.read((1, 2, 3), window=window)
                other.read((1, 2, 3), window=window)
            found["bare"].append(time.process_time() - started)
    best = {f"{name}_seconds": round(min(seconds), 2) for name, seconds in found.items()}
    return {**best, "ratio": round(min(found["ours"]) / min(found["bare"]), 2)}


def plot(runs: dict[str, dict], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4))
    tiles = [run["tiles"] for run in runs.values()]
    for name, label in (("seconds", "by the clock"), ("processor_seconds", "of the processor")):
        axes[0].plot(tiles, [run[name] for run in runs.values()], "o-", label=label)
    axes[0].set(xlabel=f"tiles of {TILE} x {TILE}", ylabel="seconds", xlim=(0, None), ylim=(0, None), title="Time")
    axes[0].legend()
    axes[1].plot(tiles, [run["peak_mb"] for run in runs.values()], "o-", color="#be1426")
    axes[1].axhline(2048, linestyle="--", color="grey")
    axes[1].set(
        xlabel=f"tiles of {TILE} x {TILE}",
        ylabel="MB",
        xlim=(0, None),
        ylim=(0, 2200),
        title="Most memory held (limit 2 GB)",
    )
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def markdown(results: dict) -> str:
    lines = [
        "# `unirs map` on large pairs",
        "",
        f"{results['machine']}. {results['note']}",
        "",
        "| pixels a side | tiles | captioned | seconds | processor seconds | of it ms a tile | most memory, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for side, run in results["runs"].items():
        each = 1000 * run["processor_seconds"] / run["tiles"]
        cells = (
            side,
            run["tiles"],
            run["captioned"],
            run["seconds"],
            run["processor_seconds"],
            f"{each:.0f}",
            run["peak_mb"],
        )
        lines.append("| " + " | ".join(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in cells) + " |")
    read = results["reading"]
    lines += [
        "",
        f"Reading both dates of all tiles of the pair of {read['side']:,} pixels takes {read['ours_seconds']} s of "
        f"the processor, bare windowed reads of the same windows {read['bare_seconds']} s: {read['ratio']} times. "
        f"To pictures for the image processor it takes {read['pictures_seconds']} s in all.",
        "",
        "![time and memory against tiles](map.png)",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scene", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/unirs-map"))
    parser.add_argument("--threshold", type=float, default=0.8)
    parser.add_argument("--note", default="")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    results: dict = {
        "machine": f"{os.cpu_count()} cores ({model[1] if model else 'unknown'}), unirs-tiny, "
        f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}",
        "note": given.note,
        "threshold": given.threshold,
        "runs": {},
    }
    for side in sorted(SIDES, reverse=True):
        pair = make_pair(given.scene, given.folder, side)
        results["runs"][side] = run_map(pair, given.folder, given.threshold)
        print(side, results["runs"][side], flush=True)
        if side == SIDES[1]:
            results["reading"] = {"side": side, **reading(pair)}
            print(results["reading"], flush=True)
        (RESULTS / "map.json").write_text(json.dumps(results, indent=1) + "\n")
    results["runs"] = dict(sorted(results["runs"].items()))
    (RESULTS / "map.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "map.md").write_text(markdown(results))
    plot(results["runs"], RESULTS / "map.png")


if __name__ == "__main__":
    main()
