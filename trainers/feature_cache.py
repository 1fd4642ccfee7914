"""Features of pictures, kept on disk: frozen parts see each picture once, not once an epoch."""

from __future__ import annotations

import hashlib
import json
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

from ..modeling_unirs import UniRSForConditionalGeneration
from ..processing import UniRSProcessor
from .collator import Kept, Messages
from .data_sets import DataError
from .rows import Row, Visual, visuals_of

FROZEN = ("vision_tower", "change_extraction", "multi_modal_projector")


class FeatureCache:
    """Projected features by the hash of everything they depend on: pictures, their processing, frozen weights.

    Args:
        folder: Is made; may be shared by runs, also of other models.
        model: Its tower, Change Extraction and projector must not be trained while the cache is used.
    """

    def __init__(self, folder: Path, model: UniRSForConditionalGeneration, processor: UniRSProcessor):
        self.folder, self.model, self.processor = folder, model, processor
        self.computed, self.shown, self.seconds = 0, 0, 0.0  # visuals looked at, visuals of an epoch, time of looking
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{folder}: cannot be made for features ({error.strerror})") from error
        settings = {**processor.image_processor.to_dict(), "num_frames": processor.num_frames}
        self.origin = weights_hash(model) + json.dumps(settings, sort_keys=True, default=str)

    def __call__(self, messages: Messages) -> Kept:
        """Kept features of a conversation, `(blocks, tokens, dim)` for each visual."""
        kept = []
        for visual in visuals_of(messages):
            file = self.file(visual)
            try:
                kept.append((visual, load_file(file)["features"]))
            except (OSError, SafetensorError) as error:
                raise DataError(
                    f"{file}: kept features cannot be read ({error}); remove the file and resume"
                ) from error
        return kept

    def file(self, visual: Visual) -> Path:
        digest = hashlib.sha256(f"{self.origin}{visual.kind}".encode())
        for source in visual.sources:
            digest.update(identity(source) + b"\0")
        name = digest.hexdigest()
        return self.folder / name[:2] / f"{name}.safetensors"

    @torch.no_grad()
    def fill(
        self,
        rows: Iterable[Row],
        on_bad: Callable[[Row, ValueError], None],
        progress: Callable[[int], None] = lambda done: None,
    ) -> None:
        """Computes what is missing.

        Args:
            on_bad: Is told of a row whose picture cannot be read; may raise.
        """
        self.model.eval()
        for done, row in enumerate(rows, 1):
            for visual in visuals_of(row["messages"]):
                self.shown += 1
                file = self.file(visual)
                if file.exists():
                    continue
                started = time.perf_counter()
                try:
                    features = self.look(visual)
                except ValueError as error:
                    on_bad(row, error)
                    break
                file.parent.mkdir(exist_ok=True)
                partial = file.with_suffix(f".{os.getpid()}")
                save_file({"features": features.cpu().contiguous()}, partial)
                os.replace(partial, file)
                self.computed += 1
                self.seconds += time.perf_counter() - started
            progress(done)

    def speed_up(self, epoch_seconds: float) -> float | None:
        """How many times longer an epoch would take if every visual were looked at; None if none was in this run."""
        if not self.computed:
            return None
        return 1 + self.seconds / self.computed * self.shown / epoch_seconds

    def look(self, visual: Visual) -> torch.Tensor:
        """Projected features of one visual: `(blocks, tokens, dim)`."""
        if visual.kind == "video":
            clip = visual.sources[0] if len(visual.sources) == 1 else list(visual.sources)
            pixels = self.processor.video_processor([clip], num_frames=self.processor.num_frames)
            return self.model.get_video_features(pixels["pixel_values_videos"].to(self.model.device))
        pixels = self.processor(images=list(visual.sources))["pixel_values"].to(self.model.device)
        if visual.kind == "image":
            return self.model.get_image_features(pixels)
        return self.model.get_change_features(pixels[None])


def weights_hash(model: UniRSForConditionalGeneration) -> str:
    digest = hashlib.sha256()
    for part in FROZEN:
        for name, tensor in sorted(getattr(model.model, part).state_dict().items()):
            digest.update(f"{part}.{name}{tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def identity(source: Any) -> bytes:
    """What tells a picture from another: a file's path, size and time, or the content itself."""
    if isinstance(source, (str, os.PathLike)) and os.path.exists(source):
        stat = os.stat(source)
        return f"{os.path.abspath(source)}{stat.st_size}{stat.st_mtime_ns}".encode()
    if isinstance(source, Image.Image):
        return hashlib.sha256(f"{source.mode}{source.size}".encode() + source.tobytes()).digest()
    if isinstance(source, (bytes, bytearray)):
        return hashlib.sha256(source).digest()
    if isinstance(source, np.ndarray):
        return hashlib.sha256(f"{source.shape}{source.dtype}".encode() + source.tobytes()).digest()
    return hashlib.sha256(str(source).encode()).digest()
