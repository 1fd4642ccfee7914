"""What a frozen vision tower sees in before/after pairs, computed once and kept on disk."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from ..modeling_unirs.modeling_unirs import UniRSModel
from ..processing import UniRSImageProcessor

FORMAT = b"unirs pair features 1"  # count up when files of before may no longer be used


class Pairs(Protocol):
    """Before/after pairs with their captions; pictures are paths, PIL images or bytes."""

    def __len__(self) -> int: ...

    def pair(self, index: int) -> tuple[Any, Any]: ...

    def captions(self, index: int) -> list[str]: ...


class PairPixels:
    """Pairs as the tower takes them: `(2, 3, H, W)`, before first."""

    def __init__(self, data: Pairs, image_processor: UniRSImageProcessor):
        self.data, self.image_processor = data, image_processor

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.image_processor(list(self.data.pair(index)), return_tensors="pt")["pixel_values"]


class PairTower:
    """The vision tower of a model and nothing else of it, without gradients.

    No `nn.Module`, so that a module may hold it without saving, training or counting its weights.
    """

    def __init__(self, model: UniRSModel, device: torch.device):
        # A shallow copy with the tower as its only part: `encode_pixels` is written once, and the rest of the model
        # is not held.
        self.model = copy.copy(model)
        self.model._modules = {"vision_tower": model.vision_tower.eval().to(device)}

    @torch.no_grad()
    def encode(self, pixel_values_pairs: torch.Tensor) -> torch.Tensor:
        """`(pairs, 2, 3, H, W)` to features `(pairs, 2, tokens, dim)` in float32."""
        features = self.model.encode_pixels(pixel_values_pairs.flatten(0, 1))  # (2 * pairs, tokens, dim)
        return features.unflatten(0, (-1, 2)).float()

    def digest(self) -> bytes:
        """A number of the weights and of all that says how they are used."""
        config = self.model.config
        how = (
            config.vision_config.to_json_string(),
            config.vision_feature_layer,
            config.vision_feature_select_strategy,
        )
        digest = hashlib.blake2b(repr(how).encode())
        for name, weight in self.model.state_dict().items():
            digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
            digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.digest()


class PairFeatures:
    """Features in half precision, a file for each pair, named by the tower, the processor and both pictures' bytes.

    So other weights, settings or pictures never hit, equal pairs are kept once, several data sets and runs may share
    a folder, and a run that was killed goes on where it stood. A pair of SigLIP at 384 pixels takes 3.4 MB.
    """

    def __init__(self, folder: Path, tower: PairTower, image_processor: UniRSImageProcessor):
        self.folder, self.tower, self.image_processor = folder, tower, image_processor
        self.base = hashlib.blake2b(FORMAT + tower.digest() + image_processor.to_json_string().encode()).digest()

    def files(self, data: Pairs) -> list[Path]:
        """Where the features of each pair are, or will be."""
        return [self.file(*data.pair(index)) for index in range(len(data))]

    def file(self, before: Any, after: Any) -> Path:
        name = hashlib.blake2b(self.base + picture_digest(before) + picture_digest(after), digest_size=20).hexdigest()
        return self.folder / name[:2] / f"{name}.npy"

    def fill(
        self,
        data: Pairs,
        files: Sequence[Path],
        device: torch.device,
        batch_size: int,
        workers: int,
        share: tuple[int, int] = (0, 1),
    ) -> int:
        """Computes what is missing of `files`, those of all pairs of `data`; tells how many.

        Args:
            share: Number of this process and of all: each computes its own pairs.
        """
        missing = [index for index in range(share[0], len(files), share[1]) if not files[index].exists()]
        pixels = PairPixels(data, self.image_processor)
        loader = DataLoader(pixels, batch_size, sampler=missing, num_workers=workers)  # type: ignore[arg-type]
        done = 0
        for batch in loader:
            for features in self.tower.encode(batch.to(device)):  # (2, tokens, dim)
                write(files[missing[done]], features.half().cpu().numpy())
                done += 1
        return done


def read(file: Path) -> torch.Tensor:
    """Features `(2, tokens, dim)` in float32."""
    return torch.from_numpy(np.load(file)).float()


def write(file: Path, features: np.ndarray) -> None:
    """In one move: a file that is there is whole."""
    if not np.isfinite(features).all():
        raise ValueError("the tower's features leave the range of half precision; train without a cache")
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(f".{os.getpid()}")
    with partial.open("wb") as stream:
        np.save(stream, features)
    partial.replace(file)


def picture_digest(picture: Any) -> bytes:
    if isinstance(picture, Image.Image):
        content = f"{picture.mode} {picture.size} ".encode() + picture.tobytes()
    else:
        content = picture if isinstance(picture, bytes) else Path(picture).read_bytes()
    return hashlib.blake2b(content).digest()
