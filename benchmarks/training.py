"""Training speed: our loop against TRL's SFTTrainer with its own collator, and mixed batches grouped, packed, padded.

    python benchmarks/training.py [--output benchmarks/results/training.json]

All with one model of the paper's sequence lengths (384 pixels, 196 tokens a picture, 8 frames a clip) and a small
width, so that two cores get somewhere. Runs alternate; the medians of samples a second count.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from PIL import Image
from transformers import AutoProcessor
from trl import SFTConfig, SFTTrainer
from unirs.modeling_unirs import UniRSConfig, UniRSForConditionalGeneration
from unirs.processing import UniRSImageProcessor, UniRSProcessor
from unirs.trainers.collator import Collator, estimate_length
from unirs.trainers.joint_tuning import freeze
from unirs.trainers.mixture import EpochSampler, Mixture
from unirs.trainers.recipe_data import PlacesCollator, places
from unirs.trainers.rows import conversation, image_items, video_item
from unirs.trainers.trainer import UniRSTrainer

import unirs

SIZE, PATCH, FRAMES = 384, 14, 8
MIX = {"single": 70, "pair": 20, "video": 10}  # per cent of the rows; a clip costs eight pictures
ANSWER = "Yes, there are several small buildings beside the road."


class Rows:
    """Pictures of noise on disk, with a question of a usual length."""

    name = "benchmark"

    def __init__(self, folder: Path, kinds: list[str]):
        self.kinds, rng = kinds, np.random.default_rng(0)
        self.files = [str(folder / f"{number}.png") for number in range(FRAMES)]
        for file in self.files:
            Image.fromarray(rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)).save(file)

    def __len__(self) -> int:
        return len(self.kinds)

    def row(self, index: int, repetition: int = 0) -> dict:
        kind = self.kinds[index]
        count = {"single": 1, "pair": 2, "video": FRAMES}[kind]
        visuals = video_item(self.files) if kind == "video" else image_items(self.files[:count])
        words = "Is there a building next to the road in the lower part of the image? " * (1 + index % 3)
        return {"id": str(index), "task": kind, "messages": conversation(visuals, [(words, ANSWER)])}


def mixed_kinds(count: int) -> list[str]:
    kinds = [kind for kind, share in MIX.items() for _ in range(round(count * share / 100))]
    kinds += ["single"] * (count - len(kinds))
    return [kinds[place] for place in np.random.default_rng(1).permutation(count)]


def build(width: int, layers: int) -> tuple[UniRSForConditionalGeneration, UniRSProcessor]:
    small = AutoProcessor.from_pretrained(unirs.default_checkpoint())
    image_processor = UniRSImageProcessor(size={"height": SIZE, "width": SIZE})
    processor = UniRSProcessor(image_processor, small.tokenizer, patch_size=PATCH, num_frames=FRAMES)
    vision = {
        "model_type": "siglip_vision_model", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "image_size": SIZE, "patch_size": PATCH,
    }  # fmt: skip
    text = {
        "model_type": "llama", "hidden_size": width, "intermediate_size": 11 * width // 4, "num_hidden_layers": layers,
        "num_attention_heads": width // 64, "vocab_size": -(-len(processor.tokenizer) // 64) * 64,
        "max_position_embeddings": 4096, "pad_token_id": processor.tokenizer.pad_token_id,
    }  # fmt: skip
    torch.manual_seed(0)
    config = UniRSConfig(
        vision_config=vision, text_config=text, image_token_id=processor.image_token_id,
        change_token_id=processor.change_token_id, frame_token_ids=processor.frame_token_ids,
    )  # fmt: skip
    model = UniRSForConditionalGeneration(config)
    freeze(model, ["language_model"])
    return model, processor


def arguments(folder: str, steps: int, batch: int, **kwargs) -> SFTConfig:
    return SFTConfig(
        folder, max_steps=steps, per_device_train_batch_size=batch, learning_rate=0.0, max_length=None, bf16=False,
        report_to="none", save_strategy="no", disable_tqdm=True, use_cpu=True, gradient_checkpointing=False,
        logging_strategy="no", **kwargs,
    )  # fmt: skip


def seconds_of(trainer: SFTTrainer) -> float:
    start = time.perf_counter()
    trainer.train()
    return time.perf_counter() - start


def stock(model, processor, rows: Rows, folder: str, steps: int, batch: int) -> float:
    """TRL as it comes, with its vision collator."""
    table = []
    for index in range(len(rows)):
        user, answer = rows.row(index)["messages"]
        images = [item["image"] for item in user["content"] if item["type"] == "image"]
        content = [{"type": "image"} if item["type"] == "image" else item for item in user["content"]]
        said = {"role": "assistant", "content": [{"type": "text", "text": answer["content"]}]}
        table.append({"images": images, "messages": [{"role": "user", "content": content}, said]})
    config = arguments(folder, steps, batch, assistant_only_loss=True)
    trainer = SFTTrainer(model, config, train_dataset=Dataset.from_list(table), processing_class=processor)
    return seconds_of(trainer)


def ours(model, processor, rows: Rows, folder: str, steps: int, batch: int, batching: str) -> float:
    mixture = Mixture([(rows, 1)])
    lengths = [estimate_length(mixture.row(place), processor) for place in range(len(rows))]
    config = arguments(
        folder, steps, batch, remove_unused_columns=False, dataset_kwargs={"skip_prepare_dataset": True}
    )
    trainer = UniRSTrainer(
        model, config, train_dataset=places(0, len(rows)), processing_class=processor,
        data_collator=PlacesCollator(Collator(processor, packed=batching == "packed"), mixture, None),
        sampler=EpochSampler(len(rows), batch, 0, lengths if batching == "grouped" else None),
    )  # fmt: skip
    return seconds_of(trainer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/training.json"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    args = parser.parse_args()
    model, processor = build(args.width, args.layers)
    count = args.steps * args.batch
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        singles = Rows(Path(name), ["single"] * count)
        mixed = Rows(Path(name), mixed_kinds(count))
        runs = {"single, stock collator": lambda: stock(model, processor, singles, name, args.steps, args.batch)}
        for rows, kind, batchings in (
            (singles, "single", ("padded", "packed")),
            (mixed, "mixed", ("padded", "grouped", "packed")),
        ):
            for batching in batchings:
                runs[f"{kind}, ours {batching}"] = lambda rows=rows, batching=batching: ours(
                    model, processor, rows, name, args.steps, args.batch, batching
                )
        for turn in range(args.rounds + 1):
            for key, run in runs.items():
                seconds = run()
                if turn:  # the first round warms up
                    found.setdefault(key, []).append(count / seconds)
            print({key: [round(one, 2) for one in values] for key, values in found.items()}, flush=True)
    medians = {key: round(statistics.median(values), 3) for key, values in found.items()}
    result = {
        "samples_per_second": medians,
        "rounds": {key: [round(one, 3) for one in values] for key, values in found.items()},
        "ratio_single_ours_to_stock": round(medians["single, ours padded"] / medians["single, stock collator"], 3),
        "ratio_mixed_grouped_to_padded": round(medians["mixed, ours grouped"] / medians["mixed, ours padded"], 3),
        "ratio_mixed_packed_to_padded": round(medians["mixed, ours packed"] / medians["mixed, ours padded"], 3),
        "mixture_percent": MIX,
        "batch": args.batch,
        "steps": args.steps,
        "weights": sum(p.numel() for p in model.parameters()),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": platform.processor() or platform.machine(),
    }
    args.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({key: value for key, value in result.items() if key.startswith(("samples", "ratio"))}, indent=1))


if __name__ == "__main__":
    main()
