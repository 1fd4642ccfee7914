"""Second part of the embedded checkpoint's stage 1: tower and Change Extraction learn to see, patch by patch."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from .real_scenes import CLASSES
from .scene_clips import CLIP_CLASSES
from .scene_shapes import LAND_CLASSES
from .scene_tasks import OBJECTS
from .tiny_data import FRAMES, GRID, load_scenes, turned
from .tiny_real import RealBatches, change_losses, improve, pixels

if TYPE_CHECKING:
    from pathlib import Path

    from ..modeling_unirs import UniRSForConditionalGeneration


@dataclass(frozen=True)
class Samples:
    """How many generated pictures, pairs and clips, and real pictures and made pairs, a step shows."""

    singles: int
    pairs: int
    clips: int
    real: int
    real_pairs: int


# What limits counts, comparisons and the presence of small things is how well objects are seen, and only the generated
# pictures tell of them.
SAMPLES = Samples(singles=44, pairs=6, clips=2, real=12, real_pairs=10)
OBJECTS_WEIGHT = 2.0


def place_patches(model: UniRSForConditionalGeneration, amplitude: float = 1.0) -> None:
    """Adds sine and cosine of each patch's row and column to the tower's position embedding.

    From small random numbers none grows that outlasts the layers: what they add is five times as large, and no part of
    stage 1 asks for places but in passing. With these a linear probe of layer -2 finds the row of 77 % of the patches
    before any training, where it found 20 % after three rounds of it.
    """
    weight = model.model.vision_tower.embeddings.position_embedding.weight  # (patches, dim)
    quarter = weight.shape[1] // 4
    turns = torch.arange(GRID)[:, None] / 20 ** (torch.arange(quarter) / quarter)  # radians; the grid is 12 wide
    waves = torch.cat([turns.sin(), turns.cos()], 1)
    waves -= waves.mean(0)  # the mean of all patches stays what it was
    with torch.no_grad():
        weight += amplitude * torch.cat([waves.repeat_interleave(GRID, 0), waves.repeat(GRID, 1)], 1)


class PatchSteps(Dataset):
    """What each step of training shows, and what is true of it at every patch.

    A step is drawn from its number and the seed alone, so it is the same whichever process draws it.

    Args:
        scale: Samples of a step, in multiples of `samples`.
    """

    def __init__(
        self,
        scenes: Path,
        real: RealBatches | None,
        steps: int,
        seed: int,
        scale: int = 1,
        samples: Samples = SAMPLES,
    ):
        self.real, self.steps, self.seed, self.scale, self.samples = real, steps, seed, scale, samples
        self.singles, self.pairs = (load_scenes(scenes, task)[0] for task in ("single", "pair"))
        self.clips, words = load_scenes(scenes, "video")
        self.clip_truth = np.array([CLIP_CLASSES.index(word["label"]) for word in words])

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        rng, scale, samples = np.random.default_rng((self.seed, step)), self.scale, self.samples
        one = rng.integers(len(self.singles["pictures"]), size=samples.singles * scale)
        two = rng.integers(len(self.pairs["pictures"]), size=samples.pairs * scale)
        clip = rng.integers(len(self.clips["pictures"]), size=samples.clips * scale)
        turn = int(rng.integers(4)), bool(rng.integers(2))
        land, centres = (
            turned(self.singles[name][one].reshape(len(one), -1, GRID, GRID), *turn) for name in ("land", "centres")
        )
        land_maps = np.concatenate(
            [
                land.reshape(len(one), len(LAND_CLASSES), -1),
                self.pairs["land"][two].reshape(2 * len(two), len(LAND_CLASSES), -1),
            ]
        )
        drawn = {
            "singles": turned(self.singles["pictures"][one, 0], *turn, axes=(-3, -2)),
            "pairs": self.pairs["pictures"][two],
            "clips": self.clips["pictures"][clip],
            "land": land_maps,  # (singles and dates, classes, patches)
            "objects": centres,  # (singles, kinds, grid, grid)
            "change": self.pairs["change"][two],  # (pairs, patches)
            "clip": self.clip_truth[clip],
        }
        shown = {name: torch.from_numpy(value) for name, value in drawn.items()}
        if self.real:
            shown["real"], shown["scene"] = self.real.singles(rng, samples.real * scale)
            shown["real_pairs"], shown["real_change"] = self.real.pairs(rng, samples.real_pairs * scale)
        return shown


def pretrain_patches(
    model: UniRSForConditionalGeneration, steps: PatchSteps, learning_rate: float = 1e-3, workers: int = 0
) -> None:
    """Land cover, objects and change at every patch, with heads that are thrown away.

    So are two that tell in which row and column a patch lies. No other asks for that, so the tower would wash out its
    position embedding layer by layer, and the language model could not say where anything is.

    Args:
        workers: Processes that draw the steps. An accelerator is faster than one.
    """
    base, device = model.model, model.device
    dim = model.config.vision_config.hidden_size
    sizes = {"land": len(LAND_CLASSES), "objects": len(OBJECTS), "row": GRID, "column": GRID, "change": 1,
             "clip": len(CLIP_CLASSES), "scene": len(CLASSES)}  # fmt: skip
    heads = nn.ModuleDict({name: nn.Linear(dim, size) for name, size in sizes.items()}).to(device)
    weights = [*base.vision_tower.parameters(), *base.change_extraction.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=0.05)
    places = torch.arange(GRID, device=device)
    rows, columns = places.repeat_interleave(GRID), places.repeat(GRID)  # of the patches
    rare = torch.tensor(5.0, device=device)
    started = time.time()
    model.train()
    for step, drawn in enumerate(DataLoader(steps, batch_size=None, num_workers=workers), 1):
        optimizer.param_groups[0]["lr"] = learning_rate * min(1, step / 50) * max(0.02, 1 - step / len(steps))
        shown = {name: value.to(device) for name, value in drawn.items()}
        # 1. a batch of every kind, all through the tower at once
        parts = [pixels(shown["singles"]), *(pixels(shown[name]).flatten(0, 1) for name in ("pairs", "clips"))]
        if steps.real:
            parts += [shown["real"], shown["real_pairs"].flatten(0, 1)]
        with torch.autocast(device.type, torch.bfloat16):
            encoded = base.encode_pixels(torch.cat(parts))  # (pictures, patches, dim)
            features = encoded.split([len(part) for part in parts])
            # 2. what each head says, and should say
            dates = features[1].unflatten(0, (-1, 2))  # (pairs, 2, patches, dim)
            land_truth = shown["land"].float().transpose(1, 2)  # (pictures, patches, classes)
            land = heads["land"](torch.cat(features[:2])).float()
            objects = heads["objects"](features[0]).float().transpose(1, 2)  # (pictures, kinds, patches)
            object_truth = shown["objects"].float().flatten(2)
            clip_said = heads["clip"](features[2].mean(1)).float()
            losses = {
                "land": F.cross_entropy(land.flatten(0, 1), land_truth.flatten(0, 1)),
                "objects": OBJECTS_WEIGHT * F.binary_cross_entropy_with_logits(objects, object_truth, pos_weight=rare),
                **change_losses(base.change_extraction, heads["change"], dates, shown["change"].float()),
                "row": 0.3 * F.cross_entropy(heads["row"](encoded).float().flatten(0, 1), rows.repeat(len(encoded))),
                "column": 0.3
                * F.cross_entropy(heads["column"](encoded).float().flatten(0, 1), columns.repeat(len(encoded))),
                "clip": 0.3 * F.cross_entropy(clip_said, shown["clip"].repeat_interleave(FRAMES)),
            }
            if steps.real:
                made = features[4].unflatten(0, (-1, 2))
                losses["scene"] = 0.7 * F.cross_entropy(heads["scene"](features[3].mean(1)).float(), shown["scene"])
                made_losses = change_losses(base.change_extraction, heads["change"], made, shown["real_change"])
                losses |= {f"real {name}": loss for name, loss in made_losses.items()}
        # 3. one step
        improve(optimizer, losses)
        if step % 20 == 0:
            told = {name: round(loss.item(), 4) for name, loss in losses.items()}
            print(f"patches {(time.time() - started) / 60:.1f} min, step {step}/{len(steps)}", told, flush=True)
