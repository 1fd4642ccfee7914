"""Benchmarks by name: test parts of the data sets as samples that a model is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ..processing.prompts_unirs import DEFAULT_INSTRUCTIONS, ERA_CLASSES
from ..trainers.data_sets import CRSVQA, ERA, RSVQAHR, RSVQALR, DataError, LevirCC
from ..trainers.rows import image_items, video_item
from .geochat_bench import geochat_questions, geochat_scenes
from .own_benchmark import own_benchmark
from .samples import Benchmark, Sample, Scoring, asked

# GeoChat's words behind every question (its docs/Evaluation.md); without them a general model answers in sentences.
SHORT_ANSWER = "\nAnswer the question using a single word or phrase."
# Types of questions that the paper counts; numbers and areas it leaves out.
PAPER_TYPES = {
    "rsvqa-lr": ("presence", "comp", "rural_urban"),
    "lrben": ("presence", "comp", "rural_urban"),
    "rsvqa-hr": ("presence", "comp"),
    "hrben": ("presence", "comp"),
}


def load_benchmark(
    name: str,
    data: str | Path,
    split: str | None = None,
    limit: int | None = None,
    metric: Scoring | None = None,
    all_types: bool = False,
) -> Benchmark:
    """A benchmark from its files. Pictures are not looked for before a model is asked.

    Args:
        name: One of `BENCHMARKS`.
        data: Folder of the data set, in the form that its authors give it; of `own` the file.
        split: Default: the one that the paper reports ("test"; "test2" of RSVQA-HR, which is Philadelphia).
        limit: Ask so many samples at most, of each kind in proportion and evenly spread.
        metric: How `own` data are scored: "vqa", "captions" or "classes".
        all_types: Keep RSVQA's questions for numbers and areas, which the paper leaves out.

    Raises:
        DataError: The data cannot be read; says which file and what to do.
    """
    if name not in BENCHMARKS:
        raise DataError(f"the benchmarks are {', '.join(BENCHMARKS)}, not {name!r}")
    if name == "own":
        benchmark = own_benchmark(Path(data).expanduser(), split, metric)
    elif metric is not None:
        raise DataError(f"{name} has a metric of its own; only own data have it named")
    else:
        read, default = READERS[name]
        benchmark = read(Path(data).expanduser(), split or default)
    benchmark = _with_ids_of_their_own(benchmark)
    if name in PAPER_TYPES and not all_types:
        benchmark = _without_other_types(benchmark, PAPER_TYPES[name])
    if not benchmark.samples:
        raise DataError(f"{data}: has no samples for {name}, split {benchmark.split}; check the path")
    return benchmark if limit is None else _spread(benchmark, limit)


def _rsvqa(name: str, kind: type[RSVQALR] | type[RSVQAHR], path: Path, split: str) -> Benchmark:
    data = kind(path, split)
    samples = []
    for record in data.records:
        image = image_items([str(data.folder / f"{record['img_id']}.tif")])
        messages = asked(image, record["question"] + SHORT_ANSWER)
        samples.append(Sample(str(record["id"]), messages, (str(record["answer"]),), record["type"]))
    return Benchmark(name, split, "vqa", samples, files=data.files)


def _crsvqa(path: Path, split: str) -> Benchmark:
    data = CRSVQA(path, split)
    samples = [
        Sample(
            f"{image}-{number}",
            asked(image_items([str(data.images / f"{image}.png")]), words + SHORT_ANSWER),
            (answer,),
            "question",
        )
        for number, (image, words, answer) in enumerate(data.questions)
    ]
    return Benchmark("crsvqa", split, "vqa", samples, files=data.files)


def _levir_cc(path: Path, split: str) -> Benchmark:
    data = LevirCC(path, split)
    samples = []
    for index in range(len(data)):
        before, after = data.pair(index)
        messages = asked(image_items([str(before), str(after)]), DEFAULT_INSTRUCTIONS["pair"])
        kind = "change" if data.changed(index) else "no_change"
        samples.append(Sample(before.stem, messages, tuple(data.captions(index)), kind))
    return Benchmark("levir-cc", split, "captions", samples, files=data.files)


def _era(path: Path, split: str) -> Benchmark:
    if path.is_file():
        raise DataError(f"{path}: is a file; give the folder that holds Test/")
    strangers: list[Path] = []
    data = ERA(path, split, strangers)
    samples = [
        Sample(Path(file).stem, asked(video_item(file), DEFAULT_INSTRUCTIONS["video"]), (label,), label)
        for file, label in data.clips
    ]
    problems = [f"{folder}: is none of ERA's 25 classes; its clips are not asked" for folder in strangers]
    return Benchmark("era", split, "classes", samples, classes=ERA_CLASSES, problems=problems)


# Reader and default split of each; a reader takes the path and the split.
READERS: dict[str, tuple[Callable[[Path, str], Benchmark], str]] = {
    "rsvqa-lr": (lambda path, split: _rsvqa("rsvqa-lr", RSVQALR, path, split), "test"),
    "rsvqa-hr": (lambda path, split: _rsvqa("rsvqa-hr", RSVQAHR, path, split), "test2"),
    "crsvqa": (_crsvqa, "test"),
    "levir-cc": (_levir_cc, "test"),
    "era": (_era, "test"),
    "lrben": (lambda path, split: geochat_questions("lrben", path, split), "test"),
    "hrben": (lambda path, split: geochat_questions("hrben", path, split), "test"),
    "aid": (lambda path, split: geochat_scenes("aid", path, split), "test"),
    "ucmerced": (lambda path, split: geochat_scenes("ucmerced", path, split), "test"),
}
BENCHMARKS = (*READERS, "own")


def _with_ids_of_their_own(benchmark: Benchmark) -> Benchmark:
    """A second sample of the same id is kept, as `id#2`."""
    used: set[str] = set()
    again: Counter[str] = Counter()
    samples = []
    for sample in benchmark.samples:
        name = sample.id
        while name in used:
            again[sample.id] += 1
            name = f"{sample.id}#{again[sample.id] + 1}"
        used.add(name)
        samples.append(replace(sample, id=name))
    if again:
        first = next(iter(again))
        benchmark.problems.append(f"{again.total()} samples have the id of another: {first} first, now {first}#2")
    return replace(benchmark, samples=samples)


def _without_other_types(benchmark: Benchmark, types: Sequence[str]) -> Benchmark:
    samples = [sample for sample in benchmark.samples if sample.kind in types]
    left_out = Counter(sample.kind for sample in benchmark.samples if sample.kind not in types)
    said = ", ".join(f"{count} {kind}" for kind, count in sorted(left_out.items()))
    return replace(benchmark, samples=samples, subset=f"without {said} questions, as in the paper" if said else "")


def _spread(benchmark: Benchmark, limit: int) -> Benchmark:
    """Evenly over the samples sorted by kind: a plain stride could hit one type of question alone."""
    if limit < 1:
        raise DataError(f"the limit is {limit}; give 1 or more")
    count = len(benchmark.samples)
    if limit >= count:
        return benchmark
    order = sorted(range(count), key=lambda place: benchmark.samples[place].kind)
    chosen = sorted(order[number * count // limit] for number in range(limit))
    said = f"{limit} of {count} samples, evenly spread over kinds and places"
    subset = f"{benchmark.subset}; {said}" if benchmark.subset else said
    return replace(benchmark, samples=[benchmark.samples[place] for place in chosen], subset=subset)
