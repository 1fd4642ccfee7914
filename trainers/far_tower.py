"""The embedded checkpoint's tower learns strange lights: it is to see in them what it saw in the land's own.

Its teacher is itself as it was, shown the same land plainly; so all that has been learnt of its features stays true.
"""

from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING

import numpy as np
import torch

from .scene_shapes import Array
from .tiny_real import improve, pixels

if TYPE_CHECKING:
    from ..modeling_unirs import UniRSForConditionalGeneration

STRANGE, KEPT = 40, 24  # of each step: views in strange lights, and pictures whose features are to stay
WARMUP = 50


def distance(seen: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Mean squared error of features `(pictures, patches, dim)`, in shares of the variance of what is wanted."""
    return ((seen - wanted) ** 2).mean() / wanted.var(dim=(0, 1)).mean()


def adapt_tower(
    model: UniRSForConditionalGeneration,
    strange: Array,
    plain: Array,
    kept: list[Array],
    steps: int,
    seed: int,
    learning_rate: float = 3e-4,
) -> None:
    """Trains the vision tower alone.

    Args:
        strange, plain: The same land `(views, size, size, 3)` uint8, in a strange light and in its own.
        kept: Stacks `(samples, pictures, size, size, 3)` of what is to be seen as it was, each shown as often.
    """
    base, rng = model.model, np.random.default_rng(seed)
    teacher = copy.deepcopy(base).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(base.vision_tower.parameters(), lr=learning_rate, weight_decay=0.01)
    started = time.time()
    model.train()
    for step in range(1, steps + 1):
        left = 0.5 + 0.5 * np.cos(np.pi * step / steps)
        optimizer.param_groups[0]["lr"] = learning_rate * min(step / WARMUP, left)
        rows = rng.choice(len(strange), STRANGE)
        same = np.stack([_one_of(rng, kept[number]) for number in rng.integers(len(kept), size=KEPT)])
        shown = pixels(np.concatenate([strange[rows], same])).to(model.device)
        meant = pixels(np.concatenate([plain[rows], same])).to(model.device)
        with torch.autocast(model.device.type, torch.bfloat16):
            with torch.no_grad():
                wanted = teacher.encode_pixels(meant).float()  # (pictures, patches, dim)
            seen = base.encode_pixels(shown).float()
        losses = {
            "strange": distance(seen[:STRANGE], wanted[:STRANGE]),
            "kept": distance(seen[STRANGE:], wanted[STRANGE:]),
        }
        improve(optimizer, losses)
        if step % 20 == 0:
            told = {name: round(loss.item(), 4) for name, loss in losses.items()}
            print(f"tower {(time.time() - started) / 60:.1f} min, step {step}/{steps}", told, flush=True)


def _one_of(rng: np.random.Generator, stack: Array) -> Array:
    return stack[rng.integers(len(stack)), rng.integers(stack.shape[1])]
