"""Seconds a token at full size: plain `generate`, compiled, compiled as `unirs.compiled_decoding` does, and with int8.

    python benchmarks/decoding.py [--tokens 32] [--output benchmarks/results/decoding.json]

A LLaMA of 2.7 B weights behind SigLIP-so400m, random, bfloat16; one picture and 64 tokens of text come first. Bounds:
the bytes of all weights that a token needs, read at this machine's rate (half of what a large copy moves), measured in
the same run. The first answer of a compiled model pays for compiling, which is told apart (what PyTorch keeps of it on
disk is not used). Last, int8 against bfloat16 on the embedded checkpoint: the token that each finds likeliest, at each
step of bfloat16's answers about generated scenes of RS-World's test split.
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch
import torch._inductor.config
from first_token import prompt
from full_size import answer, build, limits, machine, median
from torchao.quantization import Int8WeightOnlyConfig, quantize_
from transformers import AutoModelForImageTextToText, AutoProcessor, CompileConfig
from unirs.hub.quantize import quantize
from unirs.trainers.rows import image_items, video_item
from unirs.trainers.scene_tasks import TEST_SEED, clip_sample, pair_sample, single_sample

import unirs
from unirs.compiled_decoding import compile_config

ROUNDS = 3
SCENES = 40  # of each task, for int8's quality
STOCK = CompileConfig(mode=None, dynamic=False)
STOCK._compile_all_devices = True  # generate compiles on accelerators alone unless told to
PLAIN, COMPILED, SUMS, INT8 = "plain", "compiled", "compiled, products as sums", "int8 weights, the same"


def weights_of_a_token(model) -> int:
    """Bytes that saying one token reads: the layers and the head, not the table of embeddings."""
    parts = (*model.model.language_model.layers.parameters(), model.lm_head.weight)
    return sum(part.numel() * part.element_size() for part in parts)


@torch.no_grad()
def quality() -> dict[str, float]:
    """Share of steps at which int8 finds the same token likeliest, of `SCENES` pictures, pairs and clips."""
    processor = AutoProcessor.from_pretrained(unirs.default_checkpoint())
    plain = AutoModelForImageTextToText.from_pretrained(unirs.default_checkpoint(), dtype=torch.bfloat16).eval()
    with tempfile.TemporaryDirectory() as folder:
        quantize(unirs.default_checkpoint(), Path(folder) / "int8")
        int8 = AutoModelForImageTextToText.from_pretrained(Path(folder) / "int8", dtype="auto").eval()
    same = steps = 0
    for seed in range(TEST_SEED, TEST_SEED + SCENES):
        for sample in (single_sample(seed), pair_sample(seed), clip_sample(seed, frames=processor.num_frames)):
            is_clip = sample.task == "video"
            shown = video_item(list(sample.images)) if is_clip else image_items(list(sample.images))
            for one in sample.questions:
                chat = [{"role": "user", "content": [*shown, {"type": "text", "text": one.question}]}]
                inputs = processor.apply_chat_template(
                    chat, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
                )
                said = plain.generate(**inputs, do_sample=False, max_new_tokens=32)
                start = inputs["input_ids"].shape[1]
                whole = {**inputs, "input_ids": said, "attention_mask": torch.ones_like(said)}
                first, second = (model(**whole).logits[0, start - 1 : -1].argmax(-1) for model in (plain, int8))
                same, steps = same + int((first == second).sum()), steps + len(first)
    return {"steps": steps, "same_token": round(same / steps, 4)}


def main() -> None:
    torch._inductor.config.force_disable_caches = True
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/decoding.json"))
    parser.add_argument("--small", action="store_true", help="tiny shapes, to try the script")
    args = parser.parse_args()
    model, _ = build(args.small)
    side = model.config.vision_config.image_size
    inputs = prompt((model.config.image_token_id, model.config.image_seq_length))
    inputs["pixel_values"] = torch.randn(1, 3, side, side).to(torch.bfloat16)
    size, found = weights_of_a_token(model), {}
    rates = [limits(args.small)]

    def measure(name: str, config: CompileConfig | None = None) -> None:
        torch.compiler.reset()
        model.__dict__.pop("_compiled_call", None)
        options = {"cache_implementation": "static", "compile_config": config} if config else {}
        first = answer(model, inputs, args.tokens, **options)
        later = [answer(model, inputs, args.tokens, **options) for _ in range(ROUNDS)]
        plain = {key: median([one[key] for one in later]) for key in ("first_token", "second_token", "a_token", "all")}
        found[name] = {**plain, "first_answer_extra": round(first["all"] - plain["all"], 1), "said": later[-1]["said"]}
        rates.append(limits(args.small))
        print(name, found[name], rates[-1], flush=True)

    measure(PLAIN)
    measure(COMPILED, STOCK)
    measure(SUMS, compile_config())
    for part in (model.model.language_model.layers, torch.nn.ModuleList([model.lm_head])):
        quantize_(part, Int8WeightOnlyConfig())
    measure(INT8, compile_config())
    rate = median([each["memory_read_gb_per_s"] for each in rates])
    bound = size / rate / 1e9  # seconds a token of bfloat16 weights
    for name in found:
        share = 0.5 if name == INT8 else 1.0
        found[name]["read_gb_per_s"] = round(size * share / found[name]["a_token"] / 1e9, 2)
        found[name]["share_of_memory_rate"] = round(found[name]["read_gb_per_s"] / rate, 3)
    pairs = ((PLAIN, COMPILED), (PLAIN, SUMS), (COMPILED, INT8), (SUMS, INT8))
    ratios = {
        "plain to the bound": round(found[PLAIN]["a_token"] / bound, 2),
        **{f"{one} to {other}": round(found[one]["a_token"] / found[other]["a_token"], 2) for one, other in pairs},
        "answers until compiling pays": round(
            found[SUMS]["first_answer_extra"] / max(1e-9, found[PLAIN]["all"] - found[SUMS]["all"]), 1
        ),
    }
    agreement = quality()
    print(agreement, flush=True)
    result = {
        **machine(),
        "tokens": args.tokens,
        "weight_bytes": size,
        "memory_read_gb_per_s": rate,
        "bfloat16_bound_a_token": round(bound, 3),
        "limits": rates,
        "ways": found,
        "ratios": ratios,
        "int8_on_unirs_tiny": agreement,
    }
    args.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(ratios, indent=1))


if __name__ == "__main__":
    main()
