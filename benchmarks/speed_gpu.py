"""Speed at full size on a GPU: first token, decoding at batch 1, and answers a second against transformers' LLaVA.

    python benchmarks/speed_gpu.py [--output benchmarks/results/speed_gpu.json]

The models of benchmarks/first_token.py, on one accelerator. Seconds a token are those of an answer of many tokens less
those of one token, through their number. Answers a second count `generate` on pixels that lie on the device: questions
about pictures (4 tokens), captions of pairs (24), clips of 8 frames (4), at each batch size; LLaVA gets the same
pictures as 729 tokens each. "With clues" adds a first answer of 16 tokens about the same look at the pictures.
A way that fails leaves its error among the numbers. `--parts` measures some only, into a file of its own (GPUs are
lent for minutes), `--tasks` and `--batches` of the answers. `--small` tries the script anywhere.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from first_token import prompt
from full_size import FRAMES, build, build_llava
from gpu_profile import profiled
from unirs.modeling_unirs.shared_features_unirs import answer_features, pair_features

from unirs.graph_decoding import GraphDecoder

BATCHES = (1, 16, 64)
TASKS = {"picture": (1, 4), "pair": (2, 24), "clip": (FRAMES, 4)}  # pictures, and tokens of an answer
CLUE_TOKENS = 16
ROUNDS = 5
MAX_LENGTH = 512  # tokens that a recorded step attends to
MAX_LENGTH_OF_CLIP = 2048
PARTS = ("decoding", "profile", "first_token", "throughput")


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(run, rounds: int = ROUNDS, warm_up: int = 1) -> float:
    """Median of `rounds` after the warm-up."""
    times = []
    for turn in range(warm_up + rounds):
        synchronize()
        started = time.perf_counter()
        run()
        synchronize()
        if turn >= warm_up:
            times.append(time.perf_counter() - started)
    return statistics.median(times)


def limits(device: str, small: bool) -> dict[str, float]:
    """TFLOP/s of a large bfloat16 product; GB/s that a large copy moves, bytes read and bytes written counted."""
    side, size = (512, 2**22) if small else (8192, 2**32)
    left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    source = torch.randint(255, (size,), dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)

    def four(run):
        return lambda: [run() for _ in range(4)]

    product = seconds(four(lambda: left @ right)) / 4
    copy = seconds(four(lambda: target.copy_(source))) / 4
    return {
        "matmul_tflops": round(2 * side**3 / product / 1e12, 1),
        "memory_gb_per_s": round(2 * size / copy / 1e9, 1),
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


def said(model, inputs: dict, tokens: int, **options) -> list[int]:
    found = model.generate(**inputs, max_new_tokens=tokens, do_sample=False, **options)
    return found[0, inputs["input_ids"].shape[1] :].tolist()


def decoding(model, inputs: dict, tokens: int, device: str) -> dict[str, dict]:
    """Batch 1, one picture: milliseconds to the first token, and tokens a second after it."""

    def recorded(**options):
        return lambda: {"custom_generate": GraphDecoder(model, max_length=MAX_LENGTH, **options)}

    ways = {"plain": dict, "static cache, compiled by generate": lambda: {"cache_implementation": "static"}}
    if device == "cuda":
        ways |= {"GraphDecoder, own kernels": recorded(kernels=True), "GraphDecoder": recorded()}
        ways |= {"GraphDecoder, not tuned": recorded(tuned=False)}
    found: dict[str, dict] = {}
    for name, make in ways.items():
        try:
            options, started = make(), time.perf_counter()
            words = said(model, inputs, tokens, **options)
            first_answer = time.perf_counter() - started
            one = seconds(lambda options=options: said(model, inputs, 1, **options))
            many = seconds(lambda options=options: said(model, inputs, tokens, **options))
            found[name] = {
                "first_token_ms": round(1000 * one, 2),
                "tokens_per_second": round((tokens - 1) / (many - one), 1),
                "first_answer_extra_s": round(first_answer - many, 1),
                "said": words,
            }
        except Exception as error:
            found[name] = {"error": f"{type(error).__name__}: {error}"[:400]}
        print(name, {key: value for key, value in found[name].items() if key != "said"}, flush=True)
    spoken = [one.pop("said") for one in found.values() if "said" in one]
    for one, words in zip([one for one in found.values() if "error" not in one], spoken, strict=True):
        one["tokens_like_plain"] = round(sum(a == b for a, b in zip(words, spoken[0], strict=True)) / tokens, 3)
    return found


def first_token(model, device: str) -> dict[str, dict]:
    """Milliseconds to the first token about each kind of input at batch 1, by plain `generate` and recorded."""
    found: dict[str, dict] = {}
    for task in TASKS:
        inputs, found[task] = inputs_of(model, task, 1, False, device), {}
        ways: dict[str, dict] = {"plain": {}}
        if device == "cuda":
            room = MAX_LENGTH_OF_CLIP if task == "clip" else MAX_LENGTH
            ways["GraphDecoder"] = {"custom_generate": GraphDecoder(model, max_length=room)}
        for name, options in ways.items():
            started = time.perf_counter()
            said(model, inputs, 1, **options)
            once = time.perf_counter() - started
            ms = 1000 * seconds(lambda inputs=inputs, options=options: said(model, inputs, 1, **options), 10)
            found[task][name] = {"ms": round(ms, 2), "first_call_s": round(once, 2)}
            with profiled(found[task][name]):
                said(model, inputs, 1, **options)
            print(task, name, f"{ms:.2f} ms", flush=True)
    return found


def profile(model, inputs: dict, tokens: int, **options) -> dict:
    """Of one answer; its seconds without the profiler too."""
    whole = seconds(lambda: said(model, inputs, tokens, **options), 3)
    found: dict = {"seconds": round(whole, 4)}
    with profiled(found):
        said(model, inputs, tokens, **options)
    return found


def throughput(model, llava, tasks: list[str], batches: list[int], device: str, save) -> None:
    found: dict[str, dict] = {}
    for task in tasks:
        tokens = TASKS[task][1]
        found[task] = {"unirs": {}, "unirs recorded": {}, "unirs with clues": {}, "llava": {}}
        save("answers_per_second", found)
        for batch in batches:
            ours, theirs = (inputs_of(model, task, batch, peer, device) for peer in (False, True))

            def with_clue(task=task, ours=ours, batch=batch, tokens=tokens):
                for_clue, for_answer = looked_at_once(model, task, ours, batch, device)
                model.generate(**for_clue, max_new_tokens=CLUE_TOKENS, do_sample=False)
                model.generate(**for_answer, max_new_tokens=tokens, do_sample=False)

            ways = {
                "unirs": lambda ours=ours, tokens=tokens: said(model, ours, tokens),
                "unirs with clues": torch.no_grad()(with_clue),
                "llava": lambda theirs=theirs, tokens=tokens: said(llava, theirs, tokens),
            }
            if device == "cuda" and batch == max(batches):  # compiled anew for each batch size
                room = MAX_LENGTH_OF_CLIP if task == "clip" else MAX_LENGTH
                decoder = GraphDecoder(model, max_length=room, tuned=False, batch_size=batch)
                ways["unirs recorded"] = lambda ours=ours, tokens=tokens, decoder=decoder: said(
                    model, ours, tokens, custom_generate=decoder
                )
            for name, run in ways.items():
                try:
                    found[task][name][batch] = round(batch / seconds(run, 3), 2)
                except torch.OutOfMemoryError:
                    found[task][name][batch] = None
                    torch.cuda.empty_cache()
            print(task, batch, {name: found[task][name][batch] for name in ways}, flush=True)
            save("answers_per_second", found)
        best = {name: max((one for one in rates.values() if one), default=0) for name, rates in found[task].items()}
        found[task] |= {
            "best": best,
            "ratio_to_llava": round(best["unirs"] / best["llava"], 2),
            "ratio_recorded_to_llava": round(best["unirs recorded"] / best["llava"], 2),
        }
        save("answers_per_second", found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/speed_gpu.json"))
    parser.add_argument("--tokens", type=int, default=65)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="of throughput")
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES), help="of throughput")
    parser.add_argument("--small", action="store_true", help="tiny shapes, to try the script")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if set(args.parts) < set(PARTS) and args.output.exists():
        parser.error(f"{args.output}: is there; parts of another run would not fit to it, so give another --output")
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    result: dict = {"device": name, "torch": torch.__version__, "parts": list(args.parts)}
    started = time.perf_counter()

    def save(part: str, value) -> None:
        result[part] = value
        args.output.write_text(json.dumps(result, indent=1) + "\n")
        print(f"{time.perf_counter() - started:.0f} s: {part}", flush=True)

    model = build(args.small, device=device)[0]
    save("limits", limits(device, args.small))
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    one = inputs_of(model, "picture", 1, False, device)
    said(model, one, 17)
    if device == "cuda":
        save("peak_memory_gb_one_picture", round(torch.cuda.max_memory_allocated() / 1e9, 3))
    weights = sum(p.numel() * p.element_size() for p in model.model.language_model.layers.parameters())
    weights += model.lm_head.weight.numel() * model.lm_head.weight.element_size()
    save("tokens_per_second_at_the_memory_limit", round(result["limits"]["memory_gb_per_s"] * 1e9 / weights, 1))
    if "throughput" in args.parts:
        throughput(model, build_llava(model), args.tasks, args.batches[: 2 if args.small else None], device, save)
    if "decoding" in args.parts:
        save("decoding", decoding(model, one, args.tokens, device))
    if "profile" in args.parts:
        save("profile_of_one_token", profile(model, one, 1))
        save("profile_of_17_tokens", profile(model, one, 17))
        if device == "cuda":
            recorded = {"custom_generate": GraphDecoder(model, max_length=MAX_LENGTH)}
            save("profile_of_17_tokens_recorded", profile(model, one, 17, **recorded))
    if "first_token" in args.parts:
        save("first_token", first_token(model, device))
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
