"""First stage of the embedded checkpoint: tower and Change Extraction learn to see, patch by patch."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .scene_tasks import CLIP_CLASSES, single_questions
from .scenes import LAND_CLASSES
from .tiny_data import FRAMES, REAL_CLASSES

if TYPE_CHECKING:
    from ..modeling_unirs import UniRSForConditionalGeneration
    from .tiny import Mixture


def flip(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One of the eight ways to lay a square picture; seen from above, all are as good."""
    picture = np.rot90(picture, int(rng.integers(4)))
    return np.ascontiguousarray(picture[:, ::-1] if rng.random() < 0.5 else picture)


def pixels(pictures: np.ndarray) -> torch.Tensor:
    """`(..., H, W, 3)` bytes to `(..., 3, H, W)` in -1..1, as the image processor does for square pictures."""
    return torch.from_numpy(pictures).movedim(-1, -3).float() / 127.5 - 1


def movers(words: list[dict]) -> torch.Tensor:
    """Whether single scenes hold vehicles and boats, which land cover does not show: `(samples, 2)`.

    Of the first plan of each seed; about one in a thousand did not fit and was drawn anew.
    """
    plans = [single_questions(word["seed"])[0] for word in words]
    return torch.tensor([[plan.vehicles > 0, plan.boats > 0] for plan in plans]).float()


def pretrain_patches(model: UniRSForConditionalGeneration, mixture: Mixture, steps: int, seed: int) -> None:
    """Tower and Change Extraction learn land cover and change patch by patch, with heads that are thrown away."""
    base, rng = model.model, np.random.default_rng(seed)
    dim = model.config.vision_config.hidden_size
    sizes = {"land": len(LAND_CLASSES), "movers": 2, "change": 1, "real": len(REAL_CLASSES), "clip": len(CLIP_CLASSES)}
    heads = nn.ModuleDict({name: nn.Linear(dim, size) for name, size in sizes.items()})
    weights = [*base.vision_tower.parameters(), *base.change_extraction.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=1e-3, weight_decay=0.05)
    singles, pairs, clips = (mixture.scenes[task][0] for task in ("single", "pair", "video"))
    mover_truth = movers(mixture.scenes["single"][1])
    clip_truth = torch.tensor([CLIP_CLASSES.index(word["label"]) for word in mixture.scenes["video"][1]])
    started = time.time()
    model.train()
    for step in range(1, steps + 1):
        optimizer.param_groups[0]["lr"] = 1e-3 * min(1, step / 50) * max(0.03, 1 - step / steps)
        # 1. a batch of every kind, all through the tower at once
        one = rng.integers(len(singles["pictures"]), size=24)
        two = rng.integers(len(pairs["pictures"]), size=16)
        clip = rng.integers(len(clips["pictures"]), size=6)
        real = rng.integers(len(mixture.real_labels), size=16 if len(mixture.real_labels) else 0)
        parts = [
            pixels(singles["pictures"][one, 0]),
            pixels(pairs["pictures"][two]).flatten(0, 1),
            pixels(clips["pictures"][clip]).flatten(0, 1),
            *([pixels(np.stack([flip(mixture.real_pictures[row], rng) for row in real]))] if len(real) else []),
        ]
        features = base.encode_pixels(torch.cat(parts)).split([len(part) for part in parts])  # (n, patches, dim) each
        dates = features[1].unflatten(0, (-1, 2))  # (pairs, 2, patches, dim)
        similarity = base.change_extraction.similarity(dates)  # (pairs, patches)
        # 2. what each head should have said
        shares = np.concatenate([singles["land"][one, 0], pairs["land"][two].reshape(-1, *pairs["land"].shape[2:])])
        land_truth = torch.from_numpy(shares).float().transpose(1, 2)  # (pictures, patches, classes)
        change_truth = torch.from_numpy(pairs["change"][two]).float()  # (pairs, patches)
        land = heads["land"](torch.cat(features[:2]))
        changed = heads["change"](base.change_extraction(dates))[..., 0]
        moving = heads["movers"](features[0]).amax(1)  # one patch with a boat is enough
        losses = {
            "land": F.cross_entropy(land.flatten(0, 1), land_truth.flatten(0, 1)),
            "movers": 0.5 * F.binary_cross_entropy_with_logits(moving, mover_truth[one]),
            "change": F.binary_cross_entropy_with_logits(
                changed, (change_truth > 0.1).float(), pos_weight=torch.tensor(3.0)
            ),
            # The same cosine is the change map: same land should look alike at both dates, changed land should not.
            "map": F.mse_loss(similarity, 1 - (change_truth * 2).clamp(0, 1)),
            "clip": 0.3
            * F.cross_entropy(heads["clip"](features[2].mean(1)), clip_truth[clip].repeat_interleave(FRAMES)),
        }
        if len(real):
            truth = torch.from_numpy(mixture.real_labels[real])
            losses["real"] = 0.3 * F.cross_entropy(heads["real"](features[3].mean(1)), truth)
        # 3. one step
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        if step % 20 == 0:
            shown = {name: round(loss.item(), 4) for name, loss in losses.items()}
            print(f"stage 1 {(time.time() - started) / 60:.1f} min, step {step}/{steps}", shown, flush=True)
