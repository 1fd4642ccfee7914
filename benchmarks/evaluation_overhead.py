"""What the evaluation's runner costs around `generate`: reading, preparing, decoding, writing.

    python benchmarks/evaluation_overhead.py [--shape 3b] [--output benchmarks/results/evaluation_overhead.json]

Two measurements, each `run()`'s wall time less the time inside `generate`, as a share of the wall time:

- a random UniRS of the paper's shapes (SigLIP-so400m, LLaMA of 2.7 B weights, bfloat16) on this machine's CPU;
- the same processor, pictures and runner around a `generate` that only waits, as long as an accelerator might work:
  a CPU model is so slow that it would hide any overhead. The processor must have nothing to do meanwhile but the
  next batch, so what is not hidden behind the wait is told.
"""

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import AutoProcessor
from transformers.initialization import no_init_weights
from unirs.evaluation.benchmarks import load_benchmark
from unirs.evaluation.models import UniRS
from unirs.evaluation.running import run
from unirs.modeling_unirs import UniRSConfig, UniRSForConditionalGeneration
from unirs.processing import UniRSImageProcessor, UniRSProcessor

import unirs

SIZE, PATCH = 384, 14
SHAPES = {
    # hidden, feed-forward, layers, heads: of the tower and of the language model
    "3b": ((1152, 4304, 27, 16), (2560, 6912, 32, 20)),
    "small": ((64, 128, 2, 4), (256, 704, 4, 4)),
}
PICTURE = 512  # pixels a side: RSVQA-HR's
WAITS = (0.25, 0.5, 1.0)  # seconds a batch


class Timed(UniRS):
    """Adds up the time inside `generate`; with `wait`, nothing is generated and the time is just that."""

    def __init__(self, network, processor, wait: float | None = None):
        super().__init__("random", network, processor)
        self.wait, self.inside = wait, 0.0
        generate = network.generate

        def timed(**kwargs):
            start = time.perf_counter()
            if wait is None:
                output = generate(**kwargs)
            else:
                time.sleep(wait)  # lets other threads run, as waiting for an accelerator does
                output = torch.cat([kwargs["input_ids"], kwargs["input_ids"][:, -kwargs["max_new_tokens"] :]], 1)
            self.inside += time.perf_counter() - start
            return output

        network.generate = timed

    def description(self):
        return {"model": self.name, "model_sha256": "", "dtype": str(self.network.dtype), "device": "cpu"}


def make_processor() -> UniRSProcessor:
    small = AutoProcessor.from_pretrained(unirs.default_checkpoint())
    image_processor = UniRSImageProcessor(size={"height": SIZE, "width": SIZE})
    return UniRSProcessor(image_processor, small.tokenizer, patch_size=PATCH)


def build(shape: str, processor: UniRSProcessor) -> UniRSForConditionalGeneration:
    """Random weights in bfloat16; one small block of noise, repeated, since drawing three billion takes minutes."""
    tower, text = (
        dict(
            zip(("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"), numbers, strict=True)
        )
        for numbers in SHAPES[shape]
    )
    config = UniRSConfig(
        vision_config={"model_type": "siglip_vision_model", **tower, "image_size": SIZE, "patch_size": PATCH},
        text_config={"model_type": "llama", **text, "vocab_size": 32_128, "max_position_embeddings": 4096,
                     "pad_token_id": processor.tokenizer.pad_token_id, "eos_token_id": None},
        image_token_id=processor.image_token_id, change_token_id=processor.change_token_id,
        frame_token_ids=processor.frame_token_ids,
    )  # fmt: skip
    with no_init_weights():
        model = UniRSForConditionalGeneration._from_config(config, dtype=torch.bfloat16)
    noise = (0.02 * torch.randn(1 << 20, generator=torch.Generator().manual_seed(0))).to(torch.bfloat16)
    with torch.no_grad():
        for parameter in model.parameters():
            flat = parameter.view(-1)
            for start in range(0, len(flat), len(noise)):
                part = flat[start : start + len(noise)]
                part.copy_(noise[: len(part)])
    model.generation_config.eos_token_id = None  # every answer has its full length
    return model.eval()


def write_rows(folder: Path, count: int) -> Path:
    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
        coarse.resize((PICTURE, PICTURE), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
        words = "Is there a building next to the road in the lower part of the image?"
        turns = [{"role": "user", "content": words}, {"role": "assistant", "content": "yes"}]
        rows.append({"id": str(number), "messages": turns, "images": [f"{number}.png"]})
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def measure(model: Timed, count: int, batch_size: int, new_tokens: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        benchmark = load_benchmark("own", write_rows(Path(name), count), metric="vqa")
        start = time.perf_counter()
        rows = run(benchmark, model, Path(name) / "predictions.jsonl", batch_size, new_tokens)
        wall = time.perf_counter() - start
    if any("error" in row for row in rows):
        raise RuntimeError(f"a row failed: {rows[0]}")
    outside = wall - model.inside
    return {
        "pictures": count,
        "batch_size": batch_size,
        "new_tokens": new_tokens,
        "wall_s": round(wall, 3),
        "generate_s": round(model.inside, 3),
        "outside_s": round(outside, 3),
        "overhead_share": round(outside / wall, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/evaluation_overhead.json"))
    parser.add_argument("--pictures", type=int, default=8, help="asked of the random model")
    parser.add_argument("--waiting-pictures", type=int, default=160, help="asked of the waiting one, in batches of 8")
    args = parser.parse_args()
    processor = make_processor()
    waiting = {}
    for wait in WAITS:
        model = Timed(build("small", processor), processor, wait)
        measure(model, 16, 8, 8)  # warms up
        model.inside = 0.0
        waiting[f"{wait} s a batch"] = measure(model, args.waiting_pictures, 8, 8)
        print(wait, waiting[f"{wait} s a batch"], flush=True)
    network = build(args.shape, processor)
    result = {
        "random_model": {
            "shape": args.shape,
            "weights": sum(parameter.numel() for parameter in network.parameters()),
            "dtype": "bfloat16",
            **measure(Timed(network, processor), args.pictures, 8, 8),
        },
        "waiting_in_place_of_generate": waiting,
        "picture_pixels": PICTURE,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": platform.processor() or platform.machine(),
    }
    args.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
