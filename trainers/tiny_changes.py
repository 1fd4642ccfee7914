"""Third part of the embedded checkpoint's stage 1: what is a change and what is not; all else is seen as before."""

from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from .tiny_patches import Samples
from .tiny_real import change_losses, improve, pixels

if TYPE_CHECKING:
    from ..modeling_unirs import UniRSForConditionalGeneration
    from .tiny_patches import PatchSteps

# Mostly pairs, and of these made ones: the generated world's changes are known by now. Some of all else, to be kept.
CHANGE_SAMPLES = Samples(singles=10, pairs=6, clips=1, real=4, real_pairs=14)
LEARNING_RATE = 3e-4  # of a trained tower: a third of that of `pretrain_patches`
# At 2 features move by two to three per cent of their variance, and a language model still reads them.
KEPT_WEIGHT = 2.0


def pretrain_changes(model: UniRSForConditionalGeneration, shown: PatchSteps, workers: int = 0) -> None:
    """Change Extraction and the tower learn changes, and of single pictures the features stay what they were.

    So a language model that knows the tower still reads it. Of what is kept, and learned in `pretrain_patches` (land,
    objects, places, classes), the old features are the teacher, in place of every head of it.

    Args:
        shown: Steps of `CHANGE_SAMPLES`, with real pictures.
        workers: Processes that draw the steps. An accelerator is faster than one.
    """
    base, device, steps = model.model, model.device, len(shown)
    # whole, for `encode_pixels`, though but the tower is used
    teacher = copy.deepcopy(base).eval().requires_grad_(False)
    head = nn.Linear(model.config.vision_config.hidden_size, 1).to(device)
    weights = [*base.vision_tower.parameters(), *base.change_extraction.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=LEARNING_RATE, weight_decay=0.05)
    started = time.time()
    model.train()
    for step, drawn in enumerate(DataLoader(shown, batch_size=None, num_workers=workers), 1):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * min(1, step / 50) * max(0.02, 1 - step / steps)
        truth = {name: value.to(device) for name, value in drawn.items()}
        kept = torch.cat([pixels(truth["singles"]), pixels(truth["clips"]).flatten(0, 1), truth["real"]])
        pairs = torch.cat([pixels(truth["pairs"]), truth["real_pairs"]])  # (pairs, 2, 3, height, width)
        with torch.autocast(device.type, torch.bfloat16):
            encoded = base.encode_pixels(torch.cat([kept, pairs.flatten(0, 1)]))  # (pictures, patches, dim)
            features, dates = encoded[: len(kept)].float(), encoded[len(kept) :].unflatten(0, (-1, 2))
            with torch.no_grad():
                before = teacher.encode_pixels(kept).float()
            losses = {"kept": KEPT_WEIGHT * F.mse_loss(features, before) / before.var()}
            generated, made = dates.split([len(truth["pairs"]), len(truth["real_pairs"])])
            losses |= change_losses(base.change_extraction, head, generated, truth["change"].float())
            made_losses = change_losses(base.change_extraction, head, made, truth["real_change"])
            losses |= {f"real {name}": loss for name, loss in made_losses.items()}
        improve(optimizer, losses)
        if step % 20 == 0:
            told = {name: round(loss.item(), 4) for name, loss in losses.items()}
            print(f"changes {(time.time() - started) / 60:.1f} min, step {step}/{steps}", told, flush=True)
