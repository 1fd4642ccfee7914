"""Pairs with captions as stage 1 reads them: in a fixed order, as pixels or as kept features."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset, Sampler

from .captioner import PAD, Vocabulary
from .data_sets import DataError, DataSet
from .feature_cache import FeatureCache
from .pair_tower import PairTower
from .progress import duration
from .rows import Visual

Say = Callable[[str], None]
Sight = Callable[[int], dict[str, torch.Tensor]]


class JoinedPairs:
    """Pairs of several data sets as one.

    Raises:
        DataError: A data set has no before/after pairs with captions.
    """

    def __init__(self, sets: Sequence[DataSet]):
        for data in sets:
            kind = getattr(data, "kind", "pair")
            if not hasattr(data, "captions") or kind != "pair":
                raise DataError(f"{data.name}: has no before/after pairs with captions, which stage 1 learns from")
        self.sets: list[Any] = list(sets)
        self.starts = np.cumsum([0, *(len(data) for data in sets)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def _place(self, index: int) -> tuple[Any, int]:
        number = int(np.searchsorted(self.starts, index, side="right")) - 1
        return self.sets[number], index - int(self.starts[number])

    def visual(self, index: int) -> Visual:
        data, place = self._place(index)
        return Visual("change", tuple(data.pair(place)))

    def captions(self, index: int) -> list[str]:
        data, place = self._place(index)
        return data.captions(place)


class EpochOrder(Sampler[tuple[int, int]]):
    """`(epoch, index)` in an order that (seed, epoch) alone decide.

    A last batch of one pair is left out, another pair in each epoch: BatchNorm would normalise it by itself.
    """

    def __init__(self, count: int, batch_size: int, seed: int):
        self.count, self.seed, self.epoch = count, seed, 0
        self.length = count - (count % batch_size == 1)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.count)
        return iter([(self.epoch, int(index)) for index in order[: self.length]])


class CaptionedPairs(Dataset):
    """By `(epoch, index)`: a pair as the tower is given it, or sees it, and one of its captions."""

    def __init__(self, see: Sight, captions: list[list[str]], vocabulary: Vocabulary, longest: int, seed: int):
        self.see, self.captions, self.vocabulary = see, captions, vocabulary
        self.longest, self.seed = longest, seed

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, place: tuple[int, int]) -> dict[str, torch.Tensor]:
        epoch, index = place
        captions = self.captions[index]
        chosen = captions[np.random.default_rng((self.seed, epoch, index)).integers(len(captions))]
        return {"words": torch.tensor(self.vocabulary.encode(chosen, self.longest)), **self.see(index)}


class SeenPairs(Dataset):
    """By index: a pair as the tower is given it, or sees it, with its number."""

    def __init__(self, see: Sight, count: int):
        self.see, self.count = see, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"pair": torch.tensor(index), **self.see(index)}


def collate(samples: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """`words (pairs, length)`, padded, or `pair (pairs,)`; and `features (pairs, 2, tokens, dim)` or
    `pixel_values_pairs (pairs, 2, 3, H, W)`."""
    parts = {name: [sample[name] for sample in samples] for name in samples[0]}
    return {
        name: pad_sequence(part, batch_first=True, padding_value=PAD) if name == "words" else torch.stack(part)
        for name, part in parts.items()
    }


def sights(
    tower: PairTower, sets: Sequence[JoinedPairs], kept: Path | None, state: PartialState, say: Say
) -> list[Sight]:
    """For each data set, what is read for a pair: pixels, or features kept in a folder, which is filled first."""
    if kept is None:
        return [PairPixels(tower, data) for data in sets]
    cache = FeatureCache(kept, tower.origin(), tower.look)
    for data in sets:
        cache.fill(data.visual(index) for index in range(state.process_index, len(data), state.num_processes))
    say(f"features: {cache.computed:,} pairs looked at in {duration(cache.seconds)}, kept in {kept}")
    state.wait_for_everyone()
    return [PairFeatures(cache, data) for data in sets]


class PairPixels:
    def __init__(self, tower: PairTower, data: JoinedPairs):
        self.tower, self.data = tower, data

    def __call__(self, index: int) -> dict[str, torch.Tensor]:
        return {"pixel_values_pairs": self.tower.pixels(self.data.visual(index))}


class PairFeatures:
    def __init__(self, cache: FeatureCache, data: JoinedPairs):
        self.cache, self.data = cache, data

    def __call__(self, index: int) -> dict[str, torch.Tensor]:
        return {"features": self.cache.read(self.data.visual(index)).float()}
