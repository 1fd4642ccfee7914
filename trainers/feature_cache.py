"""Features of pictures, kept on disk: frozen parts see each picture once, not once an epoch."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from .data_sets import DataError
from .rows import Visual


class FeatureCache:
    """Features by the hash of everything they depend on: pictures, their processing, frozen weights.

    A file is there whole or not at all, so a stopped run goes on where it was, and runs may share a folder.

    Args:
        folder: Is made.
        origin: Names weights and settings; features of another origin are never taken.
        look: Computes the features of a visual.
    """

    def __init__(self, folder: Path, origin: str, look: Callable[[Visual], torch.Tensor]):
        self.folder, self.origin, self.look = folder, origin, look
        self.computed, self.shown, self.seconds = 0, 0, 0.0  # visuals looked at, visuals of an epoch, time of looking
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{folder}: cannot be made for features ({error.strerror})") from error

    def file(self, visual: Visual) -> Path:
        kind = f"dated {visual.kind}" if visual.dated else visual.kind
        digest = hashlib.sha256(f"{self.origin}{kind}".encode())
        for source in visual.sources:
            digest.update(identity(source) + b"\0")
        name = digest.hexdigest()
        return self.folder / name[:2] / f"{name}.safetensors"

    def read(self, visual: Visual) -> torch.Tensor:
        """What `look` gave."""
        file = self.file(visual)
        try:
            return load_file(file)["features"]
        except (OSError, SafetensorError) as error:
            raise DataError(f"{file}: kept features cannot be read ({error}); remove the file and resume") from error

    @torch.no_grad()
    def fill(self, visuals: Iterable[Visual], on_bad: Callable[[Visual, ValueError], None] | None = None) -> None:
        """Computes what is missing.

        Args:
            on_bad: Is told of a picture that cannot be read; without it the run stops there.
        """
        for visual in visuals:
            self.shown += 1
            file = self.file(visual)
            if file.exists():
                continue
            started = time.perf_counter()
            try:
                features = self.look(visual)
            except ValueError as error:
                if on_bad is None:
                    raise DataError(str(error)) from error
                on_bad(visual, error)
                continue
            file.parent.mkdir(exist_ok=True)
            partial = file.with_suffix(f".{os.getpid()}")
            save_file({"features": features.cpu().contiguous()}, partial)
            os.replace(partial, file)
            self.computed += 1
            self.seconds += time.perf_counter() - started

    def speed_up(self, epoch_seconds: float) -> float | None:
        """How many times longer an epoch would take if every visual were looked at; None if none was in this run."""
        if not self.computed:
            return None
        return 1 + self.seconds / self.computed * self.shown / epoch_seconds


def weights_hash(modules: Iterable[nn.Module]) -> str:
    digest = hashlib.sha256()
    for module in modules:
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def identity(source: Any) -> bytes:
    """What tells a picture from another: a file's path, size and time, or the content itself."""
    if isinstance(source, (str, os.PathLike)) and os.path.exists(source):
        stat = os.stat(source)
        return os.fsencode(os.path.abspath(source)) + f" {stat.st_size} {stat.st_mtime_ns}".encode()
    if isinstance(source, Image.Image):
        return hashlib.sha256(f"{source.mode}{source.size}".encode() + source.tobytes()).digest()
    if isinstance(source, (bytes, bytearray)):
        return hashlib.sha256(source).digest()
    if isinstance(source, np.ndarray):
        return hashlib.sha256(f"{source.shape}{source.dtype}".encode() + source.tobytes()).digest()
    return hashlib.sha256(str(source).encode(errors="surrogatepass")).digest()  # a name need not be UTF-8
