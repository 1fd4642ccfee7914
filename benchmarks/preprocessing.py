"""Pictures and clips a second to pixel tensors, against transformers' own processors on the same files.

    python benchmarks/preprocessing.py [--data ../shared/data] [--output benchmarks/results/preprocessing.json]

Peers: `SiglipImageProcessorPil` on pictures that Pillow opens and turns to RGB, squashed to 384 pixels as ours with
`image_aspect_ratio="resize"` (padding, our default, makes another picture); for clips the same on the frames that our
rule takes, after decord decoded them. One thread reads, one process, the ways take turns, medians of all rounds.
"""

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path

import torch
from full_size import machine, median
from PIL import Image
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from unirs.processing import UniRSImageProcessor, UniRSVideoProcessor
from unirs.processing.frame_sampling_unirs import sample_frame_indices

SIZE = {"height": 384, "width": 384}
MEAN = STD = [0.5, 0.5, 0.5]
FOLDERS = ("rsscn7/test", "single", "levir_cd", "rsvqa_hr")
MOST, FRAMES, BATCH = 200, 8, 8


def pictures(data: Path) -> list[Path]:
    found = [
        path
        for folder in FOLDERS
        for path in sorted((data / folder).rglob("*"))
        if path.suffix.lower() in (".jpg", ".jpeg", ".png")
    ]
    return found[:: max(1, len(found) // MOST)][:MOST]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/preprocessing.json"))
    args = parser.parse_args()
    import decord

    same = {"size": SIZE, "image_mean": MEAN, "image_std": STD}
    ours, squashed = UniRSImageProcessor(**same), UniRSImageProcessor(**same, image_aspect_ratio="resize")
    clips, peer = (
        UniRSVideoProcessor(num_frames=FRAMES, **same, image_aspect_ratio="resize"),
        SiglipImageProcessorPil(**same),
    )

    def batches(paths):
        return [paths[start : start + BATCH] for start in range(0, len(paths), BATCH)]

    def with_ours(processor, paths):
        return torch.cat(
            [processor(list(map(str, part)), return_tensors="pt")["pixel_values"] for part in batches(paths)]
        )

    def with_peer(paths):
        found = []
        for part in batches(paths):
            opened = [Image.open(path).convert("RGB") for path in part]
            found.append(peer(opened, return_tensors="pt")["pixel_values"])
        return torch.cat(found)

    def clips_with_peer(paths):
        found = []
        for path in paths:
            reader = decord.VideoReader(str(path), num_threads=1)
            frames = reader.get_batch(sample_frame_indices(len(reader), FRAMES)).asnumpy()
            found.append(peer([Image.fromarray(frame) for frame in frames], return_tensors="pt")["pixel_values"])
        return torch.cat(found)

    shown = pictures(args.data)
    films = sorted(path for path in (args.data / "video").rglob("*") if path.suffix == ".mp4")
    ways = {
        "pictures, unirs padded": (len(shown), lambda: with_ours(ours, shown)),
        "pictures, unirs squashed": (len(shown), lambda: with_ours(squashed, shown)),
        "pictures, transformers": (len(shown), lambda: with_peer(shown)),
        "clips, unirs": (len(films), lambda: clips(list(map(str, films)))["pixel_values_videos"]),
        "clips, transformers on decord": (len(films), lambda: clips_with_peer(films)),
    }
    seconds, made = defaultdict(list), {}
    for turn in range(args.rounds + 1):
        for name, (_, run) in ways.items():
            started = time.perf_counter()
            made[name] = run()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    rates = {name: round(count / median(seconds[name]), 2) for name, (count, _) in ways.items()}
    differ = (made["pictures, unirs squashed"] - made["pictures, transformers"]).abs().amax((1, 2, 3))
    result = {
        **machine(),
        "pictures": len(shown),
        "clips": [path.name for path in films],
        "a_second": rates,
        "ratios": {
            "pictures": round(rates["pictures, unirs squashed"] / rates["pictures, transformers"], 3),
            "clips": round(rates["clips, unirs"] / rates["clips, transformers on decord"], 3),
        },
        "pictures_of_equal_pixels": int((differ < 1e-6).sum()),
    }
    args.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
