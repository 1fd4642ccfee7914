"""Rows of any kind to one batch: singles, pairs, clips and text together, with labels on answers alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image

from ..processing import UniRSProcessor
from .data_sets import DataError
from .packing import IGNORED, Encoded, pack, pad, padding_share, share_out
from .rows import Row, Visual, task_of, visuals_of

Messages = list[dict[str, Any]]
Kept = list[tuple[Visual, torch.Tensor]]
# Below this share of padding, padding is cheaper than the attention of a longer row: 0.79 of the speed for equal
# lengths, without flash attention (benchmarks/training.py).
WORTH_PACKING = 0.1
BLANK = Image.new("RGB", (1, 1))
# Keys of a batch that are the trainer's, not the model's.
TRAINER_KEYS = ("token_tasks", "row_counts")
CHARACTERS_PER_TOKEN = 3.5  # of English text with LLaMA's tokenizer; only lengths for sorting depend on it
TEMPLATE_TOKENS = 60  # system prompt and roles


class Collator:
    """Makes batches of rows (rows.py).

    For `[{"task": "single", ...}, {"task": "pair", ...}, {"task": "video", ...}]` the batch holds

    - `input_ids`, `labels`: `(rows, tokens)`; labels are -100 outside answers and their `</s>`,
    - `attention_mask` `(rows, tokens)`, or, packed, `position_ids` `(rows, tokens)` that start anew with each sample,
    - `pixel_values` `(images, 3, H, W)`, `pixel_values_pairs` `(pairs, 2, 3, H, W)`, `pixel_values_videos`
      `(frames, 3, H, W)`, or features of the same kinds from the cache,
    - for the trainer, `token_tasks` `(rows, tokens)`: places in `TASKS`, -1 for padding, and
      `row_counts`: rows used and left out.

    Args:
        packed: Put samples end to end in rows (see `pack`), where padding each to the longest would waste a tenth.
        one_row: All samples in a single row, as flash attention wants it.
        max_length: Longest sample in tokens; the text behind is cut, cut pictures are an error.
        on_bad: What to do with a row whose picture cannot be read: "stop" the run, or "skip" the row.
        bad_rows: File to which skipped rows are written, one JSON object a line.
        features: Gives the kept features of a visual, `(blocks, tokens, dim)`, in place of pixels (feature_cache.py).
        clues: Use the clues that rows carry.
    """

    def __init__(
        self,
        processor: UniRSProcessor,
        packed: bool = False,
        one_row: bool = False,
        max_length: int | None = None,
        on_bad: Literal["stop", "skip"] = "stop",
        bad_rows: Path | None = None,
        features: Callable[[Visual], torch.Tensor] | None = None,
        clues: bool = True,
    ):
        self.processor, self.packed, self.one_row, self.max_length = processor, packed, one_row, max_length
        self.on_bad, self.bad_rows, self.features, self.clues = on_bad, bad_rows, features, clues

    def __call__(self, rows: Sequence[Row], left_out: int = 0) -> dict[str, torch.Tensor]:
        """A batch; `left_out` are rows that could not even be taken from their data set, for the counts."""
        # 1. each row by itself, so that a bad one is known by its name
        samples: list[Encoded] = []
        for row in rows:
            try:
                samples.append(self.encode(row))
            except ValueError as error:
                self.bad(row["id"], f"row with the id {row['id']}: {error}", error)
        counts = torch.tensor([len(samples), len(rows) - len(samples) + left_out])
        if not samples:  # the step must be made all the same: other processes wait for it
            samples = [self._empty()]
        # 2. words side by side or end to end
        pad_id = self.processor.tokenizer.pad_token_id
        lengths = [len(sample.input_ids) for sample in samples]
        plain = padding_share(lengths, len(lengths), packed=False)
        if self.one_row or (self.packed and plain > WORTH_PACKING):
            batch = pack(samples, pad_id, self.one_row)
            samples = [samples[place] for members in share_out(lengths, self.one_row) for place in members]
        else:
            batch = pad(samples, pad_id)
        # 3. pictures in the order of their placeholders
        for name in dict.fromkeys(name for sample in samples for name in sample.visuals):
            batch[name] = torch.cat([sample.visuals[name] for sample in samples if name in sample.visuals])
        return {**batch, "row_counts": counts}

    def encode(self, row: Row) -> Encoded:
        """One row to ids, labels and pixels.

        Raises:
            ValueError: A picture or clip cannot be read, or does not fit into `max_length`.
        """
        messages = row["messages"] if self.clues else without_clues(row["messages"])
        kept = [(visual, self.features(visual)) for visual in visuals_of(messages)] if self.features else None
        encoded = self.processor.apply_chat_template(
            [blank(messages, kept) if kept else messages],
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask=True,
            processor_kwargs={"truncation": self.max_length is not None, "max_length": self.max_length},
        )
        ids, mask = encoded["input_ids"][0], encoded["assistant_masks"][0]
        labels = [token if answer else IGNORED for token, answer in zip(ids, mask, strict=True)]
        if not any(mask):
            raise ValueError(f"it has no answer to learn from within max_length ({self.max_length} tokens)")
        if kept:
            visuals = join(kept)
        else:
            visuals = {name: value for name, value in encoded.items() if name.startswith("pixel_values")}
        return Encoded(ids, labels, task_of(messages), visuals)

    def bad(self, name: str | None, told: str, error: ValueError) -> None:
        """Stops at a bad row, or writes it down."""
        if self.on_bad == "stop":
            raise DataError(f"{told}; mend it, or go on with bad_rows=skip") from error
        if self.bad_rows is not None:
            with self.bad_rows.open("a") as file:  # one short write at the end: safe from several workers
                file.write(json.dumps({"id": name, "error": str(error)}) + "\n")

    def _empty(self) -> Encoded:
        """Stands in for a batch of bad rows only; carries no loss."""
        ids = self.processor.tokenizer("-")["input_ids"]
        return Encoded(ids, [IGNORED] * len(ids), "text")


def without_clues(messages: Messages) -> Messages:
    return [
        message
        if isinstance(message["content"], str)
        else {**message, "content": [item for item in message["content"] if item["type"] != "clue"]}
        for message in messages
    ]


def blank(messages: Messages, kept: Kept) -> Messages:
    """The same words with cheap pictures, where the features of the true ones are known."""
    frames = iter(len(features) for visual, features in kept if visual.kind == "video")
    emptied = []
    for message in messages:
        content = message["content"]
        if not isinstance(content, str):
            images = [item for item in content if item["type"] == "image"]
            # A sequence as the clip that it is shown as: it may have more dates than frames are taken.
            shown = [{"type": "video"}] if len(images) > 2 else [{"type": "image", "image": BLANK}] * len(images)
            content = [
                {"type": "video", "video": [BLANK] * next(frames)} if item["type"] == "video" else item
                for item in shown + [item for item in content if item["type"] != "image"]
            ]
        emptied.append({**message, "content": content})
    return emptied


def join(kept: Kept) -> dict[str, torch.Tensor]:
    """Features by name of the model's input, in reading order: `(blocks, tokens, dim)` each."""
    joined: dict[str, list[torch.Tensor]] = {}
    for visual, features in kept:
        joined.setdefault(f"{visual.kind}_features", []).append(features)
    return {name: torch.cat(parts) for name, parts in joined.items()}


def estimate_length(row: Row, processor: UniRSProcessor) -> int:
    """Tokens of a row without opening a file: pictures exactly (a clip may have fewer frames), text by its letters."""
    return tokens_of(*text_and_blocks(row, processor.num_frames), processor.image_seq_length)


def text_and_blocks(row: Row, num_frames: int) -> tuple[int, int]:
    """Characters of a row, and how many pictures' worth of tokens it has: a fused pair is one, a frame is one."""
    blocks = sum(num_frames if visual.kind == "video" else 1 for visual in visuals_of(row["messages"]))
    characters = 0
    for message in row["messages"]:
        content = message["content"]
        parts = [content] if isinstance(content, str) else [item["text"] for item in content if item.get("text")]
        characters += sum(map(len, parts))
    return characters, blocks


def tokens_of(characters: int, blocks: int, image_seq_length: int) -> int:
    return TEMPLATE_TOKENS + int(characters / CHARACTERS_PER_TOKEN) + blocks * image_seq_length
