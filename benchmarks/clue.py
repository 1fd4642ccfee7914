"""What a clue costs: memory of one set of weights against two, time of looking once against twice, data set speed.

    python benchmarks/clue.py [--output benchmarks/results/clue.json] [--rounds 3] [--small]

Full 3B shapes (SigLIP-so400m, Sheared-LLaMA 2.7B) with random bfloat16 weights, a LoRA adapter (r=16, every linear
layer of the language model), 32 clue tokens and 8 answer tokens, forced. "Twice" is two full passes, as anybody would
write it: the adapter off and `generate` from pixels, then the adapter on and `generate` from pixels. Runs alternate;
the medians count. Memory is the peak of a process of its own that loads, answers about one picture and ends.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import torch
from full_size import FRAMES, build, picture
from peft import LoraConfig, get_peft_model
from transformers import pipeline
from unirs.modeling_unirs import PromptAugmenter, UniRSForConditionalGeneration
from unirs.processing import UniRSProcessor
from unirs.trainers.adapters import language_model_linears

CLUE_TOKENS, ANSWER_TOKENS = 32, 8


def adapted(model: UniRSForConditionalGeneration):
    torch.manual_seed(0)
    config = LoraConfig(r=16, target_modules=language_model_linears(model), init_lora_weights=False)
    return get_peft_model(model, config).eval()


def conversation(kind: str, seed: int = 0) -> list[dict]:
    shown = {"type": "image", "image": picture(seed)}
    if kind == "clip":
        shown = {"type": "video", "video": [picture(seed + frame) for frame in range(FRAMES)]}
    words = {"type": "text", "text": "Is there a building next to the road in this scene?"}
    return [{"role": "user", "content": [shown, words]}]


def encode(processor: UniRSProcessor, conversations: list) -> dict:
    return processor.apply_chat_template(
        conversations, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
        processor_kwargs={"padding": True, "padding_side": "left"},
    )  # fmt: skip


class Clock:
    """Seconds of the tower, and of the language model's prompts and single tokens, in the order of passes."""

    def __init__(self, model):
        self.vision, self.passes, self.started = 0.0, [], 0.0
        for part, done in ((model.model.vision_tower, self.saw), (model.model.language_model, self.read)):
            part.register_forward_pre_hook(
                lambda *rest: setattr(self, "started", time.perf_counter()), with_kwargs=True
            )
            part.register_forward_hook(done, with_kwargs=True)

    def saw(self, module, args, kwargs, output):
        self.vision += time.perf_counter() - self.started

    def read(self, module, args, kwargs, output):
        seconds, tokens = time.perf_counter() - self.started, kwargs["inputs_embeds"].shape[1]
        if tokens > 1:
            self.passes.append([tokens, seconds, 0.0])
        else:
            self.passes[-1][2] += seconds

    def breakdown(self, total: float) -> dict[str, float]:
        (clue_tokens, clue_prefill, clue_decode), (tokens, prefill, decode) = self.passes
        parts = {
            "vision": self.vision, "clue_prefill": clue_prefill, "clue_decode": clue_decode,
            "answer_prefill": prefill, "answer_decode": decode,
        }  # fmt: skip
        rest = {"rest": total - sum(parts.values())}
        self.vision, self.passes = 0.0, []
        return {**parts, **rest, "total": total, "clue_prompt_tokens": clue_tokens, "answer_prompt_tokens": tokens}


@torch.no_grad()
def twice(tuned, processor, given: list[dict]):
    """Two full passes on one set of weights, PEFT's own switch in between."""
    question = PromptAugmenter(tuned, processor).question(given)
    asked = processor.apply_chat_template(
        [question], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
        change_extraction=False, task_tag=False,
    )  # fmt: skip
    with tuned.disable_adapter():
        said = tuned.generate(**asked, do_sample=False, max_new_tokens=CLUE_TOKENS)[0, asked["input_ids"].shape[1] :]
    clue = processor.clean_clue(processor.tokenizer.decode(said, skip_special_tokens=True))
    augmented = [{"role": "user", "content": [*given[0]["content"], {"type": "clue", "text": clue}]}]
    inputs = encode(processor, [augmented])
    output = tuned.generate(**inputs, do_sample=False, max_new_tokens=ANSWER_TOKENS)
    return clue, output[0, inputs["input_ids"].shape[1] :].tolist()


def once(augmenter: PromptAugmenter, tuned, given: list[dict]):
    inputs = encode(augmenter.processor, [given])
    found = augmenter.generate(tuned, [given], inputs, do_sample=False, max_new_tokens=ANSWER_TOKENS)
    return found.clues[0].text, found.tokens[0].tolist()


def memory(way: str, small: bool) -> None:
    """Runs in a process of its own."""
    model, processor = build(small)
    given = conversation("image")
    if way == "plain":
        model.generate(**encode(processor, [given]), do_sample=False, max_new_tokens=ANSWER_TOKENS)
    elif way == "one set of weights":
        tuned = adapted(model)
        once(PromptAugmenter(tuned, processor), tuned, given)
    else:
        base, _ = build(small)
        once(PromptAugmenter(base, processor), model, given)
    print(json.dumps({"peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}))


def memories(small: bool) -> dict[str, float]:
    peaks = {}
    for way in ("plain", "one set of weights", "two models"):
        command = [sys.executable, __file__, "--memory", way, *(["--small"] if small else [])]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks[way] = round(json.loads(done.stdout.splitlines()[-1])["peak_gb"], 3)
        print(f"peak memory, {way}: {peaks[way]} GB", flush=True)
    return peaks


def times(tuned, processor, rounds: int) -> dict[str, dict]:
    augmenter, clock = PromptAugmenter(tuned, processor), Clock(tuned.get_base_model())
    augmenter.max_new_tokens = CLUE_TOKENS
    ways = {"twice": lambda given: twice(tuned, processor, given), "once": lambda given: once(augmenter, tuned, given)}
    found: dict[str, dict] = {}
    for kind in ("image", "clip"):
        given = conversation(kind)
        runs = defaultdict(list)
        said = {}
        for turn in range(rounds + (kind == "image")):
            for way, run in ways.items():
                start = time.perf_counter()
                said[way] = run(given)
                parts = clock.breakdown(time.perf_counter() - start)
                if turn or kind == "clip":  # the very first round warms up
                    runs[way].append(parts)
                    print(kind, way, {name: round(value, 2) for name, value in parts.items()}, flush=True)
        assert said["once"] == said["twice"], said
        assert len(said["once"][1]) == ANSWER_TOKENS
        medians = {
            way: {name: round(statistics.median(run[name] for run in parts), 3) for name in parts[0]}
            for way, parts in runs.items()
        }
        ratio = medians["once"]["total"] / medians["twice"]["total"]
        found[kind] = {**medians, "ratio_once_to_twice": round(ratio, 3)}
    return found


def data_set(tuned, processor, count: int, rounds: int) -> dict[str, float]:
    """Samples a second of the pipeline over pictures in one batch."""
    pipe = pipeline("rs-visual-question-answering", model=tuned, processor=processor, max_new_tokens=ANSWER_TOKENS)
    rows = [{"image": picture(seed), "question": "Is there a road?"} for seed in range(count)]
    clued = PromptAugmenter(tuned, processor, max_new_tokens=CLUE_TOKENS)
    seconds = defaultdict(list)
    for _ in range(rounds):
        for name, clue in (("without", False), ("with", clued)):
            start = time.perf_counter()
            pipe(rows, batch_size=count, clue=clue)
            seconds[name].append(time.perf_counter() - start)
    return {name: round(count / statistics.median(values), 4) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/clue.json"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--small", action="store_true", help="tiny shapes, to try the script")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory:
        memory(args.memory, args.small)
        return
    peaks = memories(args.small)
    model, processor = build(args.small)
    tuned = adapted(model)
    result = {
        "peak_gb": peaks,
        "ratio_one_set_to_plain": round(peaks["one set of weights"] / peaks["plain"], 3),
        "ratio_two_models_to_one_set": round(peaks["two models"] / peaks["one set of weights"], 3),
        "seconds": times(tuned, processor, args.rounds),
        "data_set_samples_per_second": {"batch": args.batch, **data_set(tuned, processor, args.batch, 1)},
        "clue_tokens": CLUE_TOKENS,
        "answer_tokens": ANSWER_TOKENS,
        "frames": FRAMES,
        "weights": sum(p.numel() for p in model.parameters()),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": platform.processor() or platform.machine(),
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({key: value for key, value in result.items() if key.startswith(("ratio", "data"))}, indent=1))


if __name__ == "__main__":
    main()
