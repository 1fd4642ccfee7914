"""Joint tuning of the 3B model with random weights on a GPU: step time, tokens/s, MFU, memory; full tuning and LoRA.

    python benchmarks/training_gpu.py [--output benchmarks/results/training_gpu.json]

Batches have the mixture of benchmarks/training.py, packed. Model FLOPs are those of one pass forward and backward
without what checkpointing computes again: 6 a weight and token for trained weights, 4 for frozen ones under trained
adapters, 2 for the tower. The limit is the matmul rate measured in the same run. `--small` tries the script anywhere.
"""

import argparse
import gc
import json
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import torch
from gpu_profile import profiled
from training import Rows, build, mixed_kinds
from transformers.trainer_callback import TrainerCallback
from trl import SFTConfig
from unirs.modeling_unirs import UniRSConfig, UniRSForConditionalGeneration
from unirs.trainers.adapters import Adapter
from unirs.trainers.collator import Collator
from unirs.trainers.joint_tuning import freeze
from unirs.trainers.mixture import EpochSampler, Mixture
from unirs.trainers.recipe_data import PlacesCollator, places
from unirs.trainers.trainer import UniRSTrainer, peak_memory

METHODS = {"full": torch.float32, "lora": torch.bfloat16}  # with the type of their weights
WARM_UP = 4  # steps that do not count; the last of them is profiled


class Clock(TrainerCallback):
    """Seconds of each step, and seconds between two steps, in which the next batch is waited for."""

    def __init__(self):
        self.steps: list[float] = []
        self.waits: list[float] = []
        self.end = self.start = time.perf_counter()
        self.profile: dict = {}
        self._open = ExitStack()

    def on_step_begin(self, args, state, control, **kwargs):
        self.waits.append(time.perf_counter() - self.end)
        if len(self.steps) == WARM_UP - 1:
            self._open.enter_context(profiled(self.profile))
        self.start = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.steps.append(time.perf_counter() - self.start)
        self._open.close()
        self.end = time.perf_counter()


def matmul_rate(device: str, side: int) -> float:
    """bfloat16 FLOP/s of the best of five large products."""
    a = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    rates = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(8):
            a @ a
        if device == "cuda":
            torch.cuda.synchronize()
        rates.append(8 * 2 * side**3 / (time.perf_counter() - start))
    return max(rates)


def flops(model, collator, rows: Mixture, adapter: bool) -> float:
    """Of an average row."""
    language = sum(p.numel() for p in model.model.language_model.parameters()) + model.lm_head.weight.numel()
    language -= model.get_input_embeddings().weight.numel()  # a table is looked up, not multiplied
    tower = sum(p.numel() for p in model.model.vision_tower.parameters())
    text, patches = model.config.text_config, model.config.vision_grid**2
    total = 0.0
    for place in range(len(rows)):
        sample = collator.encode(rows.row(place))
        tokens = len(sample.input_ids)
        pictures = sum(value.flatten(0, -4).shape[0] for value in sample.visuals.values())
        attention = 2 * tokens * text.hidden_size * text.num_hidden_layers * (2 if adapter else 3) * 2 / 2  # causal
        total += (4 if adapter else 6) * language * tokens + attention * tokens + 2 * tower * patches * pictures
    return total / len(rows)


def measure(method: str, model, processor, args, folder: str) -> dict:
    count = args.steps * args.batch
    mixture = Mixture([(Rows(Path(folder), mixed_kinds(count)), 1)])
    collator = Collator(processor, packed=True)
    adapter = Adapter("lora", 16, 32, 0.0, None).peft_config(model) if method == "lora" else None
    work = (
        flops(model, collator, Mixture([(Rows(Path(folder), mixed_kinds(100)), 1)]), adapter is not None) * args.batch
    )
    clock = Clock()
    config = SFTConfig(
        folder, max_steps=args.steps, per_device_train_batch_size=args.batch, max_length=None, bf16=True,
        report_to="none", save_strategy="no", disable_tqdm=True, use_cpu=args.device == "cpu",
        logging_steps=args.steps,
        gradient_checkpointing=args.checkpointing, remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        dataloader_num_workers=args.workers, ddp_find_unused_parameters=False,
    )  # fmt: skip
    trainer = UniRSTrainer(
        model, config, train_dataset=places(0, count), processing_class=processor, peft_config=adapter,
        data_collator=PlacesCollator(collator, mixture, None), sampler=EpochSampler(count, args.batch, 0),
        callbacks=[clock],
    )  # fmt: skip
    if args.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    trainer.train()
    seconds = statistics.median(clock.steps[WARM_UP:])
    log = next(one for one in trainer.state.log_history if "tokens_per_second" in one)
    tokens = log["tokens_per_second"] / log["samples_per_second"] * args.batch
    return {
        "step_seconds": round(seconds, 4),
        "waiting_for_batches_seconds": round(statistics.median(clock.waits[WARM_UP:]), 4),
        "tokens_per_second": round(tokens / seconds, 1),
        "samples_per_second": round(args.batch / seconds, 2),
        "model_tflops_per_second": round(work / seconds / 1e12, 3),
        "padding": round(log["padding"], 4),
        "peak_memory_gb": round(peak_memory() / 1e9, 2),
        "profile_of_a_step": clock.profile,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/training_gpu.json"))
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--checkpointing", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--compile", action="store_true", help="compile the layers of tower and language model")
    parser.add_argument("--small", action="store_true")
    args = parser.parse_args()
    args.device = "cuda" if torch.cuda.is_available() else "cpu"
    small, processor = build(64, 2)
    rate = matmul_rate(args.device, 1024 if args.small else 8192)
    result: dict = {"matmul_tflops_per_second": round(rate / 1e12, 2), "batch": args.batch, "steps": args.steps}
    result |= {"checkpointing": args.checkpointing, "compiled": args.compile}
    for method in args.methods:
        with torch.device(args.device):
            config = small.config if args.small else UniRSConfig(
                image_token_id=processor.image_token_id, change_token_id=processor.change_token_id,
                frame_token_ids=processor.frame_token_ids,
            )  # fmt: skip
            model = UniRSForConditionalGeneration(config).to(METHODS[method])
        freeze(model, ["language_model"])
        if args.compile:
            for layer in (*model.model.language_model.layers, *model.model.vision_tower.encoder.layers):
                layer.compile(dynamic=True)
        with tempfile.TemporaryDirectory() as folder:
            found = measure(method, model, processor, args, folder)
        found["mfu"] = round(found["model_tflops_per_second"] * 1e12 / rate, 4)
        result[method] = found
        print(method, found, flush=True)
        args.output.write_text(json.dumps(result, indent=1) + "\n")
        del model
        gc.collect()  # trainer and callbacks hold each other, and with them the model
        torch.cuda.empty_cache()
    result["device"] = torch.cuda.get_device_name() if args.device == "cuda" else "cpu"
    result["torch"] = torch.__version__
    args.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
