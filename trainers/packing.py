"""Samples of very different length in one batch: padded, or packed end to end without seeing each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from .rows import TASKS, Task

IGNORED = -100  # label without loss
NO_TASK = -1  # in `token_tasks`: padding
# Without flash attention the mask of a row is dense: at 2,048 tokens attention costs a 3B model an eighth of a pass.
ROW_TOKENS = 2048


@dataclass
class Encoded:
    """One sample as ids, with the pixels (or features) that its placeholders stand for."""

    input_ids: list[int]
    labels: list[int]
    task: Task
    visuals: dict[str, torch.Tensor] = field(default_factory=dict)


def pad(samples: Sequence[Encoded], pad_id: int) -> dict[str, torch.Tensor]:
    """Right-padded batch: every tensor `(samples, longest)`."""
    longest = max(len(sample.input_ids) for sample in samples)
    batch = _filled(len(samples), longest, pad_id)
    batch["attention_mask"] = torch.zeros_like(batch["input_ids"])
    for row, sample in enumerate(samples):
        _write(batch, row, 0, sample)
        batch["attention_mask"][row, : len(sample.input_ids)] = 1
    return batch


def pack(samples: Sequence[Encoded], pad_id: int, one_row: bool) -> dict[str, torch.Tensor]:
    """Samples end to end in rows of about `ROW_TOKENS`: every tensor `(rows, tokens)`.

    `position_ids` start again at 0 with each sample, and there is no `attention_mask`: from that transformers knows
    that the samples of a row must not attend to each other (flash attention: only in a batch of `one_row`). What is
    left of a row is one more "sample" without loss. Pixels keep the order in which the samples stand.

    Args:
        one_row: All samples in one row, without any padding.
    """
    lengths = [len(sample.input_ids) for sample in samples]
    rows = share_out(lengths, one_row)
    capacity = max(sum(lengths[member] for member in members) for members in rows)
    batch = _filled(len(rows), capacity, pad_id)
    batch["position_ids"] = torch.zeros_like(batch["input_ids"])
    for row, members in enumerate(rows):
        start = 0
        for member in members:
            _write(batch, row, start, samples[member])
            end = start + len(samples[member].input_ids)
            batch["position_ids"][row, start:end] = torch.arange(end - start)
            start = end
        batch["position_ids"][row, start:] = torch.arange(capacity - start)
    return batch


def tells_samples_apart(language_model: Any) -> bool:
    """Whether `position_ids` keep the samples of a row from seeing each other.

    OPT, BLOOM, Falcon and MPT make their masks without them, and recurrent models carry a state along.
    """
    weight = language_model.get_input_embeddings().weight
    if weight.is_meta or not weight.numel():  # the weights lie elsewhere, as DeepSpeed has them
        return True
    half = 4  # tokens of each of two samples
    words = torch.arange(2 * half, device=weight.device)[None]
    seen = language_model.get_input_embeddings()(words).detach().requires_grad_()  # (1, tokens, dim)
    with torch.enable_grad():
        found = language_model(inputs_embeds=seen, position_ids=words % half, use_cache=False).last_hidden_state
        weights = torch.linspace(-1, 1, found.shape[-1], device=found.device)  # a norm makes plain sums constant
        (gradient,) = torch.autograd.grad((found[:, half:] * weights).sum(), seen)
    return not (gradient[:, :half].abs() > 0).any()  # of weights that are no numbers the training tells


def fill_rows(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """First-fit decreasing: members of each row, so that no row is longer than `capacity`."""
    rows: list[list[int]] = []
    room: list[int] = []
    for member in sorted(range(len(lengths)), key=lambda one: -lengths[one]):
        for row, free in enumerate(room):
            if lengths[member] <= free:
                rows[row].append(member)
                room[row] -= lengths[member]
                break
        else:
            rows.append([member])
            room.append(capacity - lengths[member])
    return rows


def share_out(lengths: Sequence[int], one_row: bool = False) -> list[list[int]]:
    """Members of each packed row: as many rows as the tokens need, as even as they can be."""
    if one_row:
        return [list(range(len(lengths)))]
    count = -(-sum(lengths) // max(ROW_TOKENS, max(lengths)))
    capacity = max(max(lengths), -(-sum(lengths) // count))
    while len(rows := fill_rows(lengths, capacity)) > count:
        capacity += 1 + capacity // 64
    return rows


def padding_share(lengths: Sequence[int], batch: int, packed: bool) -> float:
    """Share of tokens that is padding when samples come in this order, `batch` of them at a time."""
    slots = 0
    for start in range(0, len(lengths), batch):
        part = lengths[start : start + batch]
        if packed:
            rows = share_out(part)
            slots += len(rows) * max(sum(part[member] for member in members) for members in rows)
        else:
            slots += len(part) * max(part)
    return 1 - sum(lengths) / slots


def _filled(rows: int, tokens: int, pad_id: int) -> dict[str, torch.Tensor]:
    return {
        "input_ids": torch.full((rows, tokens), pad_id),
        "labels": torch.full((rows, tokens), IGNORED),
        "token_tasks": torch.full((rows, tokens), NO_TASK),
    }


def _write(batch: dict[str, torch.Tensor], row: int, start: int, sample: Encoded) -> None:
    end = start + len(sample.input_ids)
    batch["input_ids"][row, start:end] = torch.tensor(sample.input_ids)
    batch["labels"][row, start:end] = torch.tensor(sample.labels)
    batch["token_tasks"][row, start:end] = TASKS.index(sample.task)
