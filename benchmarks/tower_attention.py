"""The tower's attention on a CPU, PyTorch's fused kernel against a few heads at a time, in bfloat16 at full size.

    python benchmarks/tower_attention.py [--rounds 5] [--output benchmarks/results/tower_attention.json]

PyTorch's kernel is slow at SigLIP's heads of 72 numbers. Here the scores of four heads at a time are one matrix
product that stays in the cache. It is registered with transformers as any attention function is, and chosen by
`attn_implementation={"vision_config": "heads"}`; it is no part of the package (docs/performance.md says why).
"""

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path

import torch
from full_size import build, limits, machine, median
from transformers import AttentionInterface

HEADS = 4  # at a time: 4 MB of scores


def heads_attention(module, query, key, value, attention_mask, scaling=None, **rest):
    """`(pictures, heads, patches, dim)` each to `(pictures, patches, heads, dim)`; for inference, without a mask."""
    shape = query.shape
    query, key, value = (each.reshape(-1, *shape[2:]) for each in (query * scaling, key, value))
    said = torch.empty_like(query)
    scores = torch.empty(HEADS, shape[2], shape[2], dtype=query.dtype)
    for start in range(0, len(query), HEADS):
        part = slice(start, start + HEADS)
        room = scores[: len(query[part])]
        torch.bmm(query[part], key[part].transpose(1, 2), out=room)
        torch.softmax(room, -1, out=room)
        torch.bmm(room, value[part], out=said[part])
    return said.view(shape).transpose(1, 2).contiguous(), None


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/tower_attention.json"))
    parser.add_argument("--small", action="store_true", help="tiny shapes, to try the script")
    args = parser.parse_args()
    AttentionInterface.register("heads", heads_attention)
    model, _ = build(args.small)
    tower, side = model.model.vision_tower, model.config.vision_config.image_size
    pictures = torch.randn(2, 3, side, side).to(torch.bfloat16)
    seconds, features = defaultdict(list), {}
    rate = limits(args.small)["matmul_gflops"]
    for turn in range(args.rounds + 1):  # the first warms up
        for shown in (1, 2):
            for way in ("sdpa", "eager", "heads"):
                tower.set_attn_implementation(way)
                started = time.perf_counter()
                features[way] = model.model.encode_pixels(pictures[:shown])
                if turn:
                    seconds[shown, way].append(time.perf_counter() - started)
    tower.set_attn_implementation("sdpa")
    truth = tower.float()(pixel_values=pictures.float()).last_hidden_state
    result = {
        **machine(),
        "matmul_gflops": rate,
        "seconds": {f"{shown} pictures, {way}": round(median(took), 3) for (shown, way), took in seconds.items()},
        "ratio_to_sdpa": {
            f"{shown} pictures": round(median(seconds[shown, "heads"]) / median(seconds[shown, "sdpa"]), 3)
            for shown in (1, 2)
        },
        "mean_error_to_float32": {
            way: round(((found.float() - truth).abs().mean() / truth.abs().mean()).item(), 5)
            for way, found in features.items()
        },
    }
    args.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
