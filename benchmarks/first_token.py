"""Seconds to the first token at full size, against LLaVA in transformers and VILA's way with pairs.

    python benchmarks/first_token.py [--rounds 3] [--output benchmarks/results/first_token.json]

SigLIP-so400m and a LLaMA of 2.7 B weights, random, bfloat16, one process; all models share tower and language model.
LLaVA gives the language model 729 tokens an image; VILA's way shows a pair as two images of 196 tokens each. Every
prompt has 64 tokens of text, `generate` says one token, the ways take turns, medians count. Beside them: the rate of a
large matrix product in the same run, and which share of it the reading of the prompt reaches.
"""

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path

import torch
from full_size import FRAMES, build, build_llava, limits, machine, median

TEXT = 64
AIMS = {
    ("image", "llava"): 0.35,
    ("pair", "vila"): 0.75,
    ("pair", "llava"): 0.30,
    ("clip", "llava"): 0.40,
}


class PromptClock:
    """Adds up the seconds of the tower and of the language model."""

    def __init__(self, towers, language_model):
        self.seconds: dict[str, float] = defaultdict(float)
        for name, part in (*(("tower", tower) for tower in towers), ("language model", language_model)):
            part.register_forward_pre_hook(lambda *rest: setattr(self, "started", time.perf_counter()))
            part.register_forward_hook(lambda *rest, name=name: self.add(name))

    def add(self, name: str) -> None:
        self.seconds[name] += time.perf_counter() - self.started

    def take(self) -> dict[str, float]:
        taken, self.seconds = dict(self.seconds), defaultdict(float)
        return taken


def prompt(*visual: tuple[int, int]) -> dict[str, torch.Tensor]:
    """Start, each placeholder `(id, times)`, and 64 tokens of text."""
    ids = [1, *(token for token, times in visual for _ in range(times)), *range(300, 300 + TEXT)]
    return {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}


def language_flops(model, tokens: int) -> float:
    """Operations that reading `tokens` takes: two a weight and token, attention by its lower half, one head."""
    layers = model.model.language_model.layers
    weights = sum(p.numel() for p in layers.parameters() if p.ndim == 2)
    attention = 2 * len(layers) * tokens**2 * model.config.text_config.hidden_size
    return 2.0 * weights * tokens + attention + 2.0 * model.lm_head.weight.numel()


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/first_token.json"))
    parser.add_argument("--small", action="store_true", help="tiny shapes, to try the script")
    args = parser.parse_args()
    model, _ = build(args.small)
    llava = build_llava(model)
    config, side = model.config, model.config.vision_config.image_size
    few, many = config.image_seq_length, config.vision_grid**2
    image, frames = (config.image_token_id, few), [(token, few) for token in config.frame_token_ids[:FRAMES]]
    pixels = torch.randn(FRAMES, 3, side, side).to(torch.bfloat16)
    one, two = pixels[:1], pixels[:2]
    shown = (config.image_token_id, many)
    ways = {
        ("image", "unirs"): (model, {**prompt(image), "pixel_values": one}),
        ("image", "llava"): (llava, {**prompt(shown), "pixel_values": one}),
        ("pair", "unirs"): (model, {**prompt((config.change_token_id, few)), "pixel_values_pairs": two[None]}),
        ("pair", "vila"): (model, {**prompt(image, image), "pixel_values": two}),
        ("pair", "llava"): (llava, {**prompt(shown, shown), "pixel_values": two}),
        ("clip", "unirs"): (model, {**prompt(*frames), "pixel_values_videos": pixels}),
        ("clip", "llava"): (llava, {**prompt(*[shown] * FRAMES), "pixel_values": pixels}),
    }
    clock = PromptClock((model.model.vision_tower, llava.model.vision_tower), model.model.language_model)
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    parts: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    rates = [limits(args.small)]
    for turn in range(args.rounds + 1):  # the first warms up, without the longest
        for way, (asked, inputs) in ways.items():
            if not turn and way == ("clip", "llava"):
                continue
            started = time.perf_counter()
            asked.generate(**inputs, max_new_tokens=1, do_sample=False)
            took = time.perf_counter() - started
            split = clock.take()
            if turn:
                seconds[way].append(took)
                parts[way].append(split)
            print(turn, way, round(took, 2), {name: round(value, 2) for name, value in split.items()}, flush=True)
        rates.append(limits(args.small))
    rate = median([each["matmul_gflops"] for each in rates])
    rows = []
    for way, (_, inputs) in ways.items():
        tokens = inputs["input_ids"].shape[1]
        reading = median([each["language model"] for each in parts[way]])
        gflops = language_flops(model, tokens) / reading / 1e9
        rows.append(
            {
                "input": way[0],
                "way": way[1],
                "prompt_tokens": tokens,
                "seconds": median(seconds[way]),
                "tower_seconds": median([each["tower"] for each in parts[way]]),
                "language_model_seconds": reading,
                "language_model_gflops": round(gflops, 1),
                "share_of_matmul_rate": round(gflops / rate, 3),
            }
        )
    ratios = {
        f"{kind}: unirs to {peer}": {
            "ratio": round(median(seconds[kind, "unirs"]) / median(seconds[kind, peer]), 3),
            "aim": aim,
        }
        for (kind, peer), aim in AIMS.items()
    }
    result = {
        **machine(),
        "rounds": args.rounds,
        "matmul_gflops": rate,
        "limits": rates,
        "rows": rows,
        "ratios": ratios,
    }
    args.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({"rows": rows, "ratios": ratios}, indent=1))


if __name__ == "__main__":
    main()
