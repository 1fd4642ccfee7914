"""Our decoding kernels on a GPU: do they say what LLaMA says, how near to memory's rate, and which blocks are best.

    python benchmarks/llama_kernels.py [--output benchmarks/results/llama_kernels.json]

A LLaMA of the paper's size with random bfloat16 weights. Each choice of rows and warps of a kernel is timed in the
whole recorded step; the best of one kernel stays while the next is tried. The constants in src/unirs/llama_kernels.py
are to be what is printed last.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from speed_gpu import limits
from torch import nn
from transformers import LlamaConfig, LlamaModel, StaticCache

from unirs import llama_kernels as kernels

PROMPT, ROOM, WORDS = 261, 512, 40
CHOICES = {  # rows, or places, and warps
    "gated": [(2, 4), (4, 4), (2, 8), (4, 8), (8, 8)],
    "inner": [(1, 4), (2, 4), (4, 4), (2, 8), (4, 8), (4, 16)],
    "products": [(2, 2), (4, 4), (8, 4), (8, 8), (4, 8), (16, 8)],
    "attended": [(2, 2), (2, 4), (4, 4), (4, 8), (8, 8)],
    "attention": [(64, 4), (128, 4), (128, 8), (256, 16)],
    "head": [(4, 4), (8, 4), (8, 8), (16, 8)],
}


class Step:
    """The step of one token, recorded."""

    def __init__(self, model: LlamaModel, head: nn.Linear, room: int, dependent: bool = True):
        self.room, words = room, head.out_features
        self.token, self.place = (torch.zeros(1, 1, dtype=torch.long, device="cuda") for _ in range(2))
        self.said = torch.zeros(1, room, dtype=torch.long, device="cuda")
        padding = torch.zeros(1, 1, dtype=torch.long, device="cuda")
        silent = torch.zeros(1, words, dtype=torch.bool, device="cuda")
        step = kernels.LlamaStep(model, head, filled_cache(model, room))
        step.dependent &= dependent
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            self.begin()
            step(self.token, self.place, padding, self.said, silent)
        torch.cuda.current_stream().wait_stream(beside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            step(self.token, self.place, padding, self.said, silent)

    def begin(self) -> None:
        self.token.fill_(5)
        self.place.fill_(PROMPT)

    def words(self) -> list[int]:
        self.begin()
        for _ in range(WORDS):
            self.graph.replay()
        return self.said[0, PROMPT + 1 : PROMPT + 1 + WORDS].tolist()

    def microseconds(self, count: int = 60) -> float:
        self.begin()
        for _ in range(5):
            self.graph.replay()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(count):
            self.graph.replay()
        end.record()
        torch.cuda.synchronize()
        return 1000 * start.elapsed_time(end) / count

    def profile(self) -> list[list]:
        """Name, microseconds of a token, how often."""
        self.begin()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA], acc_events=True) as found:
            for _ in range(5):
                self.graph.replay()
            torch.cuda.synchronize()
        rows = [one for one in found.key_averages() if one.device_type == torch.autograd.DeviceType.CUDA]
        rows.sort(key=lambda one: -one.self_device_time_total)
        return [[one.key[:60], round(one.self_device_time_total / 5, 1), one.count // 5] for one in rows[:8]]


def filled_cache(model: LlamaModel, room: int) -> StaticCache:
    cache = StaticCache(config=model.config, max_cache_len=room)
    seed = torch.Generator("cuda").manual_seed(1)
    embeds = torch.randn(1, PROMPT, model.config.hidden_size, device="cuda", dtype=model.dtype, generator=seed)
    model(inputs_embeds=embeds, past_key_values=cache, use_cache=True)
    return cache


def by_transformers(model: LlamaModel, head: nn.Linear) -> list[int]:
    cache, token, said = filled_cache(model, ROOM), torch.full((1, 1), 5, device="cuda"), []
    for number in range(WORDS):
        place = torch.tensor([[PROMPT + number]], device="cuda")
        found = model(input_ids=token, position_ids=place, past_key_values=cache, use_cache=True)
        token = head(found.last_hidden_state[:, -1]).float().argmax(-1, keepdim=True)
        said.append(int(token))
    return said


def put(kind: str, rows: int, warps: int) -> None:
    if kind == "attention":
        kernels.KEYS, kernels.KEYS_WARPS = rows, warps
    else:
        kernels.ROWS[kind], kernels.WARPS[kind] = rows, warps


def put_in(kind: str) -> tuple[int, int]:
    if kind == "attention":
        return kernels.KEYS, kernels.KEYS_WARPS
    return kernels.ROWS[kind], kernels.WARPS[kind]


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/llama_kernels.json"))
    parser.add_argument("--seconds", type=float, default=80, help="for trying blocks")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("needs an NVIDIA GPU; tests/test_llama_kernels.py checks the kernels without one")
    config = LlamaConfig(
        hidden_size=2560, intermediate_size=6912, num_hidden_layers=32, num_attention_heads=20, vocab_size=32000
    )
    torch.manual_seed(0)
    with torch.device("cuda"):
        model, head = LlamaModel(config).to(torch.bfloat16).eval(), nn.Linear(2560, 32000, bias=False)
        head.to(torch.bfloat16)
    weights = sum(one.numel() for one in model.layers.parameters()) + head.weight.numel()
    rates = limits("cuda", False)
    limit = 2 * weights / rates["memory_gb_per_s"] / 1e3  # microseconds a token
    result: dict = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "limits": rates}
    result |= {"limit_us": round(limit, 1), "tried": []}

    def timed(name: str) -> float:
        found = Step(model, head, ROOM).microseconds()
        result["tried"].append([name, round(found, 1)])
        args.output.write_text(json.dumps(result, indent=1) + "\n")
        print(f"{name:40s} {found:8.1f} us a token, {100 * limit / found:.1f} % of memory's rate", flush=True)
        return found

    expected = by_transformers(model, head)
    said = Step(model, head, ROOM).words()
    result["words_like_transformers"] = sum(a == b for a, b in zip(said, expected, strict=True)) / WORDS
    print("words like transformers':", result["words_like_transformers"], flush=True)
    best, until = timed("as they are"), time.perf_counter() + args.seconds
    for kind, choices in CHOICES.items():
        for rows, warps in choices:
            before = put_in(kind)
            if before == (rows, warps) or time.perf_counter() > until:
                continue
            put(kind, rows, warps)
            try:
                found = timed(f"{kind}: {rows} rows, {warps} warps")
            except Exception as error:  # too large for the device
                found = float("inf")
                print(kind, rows, warps, type(error).__name__, str(error)[:200], flush=True)
            if found < 0.998 * best:
                best = found
            else:
                put(kind, *before)
    result["chosen"] = {kind: put_in(kind) for kind in CHOICES}
    result["tokens_per_second"] = round(1e6 / best, 1)
    result["of_memory_rate"] = round(limit / best, 3)
    result["profile"] = Step(model, head, ROOM).profile()
    result["not_dependent_us"] = round(Step(model, head, ROOM, dependent=False).microseconds(), 1)
    result["room_2048_us"] = round(Step(model, head, 2048).microseconds(), 1)
    args.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({name: value for name, value in result.items() if name != "tried"}, indent=1))


if __name__ == "__main__":
    main()
