"""RS-World beside real aerial pictures, how fast it is drawn, and sheets of it to look at.

    python benchmarks/rs_world.py speed [--rounds 7]
    python benchmarks/rs_world.py answers
    python benchmarks/rs_world.py statistics --data ../shared/data
    python benchmarks/rs_world.py sheets --data ../shared/data --output FOLDER

Each writes its part of results/rs_world.json, and results/rs_world.md anew; `sheets` writes pictures, of which those
named "beside" hold real ones and are not to be committed.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from importlib import metadata
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from unirs.trainers.scene_changes import CHANGE_KINDS
from unirs.trainers.scene_questions import PRESENCE_TEMPLATES
from unirs.trainers.scene_tasks import (
    CLIP_CLASSES,
    HELD_OUT_SEED,
    TEST_SEED,
    WORLD_VERSION,
    clip_sample,
    pair_captions,
    pair_sample,
    sequence_sample,
    single_sample,
)

RESULTS = Path(__file__).with_name("results")
SIZE = 256
PROCESSES = 2
PAIRS = 120  # a round
PICTURES = 500
SINGLE_KINDS = ("presence", "comparison", "rural_urban", "count", "scene", "area", "position")
BAND = (0.02, 0.35)  # cycles a pixel: above, resampling and JPEG rule the real ones
REAL = {
    "RSSCN7, test": "rsscn7/test/*/*.jpg",
    "LEVIR-CD": "levir_cd/[AB]/*.png",
    "DSIFN-CD": "dsifn/[AB]/*",
    "RSVQA-HR": "rsvqa_hr/*.tif",
}
MEASURES = {
    "slope": "slope of the power spectrum",
    "kurtosis": "kurtosis of gradients",
    "red": "red, mean",
    "green": "green, mean",
    "blue": "blue, mean",
    "contrast": "brightness, deviation within a picture",
    "saturation": "saturation, mean",
    "saturation_deviation": "saturation, deviation within a picture",
}


# -- speed -----------------------------------------------------------------------------------------------------------
def draw_pairs(seeds: range) -> float:
    """CPU seconds for these pairs."""
    started = time.process_time()
    for seed in seeds:
        pair_sample(seed, SIZE)
    return time.process_time() - started


def speed(rounds: int) -> dict:
    """Pairs a second of two processes that are up already, their stored noise with them."""
    rates, seconds, loads = [], [], []
    with ProcessPoolExecutor(PROCESSES) as pool:
        list(pool.map(draw_pairs, [range(1)] * 2 * PROCESSES))
        for number in range(rounds):
            first = number * PAIRS
            jobs = [range(start, start + 10) for start in range(first, first + PAIRS, 10)]
            loads.append(os.getloadavg()[0])
            started = time.perf_counter()
            seconds += [sum(pool.map(draw_pairs, jobs)) / PAIRS]
            rates.append(PAIRS / (time.perf_counter() - started))
            print(f"round {number + 1}: {rates[-1]:.1f} pairs a second, {1000 * seconds[-1]:.1f} ms of CPU a pair")
    return {
        "what": f"pairs of {SIZE} px, {PROCESSES} processes, {rounds} rounds of {PAIRS}",
        "pairs_per_second": round(statistics.median(rates), 1),
        "rounds": [round(rate, 1) for rate in rates],
        "cpu_ms_a_pair": round(1000 * statistics.median(seconds), 1),
        "load_1_minute": [round(load, 1) for load in loads],
    }


# -- answers ---------------------------------------------------------------------------------------------------------
def answers() -> dict:
    """For each kind of question: how many, and the share of the answer that its words make likeliest."""
    result = {}
    for split, first in (("validation", HELD_OUT_SEED), ("test", TEST_SEED)):
        given: dict[str, dict[str, Counter]] = defaultdict(lambda: defaultdict(Counter))
        for seed in range(first, first + PICTURES):
            for sample in (single_sample(seed, 64), pair_sample(seed, 32), sequence_sample(seed, 32)):
                for one in sample.questions:
                    if not one.kind.endswith("caption"):
                        asked = one.question
                        for words in PRESENCE_TEMPLATES:  # three wordings of one question
                            start, end = words.split("{a}")
                            if asked.startswith(start) and asked.endswith(end):
                                asked = asked.removeprefix(start).removesuffix(end)
                        given[one.kind][asked][one.answer] += 1
        rows = {}
        for kind, questions in given.items():
            count = sum(some.total() for some in questions.values())
            likeliest = sum(max(some.values()) for some in questions.values())
            rows[kind] = {
                "n": count,
                "answers": len(sum(questions.values(), Counter())),
                "best_blind": likeliest / count,
            }
        single = [rows[kind] for kind in SINGLE_KINDS]
        micro = sum(one["n"] * one["best_blind"] for one in single) / sum(one["n"] for one in single)
        rows["single pictures, all"] = {"n": sum(one["n"] for one in single), "best_blind": micro}
        result[split] = {kind: {**row, "best_blind": round(row["best_blind"], 3)} for kind, row in rows.items()}
    return {"what": f"{PICTURES} seeds of each split; the best answer to each question's words alone", **result}


# -- statistics ------------------------------------------------------------------------------------------------------
def square(image: Image.Image) -> np.ndarray:
    """The middle of a picture at its own resolution, at most SIZE pixels: (side, side, 3), uint8."""
    image = image.convert("RGB")
    side = min(*image.size, SIZE)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side)))


def spectrum(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies in cycles a pixel, and the power averaged over all directions, of a picture under a Hann window."""
    side = len(grey)
    window = np.hanning(side)
    power = np.abs(np.fft.fft2((grey - grey.mean()) * window[:, None] * window)) ** 2 / (window**2).sum() ** 2
    radius = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)) * side
    ring = np.round(radius).astype(int).ravel()
    mean = np.bincount(ring, power.ravel()) / np.bincount(ring)
    return np.arange(1, side // 2) / side, mean[1 : side // 2]


def measure(picture: np.ndarray) -> dict[str, float]:
    pixels = picture.astype(np.float64)
    grey = pixels @ [0.299, 0.587, 0.114]
    frequency, power = spectrum(grey)
    band = (frequency >= BAND[0]) & (frequency <= BAND[1])
    slope = np.polyfit(np.log(frequency[band]), np.log(power[band] + 1e-9), 1)[0]
    steps = np.concatenate([np.diff(grey, axis=axis).ravel() for axis in (0, 1)])
    high, low = pixels.max(axis=2), pixels.min(axis=2)
    saturation = (high - low) / np.maximum(high, 1)
    red, green, blue = pixels.mean(axis=(0, 1))
    return {
        "slope": slope,
        "kurtosis": ((steps - steps.mean()) ** 4).mean() / max(steps.var(), 1e-9) ** 2,
        "red": red,
        "green": green,
        "blue": blue,
        "contrast": grey.std(),
        "saturation": saturation.mean(),
        "saturation_deviation": saturation.std(),
    }


def real_pictures(data: Path, pattern: str) -> list[np.ndarray]:
    paths = sorted(data.glob(pattern))
    if not paths:
        sys.exit(f"{data / pattern}: nothing there; give --data the folder of the real pictures")
    return [square(Image.open(path)) for path in paths]


def generated_pictures() -> list[np.ndarray]:
    """Half from validation, half with the layouts of the test."""
    firsts = (HELD_OUT_SEED, TEST_SEED)
    return [square(single_sample(first + k, SIZE).images[0]) for k in range(PICTURES // 2) for first in firsts]


def compare(data: Path, plot: Path) -> dict:
    sets = {"RS-World": generated_pictures()}
    sets |= {name: real_pictures(data, pattern) for name, pattern in REAL.items()}
    values = {name: {key: [] for key in MEASURES} for name in sets}
    for name, pictures in sets.items():
        for pixels in pictures:
            for key, value in measure(pixels).items():
                values[name][key].append(value)
    draw_spectra(sets, plot)
    real = {key: np.concatenate([values[name][key] for name in REAL]) for key in MEASURES}
    result = {}
    for name in sets:
        quantiles = {key: np.quantile(some, (0.05, 0.5, 0.95)) for key, some in values[name].items()}
        result[name] = {"pictures": len(sets[name])} | {
            key: [round(float(one), 3) for one in some] for key, some in quantiles.items()
        }
    inside = {}
    for key in MEASURES:
        low, high = np.quantile(real[key], (0.05, 0.95))
        inside[key] = round(float(np.mean([low <= one <= high for one in values["RS-World"][key]])), 3)
    return {"what": f"5 %, 50 %, 95 % over pictures of at most {SIZE} px", "sets": result, "inside_real_90": inside}


def draw_spectra(sets: dict[str, list[np.ndarray]], file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4), dpi=110)
    grid = np.geomspace(0.01, 0.48, 60)
    for name, pictures in sets.items():
        curves = [np.interp(np.log(grid), np.log(f), np.log(p + 1e-9)) for f, p in map(spectrum_of, pictures)]
        mean = np.mean(curves, axis=0)
        axes.plot(grid, np.exp(mean), label=name, linewidth=2.4 if name == "RS-World" else 1.2)
    axes.set(xscale="log", yscale="log", xlabel="cycles a pixel", ylabel="power (geometric mean over pictures)")
    axes.axvspan(*BAND, alpha=0.08, color="black")
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(file)


def spectrum_of(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return spectrum(pixels @ [0.299, 0.587, 0.114])


# -- sheets ----------------------------------------------------------------------------------------------------------
def sheet(rows: list[list[Image.Image]], side: int, labels: list[str] | None = None) -> Image.Image:
    gap, line = 4, 16 if labels else 0
    width = max(len(row) for row in rows) * (side + gap) + gap
    page = Image.new("RGB", (width, len(rows) * (side + gap + line) + gap), "white")
    draw = ImageDraw.Draw(page)
    for number, row in enumerate(rows):
        top = gap + number * (side + gap + line)
        if labels:
            draw.text((gap, top), labels[number], fill="black")
        for place, image in enumerate(row):
            small = image.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
            page.paste(small, (gap + place * (side + gap), top + line))
    return page


def pair_row(seed: int) -> tuple[list[Image.Image], str]:
    pair = pair_sample(seed, SIZE)
    mask = Image.fromarray(pair.change_mask)
    return [*pair.images, mask.convert("RGB")], f"{pair.label}: {pair.questions[0].answer}"


def sheets(data: Path, folder: Path, page: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, first in (("validation", HELD_OUT_SEED), ("test", TEST_SEED)):
        singles = [single_sample(first + number, SIZE).images[0] for number in range(24)]
        sheet([singles[k : k + 6] for k in range(0, 24, 6)], SIZE).save(folder / f"singles_{name}.png")
        found: dict[str, tuple[list[Image.Image], str]] = {}
        seed = first
        while len(found) < len(CHANGE_KINDS) + 1:
            row, words = pair_row(seed)
            found.setdefault(words.partition(":")[0], (row, words))
            seed += 1
        rows = [found[kind] for kind in (*CHANGE_KINDS, "no change")]
        sheet([row for row, _ in rows], SIZE, [words for _, words in rows]).save(folder / f"pairs_{name}.png")
        clips: dict[str, list[Image.Image]] = {}
        seed = first
        while len(clips) < len(CLIP_CLASSES):
            clip = clip_sample(seed, 192)
            clips.setdefault(clip.label, list(clip.images))
            seed += 1
        sheet(list(clips.values()), 192, list(clips)).save(folder / f"clips_{name}.png")
        dated = [sequence_sample(first + number, SIZE) for number in range(5)]
        labels = [sample.questions[0].answer for sample in dated]
        sheet([list(sample.images) for sample in dated], SIZE, labels).save(folder / f"sequences_{name}.png")
    # every second one is real
    beside = []
    for number, pattern in enumerate(REAL.values()):
        paths = sorted(data.glob(pattern))
        real = [Image.fromarray(square(Image.open(p))) for p in paths[:: max(1, len(paths) // 3)]][:3]
        made = [single_sample(HELD_OUT_SEED + 40 + 3 * number + k, SIZE).images[0] for k in range(3)]
        beside.append([one for two in zip(real, made, strict=False) for one in two])
    sheet(beside, SIZE).save(folder / "beside_real.png")
    # the one that is published: generated alone
    singles = [[single_sample(first + k, SIZE).images[0] for k in range(6)] for first in (HELD_OUT_SEED, TEST_SEED)]
    changed = [seed for seed in range(TEST_SEED, TEST_SEED + 20) if pair_captions(seed)[0]]
    pairs = [picture for seed in changed[:2] for picture in pair_row(seed)[0]]
    dated = sequence_sample(TEST_SEED + 3, SIZE).images
    still = next(seed for seed in range(TEST_SEED, TEST_SEED + 20) if not pair_captions(seed)[0])
    frames = clip_sample(TEST_SEED + 9, SIZE, 6).images
    rows = [*singles, pairs, [*dated, *pair_row(still)[0][:2]], list(frames)]
    labels = ["validation", "test: other streets, fields, lakes and woods", "two pairs with the mask of what changed",
              "four dates of one place; a pair without a change", "a clip"]  # fmt: skip
    page.parent.mkdir(exist_ok=True)
    sheet(rows, 176, labels).save(page, quality=84)


# -- report ----------------------------------------------------------------------------------------------------------
def page_of(known: dict) -> str:
    lines = ["<!-- python benchmarks/rs_world.py -->", "# RS-World measured", ""]
    if "speed" in known:
        one = known["speed"]
        lines += [
            f"**{one['pairs_per_second']} pairs a second** (median; {one['what']}: "
            f"{', '.join(map(str, one['rounds']))}). A pair takes {one['cpu_ms_a_pair']} ms of one core. "
            f"{one['machine']}, load {one['load_1_minute'][0]} before the first round (above 0, other work shared "
            f"the cores). World {one['world']}.",
            "",
        ]
    if "answers" in known:
        two = [known["answers"][split] for split in ("validation", "test")]
        lines += [
            "What the words of a question give away: the share of right answers of one who knows the likeliest answer "
            f"to each wording and sees nothing ({PICTURES} seeds of each split; fitted on the same answers; "
            f"world {known['answers']['world']}).",
            "",
            "| | n | validation | n | test |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| {kind} | {two[0][kind]['n']} | {two[0][kind]['best_blind']:.3f} | {two[1][kind]['n']} | "
            f"{two[1][kind]['best_blind']:.3f} |"
            for kind in two[0]
        ]
        lines += [""]
    if "statistics" in known:
        sets, inside = known["statistics"]["sets"], known["statistics"]["inside_real_90"]
        names = list(sets)
        lines += [
            "Median over pictures, and the range of the middle 90 %. Last column: share of RS-World's pictures that "
            f"lie in the middle 90 % of all real ones. World {known['statistics']['world']}.",
            "",
            "| | " + " | ".join(f"{name} ({sets[name]['pictures']})" for name in names) + " | within |",
            "|---" * (len(names) + 2) + "|",
        ]
        for key, words in MEASURES.items():
            cells = [f"{m:.3g} ({low:.3g} to {high:.3g})" for low, m, high in (sets[name][key] for name in names)]
            lines.append(f"| {words} | " + " | ".join(cells) + f" | {inside[key]:.0%} |")
        lines += ["", "![spectra](../../docs/images/rs_world_spectra.png)", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["speed", "answers", "statistics", "sheets"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--output", type=Path, default=Path("runs/rs_world"), help="folder of the sheets")
    args = parser.parse_args()
    images = Path(__file__).parents[1] / "docs" / "images"
    images.mkdir(exist_ok=True)
    if args.part == "sheets":
        sheets(args.data, args.output, images / "rs_world.jpg")
        return
    result = {
        "speed": lambda: speed(args.rounds),
        "answers": answers,
        "statistics": lambda: compare(args.data, images / "rs_world_spectra.png"),
    }[args.part]()
    result |= {
        "world": WORLD_VERSION,
        "command": " ".join(["python benchmarks/rs_world.py", *sys.argv[1:]]),
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}",
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("numpy", "pillow")},
        },
    }
    file = RESULTS / "rs_world.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    known[args.part] = result
    file.write_text(json.dumps(known, indent=1) + "\n")
    file.with_suffix(".md").write_text(page_of(known))


if __name__ == "__main__":
    main()
