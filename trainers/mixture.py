"""Several data sets as one, each with a weight, in an order that depends on the seed and the epoch alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from .data_sets import DataError, DataSet
from .rows import Row

MEGABATCH = 50  # batches that are sorted by length together: enough to pair likes, few enough to stay random


class Mixture:
    """Data sets with whole-number weights: a data set with weight 5 is shown five times an epoch (paper: x1, x5, x10).

    A data set with several answers for a sample gives another one each time. Rows are read when they are asked for.

    Args:
        parts: Data sets with their weights.
    """

    def __init__(self, parts: Sequence[tuple[DataSet, int]]):
        for data, repeat in parts:
            if not len(data):
                raise DataError(f"{data.name}: holds no sample")
            if repeat < 1:
                raise DataError(f"{data.name}: repeat is {repeat}; give 1 or more, or leave the data set out")
        if not parts:
            raise DataError("the mixture is empty; name at least one data set")
        self.parts = list(parts)
        # First place of each repetition of each data set: place -> (data set, repetition, index)
        blocks = [(data, turn) for data, repeat in parts for turn in range(repeat)]
        self.blocks = blocks
        self.starts = np.cumsum([0, *(len(data) for data, _ in blocks)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def row(self, place: int) -> Row:
        """The sample at a place from 0 to `len(self) - 1`."""
        block = int(np.searchsorted(self.starts, place, side="right")) - 1
        data, turn = self.blocks[block]
        return data.row(place - int(self.starts[block]), turn)

    @property
    def sets(self) -> list[DataSet]:
        return [data for data, _ in self.parts]

    def describe(self) -> list[tuple[str, int, int]]:
        """Name, samples and weight of each data set."""
        return [(data.name, len(data), repeat) for data, repeat in self.parts]


def lengths_of(mixture: Mixture, length: Callable[[Row], int]) -> list[int]:
    return [length(mixture.row(place)) for place in range(len(mixture))]


class EpochSampler(Sampler[int]):
    """A new order for each epoch, from (seed, epoch) alone: so a resumed run goes on exactly where it was.

    transformers' own samplers draw from the global generator, whose state at an epoch's start a resumed run does not
    know. `epoch` is set by the trainer; a method `set_epoch` would be called by accelerate with its own count, which
    starts again at 0 when a run is resumed.

    Args:
        size: Samples.
        batch: Samples of one batch over all processes: so many of like length stay together.
        lengths: Sort megabatches by these, longest first; so a batch holds samples of like length.
    """

    def __init__(self, size: int, batch: int, seed: int, lengths: Sequence[int] | None = None):
        self.size, self.batch, self.seed = size, batch, seed
        self.lengths = None if lengths is None else np.asarray(lengths)
        self.epoch = 0

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self.seed, self.epoch))
        order = rng.permutation(self.size)
        if self.lengths is not None:
            order = self._grouped(order, rng)
        return iter(order.tolist())

    def _grouped(self, order: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Within each megabatch by length; then whole batches are shuffled, so that lengths do not run in waves."""
        lengths = self.lengths
        assert lengths is not None
        mega = self.batch * MEGABATCH
        parts = [order[start : start + mega] for start in range(0, len(order), mega)]
        order = np.concatenate([part[np.argsort(-lengths[part], kind="stable")] for part in parts])
        whole = len(order) // self.batch * self.batch
        batches = order[:whole].reshape(-1, self.batch)  # (batches, samples)
        return np.concatenate([batches[rng.permutation(len(batches))].ravel(), order[whole:]])
