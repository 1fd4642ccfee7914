"""What the model saw in the last pictures: whoever asks about one again waits for words alone."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import torch

FEATURES = {  # of pixels by name
    "pixel_values": "image_features",
    "pixel_values_pairs": "change_features",
    "pixel_values_videos": "video_features",
}
Pixels = dict[str, torch.Tensor]
Digests = dict[str, list[bytes]]


def digests(inputs: Pixels) -> Digests:
    """A name for each picture, pair and frame of one request, by its pixels."""
    return {name: [_digest(one) for one in inputs[name]] for name in FEATURES if name in inputs}


def _digest(pixels: torch.Tensor) -> bytes:
    kind = f"{tuple(pixels.shape)} {pixels.dtype}".encode()
    return hashlib.sha256(kind + pixels.contiguous().view(torch.uint8).numpy().tobytes()).digest()


class SeenPictures:
    """Features of pictures and pairs, the longest unused forgotten first.

    Args:
        core: The [`UniRSModel`] that looks.
        limit: Bytes of features to be kept.
    """

    def __init__(self, core: Any, limit: int):
        self.core, self.limit, self.bytes = core, limit, 0
        self._kept: OrderedDict[bytes, torch.Tensor] = OrderedDict()

    def features(self, pixels: Pixels, named: Digests) -> Pixels:
        """The model's inputs in place of `pixels` `(units, ...)` by name, in the same order.

        Pictures and frames that are new are looked at together, each once.
        """
        found: dict[bytes, torch.Tensor] = {}
        self._look(found, ("pixel_values_pairs",), pixels, named, self.core.get_change_features)
        self._look(found, ("pixel_values", "pixel_values_videos"), pixels, named, self.core.get_image_features)
        features = {FEATURES[name]: torch.stack([found[one] for one in named[name]]) for name in named}
        for one, value in found.items():
            self._keep(one, value)
        return features

    def _look(
        self, found: dict[bytes, torch.Tensor], names: Iterable[str], pixels: Pixels, named: Digests, look: Any
    ) -> None:
        new: dict[bytes, torch.Tensor] = {}
        for name in names:
            for one, unit in zip(named.get(name, ()), pixels.get(name, ()), strict=True):
                if one in self._kept:
                    found[one] = self._kept[one]
                else:
                    new[one] = unit
        if new:
            # Copies: a part of the batch would keep all of it.
            found |= {one: value.clone() for one, value in zip(new, look(torch.stack([*new.values()])), strict=True)}

    def _keep(self, one: bytes, value: torch.Tensor) -> None:
        if one not in self._kept:
            self.bytes += value.nbytes
        self._kept[one] = value
        self._kept.move_to_end(one)
        while self.bytes > self.limit:
            _, forgotten = self._kept.popitem(last=False)
            self.bytes -= forgotten.nbytes
