"""A frozen vision tower and nothing else of its model, for before/after pairs."""

from __future__ import annotations

import copy

import torch

from ..modeling_unirs.modeling_unirs import UniRSModel
from ..processing import UniRSImageProcessor
from .feature_cache import weights_hash
from .rows import Visual


class PairTower:
    """The vision tower of a model, in eval mode and without gradients.

    No `nn.Module`, so that a module may hold it without saving, training or counting its weights.
    """

    def __init__(self, model: UniRSModel, image_processor: UniRSImageProcessor, device: torch.device):
        # A shallow copy with the tower as its only part: `encode_pixels` is written once, and the rest of the model
        # is not held.
        self.model = copy.copy(model)
        self.model._modules = {"vision_tower": model.vision_tower.eval().to(device)}
        self.image_processor, self.device = image_processor, device

    @torch.no_grad()
    def encode(self, pixel_values_pairs: torch.Tensor) -> torch.Tensor:
        """`(pairs, 2, 3, H, W)` to features `(pairs, 2, tokens, dim)` in float32."""
        features = self.model.encode_pixels(pixel_values_pairs.flatten(0, 1))  # (2 * pairs, tokens, dim)
        return features.unflatten(0, (-1, 2)).float()

    def pixels(self, pair: Visual) -> torch.Tensor:
        """A pair's pictures as the tower takes them: `(2, 3, H, W)`, before first."""
        return self.image_processor(list(pair.sources), return_tensors="pt")["pixel_values"]

    def look(self, pair: Visual) -> torch.Tensor:
        """Features `(2, tokens, dim)` of one pair, in half precision."""
        return self.encode(self.pixels(pair)[None].to(self.device))[0].half()

    def origin(self) -> str:
        """Names the weights and all that says how they are used."""
        config = self.model.config
        how = (
            config.vision_config.to_json_string(),
            config.vision_feature_layer,
            config.vision_feature_select_strategy,
            self.image_processor.to_json_string(),
        )
        return f"{weights_hash([self.model])} {how}"
