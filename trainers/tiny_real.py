"""First part of the embedded checkpoint's stage 1: real pictures alone, each seen in many lights and cuts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .real_scenes import CLASSES, real_pair, relight, view

if TYPE_CHECKING:
    from ..modeling_unirs import UniRSForConditionalGeneration
    from ..modeling_unirs.change_extraction_unirs import ChangeExtraction

SINGLES, PAIRS = 28, 12  # of each step
SMOOTHING = 0.1


def pixels(pictures: np.ndarray | torch.Tensor) -> torch.Tensor:
    """`(..., H, W, 3)` bytes to `(..., 3, H, W)` in -1..1, as the image processor does for square pictures."""
    return torch.as_tensor(pictures).movedim(-1, -3).float() / 127.5 - 1


def patch_means(masks: np.ndarray, grid: int) -> torch.Tensor:
    """Share of each patch that is marked: `(n, side, side)` to `(n, grid * grid)`."""
    side = masks.shape[-1] // grid
    return torch.from_numpy(masks.reshape(len(masks), grid, side, grid, side).mean((2, 4))).float().flatten(1)


class RealBatches:
    """Draws labelled views and made pairs of the same real pictures."""

    def __init__(self, pictures: np.ndarray, labels: np.ndarray, size: int, grid: int):
        self.pictures, self.labels, self.size, self.grid = pictures, labels, size, grid

    def singles(self, rng: np.random.Generator, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Views `(count, 3, size, size)`, and the share of each class in them `(count, classes)`; half are mixed."""
        rows = rng.integers(len(self.pictures), size=count)
        views = [np.asarray(relight(rng, view(rng, self.pictures[row], self.size), 0.6)) for row in rows]
        shares = F.one_hot(torch.from_numpy(self.labels[rows]), len(CLASSES)).float()
        mix = torch.from_numpy(np.where(rng.random(count) < 0.5, rng.beta(0.4, 0.4, count), 1.0)).float()
        inputs, order = pixels(np.stack(views)), torch.from_numpy(rng.permutation(count))
        inputs = inputs * mix[:, None, None, None] + inputs[order] * (1 - mix)[:, None, None, None]
        shares = shares * mix[:, None] + shares[order] * (1 - mix)[:, None]
        return inputs, shares * (1 - SMOOTHING) + SMOOTHING / len(CLASSES)

    def pairs(self, rng: np.random.Generator, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Dates `(count, 2, 3, size, size)` and the changed share of each patch `(count, patches)`."""
        drawn = [real_pair(rng, self.pictures, self.labels, self.size, rng.random() < 0.7) for _ in range(count)]
        return pixels(np.stack([one.pictures for one in drawn])), patch_means(
            np.stack([one.mask for one in drawn]), self.grid
        )


def change_losses(
    extraction: ChangeExtraction, head: nn.Module, dates: torch.Tensor, truth: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Losses of the change at every patch, for dates `(pairs, 2, patches, dim)` and shares `(pairs, patches)`.

    One asks the fused features by a head that is thrown away, the other the cosine that is the change map: same land
    should look alike at both dates, changed land should not.
    """
    said = head(extraction(dates))[..., 0].float()
    similarity = extraction.similarity(dates).float()
    return {
        "change": F.binary_cross_entropy_with_logits(said, (truth > 0.1).float(), pos_weight=truth.new_tensor(3.0)),
        "map": F.mse_loss(similarity, 1 - (truth * 2).clamp(0, 1)),
    }


def improve(optimizer: torch.optim.Optimizer, losses: dict[str, torch.Tensor]) -> None:
    """One step on the sum of all losses, its gradient cut to length 1."""
    optimizer.zero_grad(set_to_none=True)
    torch.stack(list(losses.values())).sum().backward()
    nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 1.0)
    optimizer.step()


def pretrain_real(model: UniRSForConditionalGeneration, batches: RealBatches, steps: int, seed: int) -> None:
    """Tower and Change Extraction learn scene classes and made changes on real pictures."""
    base, dim, rng = model.model, model.config.vision_config.hidden_size, np.random.default_rng(seed)
    device = model.device
    heads = nn.ModuleDict({"scene": nn.Linear(dim, len(CLASSES)), "change": nn.Linear(dim, 1)}).to(device)
    weights = [*base.vision_tower.parameters(), *base.change_extraction.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=1e-3, weight_decay=0.05)
    started, model = time.time(), model.train()
    for step in range(1, steps + 1):
        optimizer.param_groups[0]["lr"] = 1e-3 * min(1, step / 100)
        singles, shares = (value.to(device) for value in batches.singles(rng, SINGLES))
        pairs, truth = (value.to(device) for value in batches.pairs(rng, PAIRS))
        with torch.autocast(device.type, torch.bfloat16):
            features = base.encode_pixels(torch.cat([singles, pairs.flatten(0, 1)]))  # (pictures, patches, dim)
            scenes, dates = features[:SINGLES], features[SINGLES:].unflatten(0, (-1, 2))
            losses = {"scene": F.cross_entropy(heads["scene"](scenes.mean(1)).float(), shares)}
            losses |= change_losses(base.change_extraction, heads["change"], dates, truth)
        improve(optimizer, losses)
        if step % 20 == 0:
            shown = {name: round(loss.item(), 4) for name, loss in losses.items()}
            print(f"real {(time.time() - started) / 60:.1f} min, step {step}/{steps}", shown, flush=True)
