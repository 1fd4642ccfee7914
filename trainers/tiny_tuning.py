"""Second stage of the embedded checkpoint, and of the arms of the claims: words for features that are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from datasets import Dataset
from PIL import Image
from torch import nn
from torch.utils.data import get_worker_info
from transformers.modeling_outputs import BaseModelOutput
from transformers.trainer_callback import PrinterCallback
from trl import SFTConfig, SFTTrainer

from ..modeling_unirs import UniRSForConditionalGeneration
from ..modeling_unirs.prompt_augmentation_unirs import BASE_TEMPLATE
from ..processing import UniRSProcessor
from .packing import IGNORED, Encoded, pad
from .progress import Lines
from .rows import image_items
from .tiny_mixture import PICTURES_OF, Talk
from .tiny_real import pixels

BLANK = Image.new("RGB", (1, 1))


class Conversations(Protocol):
    """Rows of `{"kind", "row"}`, and the conversation of each."""

    def rows(self) -> list[dict[str, Any]]: ...

    def talk(self, kind: str, row: int) -> Talk: ...

    def reseed(self, seed: int) -> None:
        """What is drawn from now on comes of this seed."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast, and where the trainer may write."""

    steps: int
    batch: int
    learning_rate: float
    seed: int
    folder: Path
    warmup: int
    workers: int = 0  # processes that draw batches


class KeptFeatures(nn.Module):
    """Stands in for the frozen tower: its "pixels" `(n, 1, patches, dim)` are features that were computed before."""

    def forward(self, pixel_values: torch.Tensor) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=pixel_values[:, 0])


@torch.no_grad()
def keep_features(model: UniRSForConditionalGeneration, pictures: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Vision features of every picture, half precision: `(samples, pictures, 1, patches, dim)` by kind.

    Args:
        pictures: `(samples, pictures, side, side, 3)` uint8 by kind.
    """
    model.eval()
    kept = {}
    for kind, stack in pictures.items():
        chunks = []
        for start in range(0, len(stack), 32):
            shown = pixels(stack[start : start + 32]).flatten(0, 1).to(model.device)
            with torch.autocast(model.device.type, torch.bfloat16):
                chunks.append(model.model.encode_pixels(shown).half().cpu())
        kept[kind] = torch.cat(chunks).unflatten(0, (len(stack), -1)).unsqueeze(2)
    return kept


@torch.no_grad()
def own_clues(model: UniRSForConditionalGeneration, processor: UniRSProcessor, features: torch.Tensor) -> list[str]:
    """The clue that the model itself gives of each single picture, asked as the base model is.

    Args:
        features: Of `keep_features`, `(pictures, 1, 1, patches, dim)`.
    """
    model.eval()
    tower, model.model.vision_tower = model.model.vision_tower, KeptFeatures()
    augmenter = model.prompt_augmenter(processor)
    asked = {"type": "text", "text": augmenter.prompts["single"]}
    question = [{"role": "user", "content": [*image_items([BLANK]), asked]}]
    words = processor.encode_chats([question], BASE_TEMPLATE)
    del words["pixel_values"]
    clues = []
    for start in range(0, len(features), 64):
        shown = features[start : start + 64, 0].float()  # (pictures, 1, patches, dim)
        rows = {name: row.expand(len(shown), -1) for name, row in words.items()}
        clues += augmenter.ask({**rows, "pixel_values": shown})
    model.model.vision_tower = tower
    return [clue.text or "" for clue in clues]


class Collator:
    """Rows `{"kind", "row"}` to model inputs with `labels` of shape `(batch, tokens)`, -100 outside answers.

    Pixels are replaced by the kept features of the same pictures, in the same order.
    """

    def __init__(self, mixture: Conversations, processor: UniRSProcessor, features: dict[str, torch.Tensor]):
        self.mixture, self.processor, self.features = mixture, processor, features
        self.worker_seed: int | None = None

    def __call__(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        worker = get_worker_info()
        if worker is not None and worker.seed != self.worker_seed:  # or all would draw alike: each has a copy
            self.worker_seed = worker.seed
            self.mixture.reseed(worker.seed)
        samples: list[Encoded] = []
        visuals: dict[str, list[torch.Tensor]] = {}
        for row in rows:
            talk = self.mixture.talk(row["kind"], row["row"])
            samples.append(self._encode(talk))
            kind = PICTURES_OF.get(row["kind"], row["kind"])
            kept = self.features[kind][row["row"]].float()  # (pictures, 1, patches, dim)
            visuals.setdefault(talk.pixels, []).append(kept)
        batch = pad(samples, self.processor.tokenizer.pad_token_id)
        del batch["token_tasks"]
        for name, found in visuals.items():
            batch[name] = torch.stack(found) if name == "pixel_values_pairs" else torch.cat(found)
        return batch

    def _encode(self, talk: Talk) -> Encoded:
        encoded = self.processor.apply_chat_template(
            [without_pictures(talk.messages)],
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask=True,
            **talk.template,
        )
        ids, mask = encoded["input_ids"][0], encoded["assistant_masks"][0]
        labels = [token if answer else IGNORED for token, answer in zip(ids, mask, strict=True)]
        return Encoded(ids, labels, "text")


def without_pictures(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same words, with pictures of one pixel where their features are known."""
    return [
        {**turn, "content": [_blank(item) for item in turn["content"]]} if turn["role"] == "user" else turn
        for turn in messages
    ]


def _blank(item: dict) -> dict:
    """The same item with cheap pictures: their features are known."""
    if item["type"] == "image":
        return {"type": "image", "image": BLANK}
    if item["type"] == "video":
        return {"type": "video", "video": [BLANK] * len(item["video"])}
    return item


def in_batches_of_one_kind(rows: list[dict[str, Any]], schedule: Schedule) -> list[dict[str, Any]]:
    """Rows for `schedule.steps` batches, each of one kind: a picture's conversation is half as long as a clip's.

    Mixed batches would be a third padding. Kinds take turns by chance, in the shares that they have in `rows`; each
    goes through all its rows before it comes back to one.
    """
    rng = np.random.default_rng(schedule.seed)
    kinds = sorted({row["kind"] for row in rows})
    # 1. how many batches each kind gets: its share, rounded by largest remainder
    shares = np.array([sum(row["kind"] == kind for row in rows) for kind in kinds]) / len(rows) * schedule.steps
    batches = np.floor(shares).astype(int)
    batches[np.argsort(batches - shares, kind="stable")[: schedule.steps - batches.sum()]] += 1
    # 2. whose turn it is, and which rows come next: one that `rows` holds several times is no sooner seen again
    of_kind = {kind: list({row["row"]: row for row in rows if row["kind"] == kind}.values()) for kind in kinds}
    turns = rng.permutation(np.repeat(kinds, batches))
    queues: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    ordered = []
    for kind in turns:
        while len(queues[kind]) < schedule.batch:
            queues[kind] += [of_kind[kind][place] for place in rng.permutation(len(of_kind[kind]))]
        ordered += queues[kind][: schedule.batch]
        del queues[kind][: schedule.batch]
    return ordered


def tune(
    model: UniRSForConditionalGeneration,
    processor: UniRSProcessor,
    mixture: Conversations,
    features: dict[str, torch.Tensor],
    schedule: Schedule,
    say: Callable[[str], None] = lambda line: None,
) -> list[dict]:
    """Joint tuning of projector and language model by TRL's SFTTrainer; tower and Change Extraction are frozen.

    Args:
        features: Of `keep_features`, by the kinds that the mixture names.
        say: Is told step, loss and time left every 20 steps.

    Returns:
        The trainer's log.
    """
    on_cpu = not torch.cuda.is_available()
    tower, model.model.vision_tower = model.model.vision_tower, KeptFeatures()
    model.model.change_extraction.requires_grad_(False)
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(schedule.folder),
            max_steps=schedule.steps,
            per_device_train_batch_size=schedule.batch,
            learning_rate=schedule.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=schedule.warmup,
            weight_decay=0.01,
            logging_steps=20,
            save_strategy="no",
            report_to="none",
            use_cpu=on_cpu,
            bf16=True,
            gradient_checkpointing=False,
            max_length=None,
            remove_unused_columns=False,
            dataset_kwargs={"skip_prepare_dataset": True},
            train_sampling_strategy="sequential",
            disable_tqdm=True,
            dataloader_num_workers=schedule.workers,
            seed=schedule.seed,
        ),
        train_dataset=Dataset.from_list(in_batches_of_one_kind(mixture.rows(), schedule)),
        processing_class=processor,
        data_collator=Collator(mixture, processor, features),
        callbacks=[Lines(say)],
    )
    trainer.remove_callback(PrinterCallback)  # it would print dictionaries on the output, which `--json` needs
    trainer.train()
    model.model.vision_tower = tower
    # TRL and accelerate hang their own `forward` on the instance; a copy of the model would go on with this one's.
    for module in model.modules():
        module.__dict__.pop("forward", None)
    return trainer.state.log_history
