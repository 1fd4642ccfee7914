"""What the model saw in the last pictures: whoever asks about one again waits for words alone."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch

FEATURES = {  # of pixels by name
    "pixel_values": "image_features",
    "pixel_values_pairs": "change_features",
    "pixel_values_videos": "video_features",
}
SEEN_BYTES = 256 * 2**20  # of features, kept of the last pictures
Digests = dict[str, list[bytes]]
Units = Mapping[str, Sequence[torch.Tensor] | torch.Tensor]  # pictures, pairs and frames by the name of their pixels


def digests(inputs: Mapping[str, torch.Tensor]) -> Digests:
    """A name for each picture, pair and frame, by its pixels. Those lie on the CPU."""
    return {name: [_digest(one) for one in inputs[name]] for name in FEATURES if name in inputs}


def _digest(pixels: torch.Tensor) -> bytes:
    found = hashlib.sha256(f"{tuple(pixels.shape)} {pixels.dtype}".encode())
    found.update(pixels.contiguous().view(torch.uint8).numpy().tobytes())
    return found.digest()


class SeenPictures:
    """Features of pictures and pairs, on the model's device; the longest unused are forgotten first.

    Args:
        core: The [`UniRSModel`] that looks.
        limit: Bytes of features to be kept.
    """

    def __init__(self, core: Any, limit: int):
        self.core, self.limit, self.bytes = core, limit, 0
        self._kept: OrderedDict[bytes, torch.Tensor] = OrderedDict()

    def features(self, units: Units, named: Digests) -> dict[str, torch.Tensor]:
        """The model's inputs in place of pixels, in the same order.

        Pictures and frames that are new are looked at together, each once.
        """
        found: dict[bytes, torch.Tensor] = {}
        self._look(found, ("pixel_values_pairs",), units, named, self.core.get_change_features)
        self._look(found, ("pixel_values", "pixel_values_videos"), units, named, self.core.get_image_features)
        features = {FEATURES[name]: torch.stack([found[one] for one in named[name]]) for name in named}
        for one, value in found.items():
            self._keep(one, value)
        return features

    def _look(
        self,
        found: dict[bytes, torch.Tensor],
        names: Iterable[str],
        units: Units,
        named: Digests,
        look: Callable[[torch.Tensor], torch.Tensor],
    ) -> None:
        new: dict[bytes, torch.Tensor] = {}
        for name in names:
            for one, unit in zip(named.get(name, ()), units.get(name, ()), strict=True):
                if one in self._kept:
                    found[one] = self._kept[one]
                else:
                    new[one] = unit
        if new:
            pixels = torch.stack([*new.values()]).to(self.core.device, self.core.dtype)
            # Copies: a part of the batch would keep all of it.
            found |= {one: value.clone() for one, value in zip(new, look(pixels), strict=True)}

    def _keep(self, one: bytes, value: torch.Tensor) -> None:
        if one not in self._kept:
            self.bytes += value.nbytes
        self._kept[one] = value
        self._kept.move_to_end(one)
        while self.bytes > self.limit:
            _, forgotten = self._kept.popitem(last=False)
            self.bytes -= forgotten.nbytes
