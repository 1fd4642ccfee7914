"""What tower, Change Extraction and projector see, kept for further epochs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from ..processing import UniRSProcessor
from ..processing.frame_sampling_unirs import DatedSequence
from .data_sets import DataError
from .feature_cache import FeatureCache, weights_hash
from .mixture import Mixture
from .progress import duration
from .recipe import JointTuning
from .recipe_data import Say
from .rows import Row, Visual, visuals_of
from .run_folder import process_state
from .trainer import UniRSTrainer

KEPT = ("vision_tower", "change_extraction", "multi_modal_projector")  # parts that a cache stands in for


def keep_features(
    recipe: JointTuning, network: Any, processor: UniRSProcessor, mixtures: list[Mixture | None], say: Say
) -> FeatureCache | None:
    """Fills the cache, each process its share of the rows; None without a cache."""
    if recipe.feature_cache is None:
        return None
    state = process_state()
    if network.device != state.device:
        network.to(state.device)
    seer = Seer(network, processor)
    cache = FeatureCache(Path(recipe.feature_cache).expanduser(), seer.origin(), seer.look)
    # A picture that cannot be read is told again, by its row, when it is trained on: there the run stops or skips it.
    on_bad = None if recipe.bad_rows == "stop" else lambda visual, error: None
    for mixture in filter(None, mixtures):
        places = range(state.process_index, len(mixture), state.num_processes)
        cache.fill(
            (visual for row in _rows(mixture, places, recipe) for visual in visuals_of(row["messages"])), on_bad
        )
    state.wait_for_everyone()
    say(f"features: {cache.computed:,} looked at in {duration(cache.seconds)}, kept in {cache.folder}")
    return cache


def _rows(mixture: Mixture, places: range, recipe: JointTuning) -> Iterator[Row]:
    for place in places:
        try:
            yield mixture.row(place)
        except DataError:
            if recipe.bad_rows == "stop":
                raise


def check_kept(network: Any) -> None:
    """An adapter's matrices in the parts that are not run again would stay as they began.

    Raises:
        DataError: The network trains weights in such a part.
    """
    for name, parameter in network.named_parameters():
        part = next((part for part in KEPT if f".{part}." in f".{name}"), None)
        if part and parameter.requires_grad:
            raise DataError(
                f"feature_cache keeps what {part} sees, and the adapter has weights there, which would never be "
                "trained; set feature_cache=null, or name layers of the language model alone in adapter.target_modules"
            )


class Seer:
    """The frozen parts: pictures to projected features."""

    def __init__(self, network: Any, processor: UniRSProcessor):
        whole: Any = network.get_base_model() if isinstance(network, PeftModel) else network
        self.base = whole.model.eval()
        self.processor = processor

    def origin(self) -> str:
        """Names the weights and the processing."""
        parts = [getattr(self.base, part) for part in KEPT]
        settings = {**self.processor.image_processor.to_dict(), "num_frames": self.processor.num_frames}
        return weights_hash(parts) + json.dumps(settings, sort_keys=True, default=str)

    def look(self, visual: Visual) -> torch.Tensor:
        """Projected features of one visual: `(blocks, tokens, dim)`, a block for a picture, a pair or a frame."""
        device = self.base.device
        if visual.kind == "video":
            frames = DatedSequence(visual.sources) if visual.dated else list(visual.sources)
            clip = frames if len(frames) > 1 else frames[0]
            pixels = self.processor.video_processor([clip], num_frames=self.processor.num_frames)
            return self.base.get_video_features(pixels["pixel_values_videos"].to(device))
        pixels = self.processor(images=list(visual.sources))["pixel_values"].to(device)
        if visual.kind == "image":
            return self.base.get_image_features(pixels)
        return self.base.get_change_features(pixels[None])


def speed_up(features: FeatureCache, trainer: UniRSTrainer) -> float | None:
    last = trainer.state.log_history[-1]
    epochs = trainer.state.epoch or 0.0
    return features.speed_up(last["train_runtime"] / epochs) if epochs and "train_runtime" in last else None
