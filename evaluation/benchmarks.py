"""The benchmarks by name."""

from __future__ import annotations

from pathlib import Path

from ..processing.prompts_unirs import DEFAULT_INSTRUCTIONS
from ..trainers.data_sets import DataError, LevirCC
from ..trainers.rows import conversation, image_items
from .samples import Benchmark, Sample


def load_benchmark(
    name: str, data: Path, split: str | None = None, limit: int | None = None, metric: str | None = None
) -> Benchmark:
    """A stand-in for the readers to come: LEVIR-CC's captions alone."""
    if name != "levir-cc":
        raise DataError(f"{name}: is no benchmark; there is levir-cc")
    split = split or "test"
    pairs = LevirCC(data, split)
    samples = []
    for index in range(len(pairs))[:limit]:
        before, after = pairs.pair(index)
        messages = conversation(image_items([str(before), str(after)]), [(DEFAULT_INSTRUCTIONS["pair"], "")])[:1]
        kind = "change" if pairs.changed(index) else "no_change"
        samples.append(Sample(before.stem, messages, tuple(pairs.captions(index)), kind))
    return Benchmark(name, split, "captions", samples, files=(Path(data) / "LevirCCcaptions.json",))
