"""Speed at full size on a GPU: first token, decoding at batch 1, and answers a second against transformers' LLaVA.

    python benchmarks/speed_gpu.py [--output benchmarks/results/speed_gpu.json]

The models of benchmarks/first_token.py, on one accelerator. Decoding with a static cache is compiled by `generate`
itself there, with CUDA graphs. Answers a second count `generate` on pixels that lie on the device: questions about
pictures (4 tokens), captions of pairs (24), clips of 8 frames (4), at each batch size; LLaVA gets the same pictures as
729 tokens each. "With clues" adds a first answer of 16 tokens about the same look at the pictures. `--small` tries it
anywhere.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from first_token import prompt
from full_size import FRAMES, answer, build, build_llava, median
from unirs.modeling_unirs.shared_features_unirs import answer_features, pair_features

BATCHES = (1, 4, 16, 64)
TASKS = {"picture": (1, 4), "pair": (2, 24), "clip": (FRAMES, 4)}  # pictures, and tokens of an answer
CLUE_TOKENS = 16


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def limits(device: str, small: bool) -> dict[str, float]:
    """TFLOP/s of a large bfloat16 product, GB/s of reading (half of what a copy moves); the best of five."""
    side, size = (512, 2**22) if small else (8192, 2**31)
    left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    seconds: dict[str, list[float]] = {"product": [], "copy": []}
    for _ in range(5):
        for name, run in (("product", lambda: left @ right), ("copy", lambda: target.copy_(source))):
            synchronize(device)
            started = time.perf_counter()
            for _ in range(4):
                run()
            synchronize(device)
            seconds[name].append((time.perf_counter() - started) / 4)
    return {
        "matmul_tflops": round(2 * side**3 / min(seconds["product"]) / 1e12, 1),
        # a copy on an accelerator reads and writes at once; reading alone has both directions
        "memory_gb_per_s": round(2 * size / min(seconds["copy"]) / 1e9, 1),
    }


def inputs_of(model, task: str, batch: int, llava: bool, device: str) -> dict[str, torch.Tensor]:
    """`batch` prompts with their pixels, as each model takes them."""
    config = model.config
    side, count = config.vision_config.image_size, TASKS[task][0]
    pixels = torch.randn(batch * count, 3, side, side, device=device, dtype=torch.bfloat16)
    few, many = config.image_seq_length, config.vision_grid**2
    if llava:
        blocks, visual = [(config.image_token_id, many)] * count, {"pixel_values": pixels}
    elif task == "picture":
        blocks, visual = [(config.image_token_id, few)], {"pixel_values": pixels}
    elif task == "pair":
        blocks, visual = [(config.change_token_id, few)], {"pixel_values_pairs": pixels.unflatten(0, (batch, 2))}
    else:
        blocks = [(token, few) for token in config.frame_token_ids[:count]]
        visual = {"pixel_values_videos": pixels}
    words = {name: value.expand(batch, -1).to(device) for name, value in prompt(*blocks).items()}
    return {**words, **visual}


def looked_at_once(model, task: str, ours: dict, batch: int, device: str) -> tuple[dict, dict]:
    """The prompts of clue and answer over one look at the pictures; the base reads a pair as two plain pictures."""
    core, config = model.model, model.config
    words = {name: value for name, value in ours.items() if not name.startswith("pixel")}
    if task != "pair":
        seen = {**words, **core.get_visual_features(ours)}
        return seen, seen
    encoded = core.encode_pairs(ours["pixel_values_pairs"])  # (pairs, 2, patches, dim)
    plain = prompt(*[(config.image_token_id, config.image_seq_length)] * 2)
    for_clue = {name: value.expand(batch, -1).to(device) for name, value in plain.items()}
    for_clue["image_features"] = pair_features(core, encoded).flatten(0, 1)
    return for_clue, {**words, **answer_features(core, {}, encoded)}


@torch.no_grad()
def rate(run, batch: int, device: str) -> float:
    """Answers a second: the median of three after a warm-up."""
    seconds = []
    for turn in range(4):
        synchronize(device)
        started = time.perf_counter()
        run()
        synchronize(device)
        if turn:
            seconds.append(time.perf_counter() - started)
    return round(batch / median(seconds), 3)


def throughput(model, llava, batches: tuple[int, ...], device: str) -> dict[str, dict]:
    found: dict[str, dict] = {}
    for task, (_, tokens) in TASKS.items():
        found[task] = {"unirs": {}, "unirs with clues": {}, "llava": {}}
        for batch in batches:
            ours, theirs = (inputs_of(model, task, batch, peer, device) for peer in (False, True))
            said = {"max_new_tokens": tokens, "do_sample": False}

            def with_clue(task=task, ours=ours, said=said, batch=batch):
                for_clue, for_answer = looked_at_once(model, task, ours, batch, device)
                model.generate(**for_clue, max_new_tokens=CLUE_TOKENS, do_sample=False)
                model.generate(**for_answer, **said)

            ways = {
                "unirs": lambda ours=ours, said=said: model.generate(**ours, **said),
                "unirs with clues": with_clue,
                "llava": lambda theirs=theirs, said=said: llava.generate(**theirs, **said),
            }
            for name, run in ways.items():
                try:
                    found[task][name][batch] = rate(run, batch, device)
                except torch.OutOfMemoryError:
                    found[task][name][batch] = None
            print(task, batch, {name: rates[batch] for name, rates in found[task].items()}, flush=True)
        best = {name: max(one for one in rates.values() if one) for name, rates in found[task].items()}
        found[task] |= {"best": best, "ratio_to_llava": round(best["unirs"] / best["llava"], 2)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/speed_gpu.json"))
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--small", action="store_true", help="tiny shapes, to try the script")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = build(args.small)[0].to(device)
    bounds = limits(device, args.small)
    one = inputs_of(model, "picture", 1, False, device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    decoding = {}
    for name, options in (("plain", {}), ("static cache, compiled", {"cache_implementation": "static"})):
        first = answer(model, one, args.tokens, **options)
        later = [answer(model, one, args.tokens, **options) for _ in range(5)]
        each = median([run["a_token"] for run in later])
        decoding[name] = {
            "first_token_ms": round(1000 * median([run["first_token"] for run in later]), 2),
            "tokens_per_second": round(1 / max(each, 1e-4), 1),
            "first_answer_extra_s": round(first["all"] - median([run["all"] for run in later]), 1),
        }
        print(name, decoding[name], flush=True)
    weights = sum(p.numel() * p.element_size() for p in model.model.language_model.layers.parameters())
    weights += model.lm_head.weight.numel() * model.lm_head.weight.element_size()
    memory = torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else None
    result = {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "torch": torch.__version__,
        "limits": bounds,
        "decoding": decoding,
        "tokens_per_second_at_the_memory_limit": round(bounds["memory_gb_per_s"] * 1e9 / weights, 1),
        "peak_memory_gb_one_picture": memory,
        "answers_per_second": throughput(
            model, build_llava(model).to(device), BATCHES[: 2 if args.small else 4], device
        ),
    }
    args.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
