"""Asks a model every question of a benchmark: batched, greedy, resumable, on one process or several."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import set_seed

from ..trainers.collator import text_and_blocks, without_clues
from ..trainers.data_sets import DataError
from ..trainers.rows import Row, items_of, task_of
from .captions import normalise
from .model_hash import file_hash
from .models import Model, Prepared, Said
from .predictions_file import PredictionsFile
from .questions import normalise_answer
from .samples import Benchmark, Prediction, Sample, Scoring
from .visuals import Messages, blank, named_files

Progress = Callable[[int, int], None]
VERSIONS = ("unirs", "torch", "transformers")
# One process may have the slow rows: torch's own patience is ten minutes.
PATIENCE = timedelta(days=7)


def evaluation_process() -> PartialState:
    """This process among those of `accelerate launch` or torchrun; call it before anything else makes a state."""
    return PartialState(cpu=not torch.accelerator.is_available(), timeout=PATIENCE)


def run(
    benchmark: Benchmark,
    model: Model,
    predictions: str | Path,
    batch_size: int = 8,
    max_new_tokens: int = 64,
    blind: bool = False,
    seed: int = 0,
    progress: Progress = lambda done, total: None,
) -> list[Prediction]:
    """Answers of a model to all samples, written to a file batch by batch. A killed run goes on where it was.

    A sample whose picture cannot be read has an empty answer and an `error`; such rows are asked again when the
    run is repeated. What is missing is also told in `benchmark.problems`. Beside the file stands
    `<name>.settings.json` with all that is needed to repeat the run; a file of another run is not touched.

    Args:
        predictions: The JSONL file.
        batch_size: Samples asked at a time; halved when an accelerator's memory does not hold so many.
        blind: Grey pictures of the same number and size in place of the true ones: what the words alone give away.
        progress: Is told rows done and rows in all, of this process.

    Returns:
        A row for each sample, in the benchmark's order; in every process all of them.

    Raises:
        DataError: The file is of another run, all pictures are missing, or not one row could be asked.
    """
    state = evaluation_process()
    set_seed(seed)
    if not blind:
        _tell_missing(benchmark)
    settings: dict[str, Any] = {}
    if state.is_main_process:  # hashing gigabytes once is enough
        settings = describe(benchmark, model, batch_size, max_new_tokens, blind, seed, state.num_processes)
    file = PredictionsFile(Path(predictions), state)
    done = {row["id"] for row in file.open(settings)}
    rest = sorted((one for one in benchmark.samples if one.id not in done), key=lambda one: _shape(one, model))
    mine = rest[state.process_index :: state.num_processes]
    asker = _Asker(model, batch_size, max_new_tokens, blind, benchmark.scoring)
    finished, total = 0, len(mine)
    progress(finished, total)
    for rows in asker.answers(mine):
        file.append(rows)
        finished += len(rows)
        progress(finished, total)
    found = file.close([sample.id for sample in benchmark.samples])
    if all(row.get("error") for row in found):
        raise DataError(f"{predictions}: not one of {len(found)} rows could be asked; the first: {found[0]['error']}")
    return found


def describe(
    benchmark: Benchmark,
    model: Model,
    batch_size: int,
    max_new_tokens: int,
    blind: bool,
    seed: int,
    processes: int,
) -> dict[str, Any]:
    """All that is needed to repeat a run, as it stands in `predictions.settings.json`."""
    return {
        "benchmark": benchmark.name,
        "split": benchmark.split,
        "subset": benchmark.subset,
        "samples": len(benchmark.samples),
        "samples_sha256": samples_hash(benchmark),
        "data_sha256": files_hash(benchmark),
        **model.description(),
        "max_new_tokens": max_new_tokens,
        "decoding": "greedy",
        "blind": blind,
        "seed": seed,
        "batch_size": batch_size,
        "processes": processes,
        "versions": {name: version(name) for name in VERSIONS},
    }


def samples_hash(benchmark: Benchmark) -> str:
    """SHA-256 over ids, words (clues too), references and kinds, but not over places of files."""
    digest = hashlib.sha256()
    for sample in benchmark.samples:
        known = [sample.id, _words(sample.messages), list(sample.references), sample.kind]
        digest.update(json.dumps(known, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


def files_hash(benchmark: Benchmark) -> str:
    """SHA-256 over names and bytes of the label files; pictures are not read for it."""
    digest = hashlib.sha256()
    for file in benchmark.files:
        digest.update(f"{file.name} {file_hash(file)}\n".encode())
    return digest.hexdigest()


@dataclass
class _Batch:
    """Samples that are ready to be asked, and those that cannot be, with the reason."""

    samples: list[Sample]
    prepared: Prepared | None
    errors: list[tuple[Sample, str]] = field(default_factory=list)


class _Asker:
    def __init__(self, model: Model, batch_size: int, max_new_tokens: int, blind: bool, scoring: Scoring):
        self.normalise = normalise if scoring == "captions" else normalise_answer
        self.model, self.max_new_tokens, self.blind = model, max_new_tokens, blind
        self.batch_size = self.asked_for = batch_size

    def answers(self, samples: Sequence[Sample]) -> Iterator[list[Prediction]]:
        """Rows of a batch at a time. The next batch's pictures are prepared while the model works."""
        batches = self._batches(samples)
        with ThreadPoolExecutor(1) as ahead:
            following = next(batches, None)
            waiting = ahead.submit(self.prepare, following) if following else None
            while waiting is not None:
                batch = waiting.result()
                following = next(batches, None)
                waiting = ahead.submit(self.prepare, following) if following else None
                yield self.ask(batch)

    def _batches(self, samples: Sequence[Sample]) -> Iterator[list[Sample]]:
        """Of one kind and number of pictures each; made one by one, since `batch_size` may shrink."""
        for _, alike in groupby(samples, lambda one: _shape(one, self.model)[:2]):
            group, start = list(alike), 0
            while start < len(group):
                batch = group[start : start + self.batch_size]
                start += len(batch)
                yield batch

    def prepare(self, samples: list[Sample]) -> _Batch:
        """Tensors of a batch; if it fails, each sample is tried alone, so that a bad one harms no other."""
        try:
            return _Batch(samples, self.model.prepare([self._seen(one) for one in samples]))
        except ValueError as error:
            if len(samples) == 1:
                return _Batch([], None, [(samples[0], " ".join(str(error).split()))])
        alone = [self.prepare([one]) for one in samples]
        good = [one for batch in alone for one in batch.samples]
        errors = [error for batch in alone for error in batch.errors]
        if not good:
            return _Batch([], None, errors)
        return _Batch(good, self.model.prepare([self._seen(one) for one in good]), errors)

    def ask(self, batch: _Batch) -> list[Prediction]:
        rows = [self._row(sample, Said(""), "", 0.0, error) for sample, error in batch.errors]
        if batch.prepared is None:
            return rows
        if len(batch.samples) <= self.batch_size:
            start = time.perf_counter()
            try:
                answers = self.model.generate(batch.prepared, self.max_new_tokens)
            except torch.OutOfMemoryError as error:
                if len(batch.samples) == 1:
                    self.batch_size = self.asked_for  # this row says nothing about the others
                    reason = f"does not fit into memory even alone ({' '.join(str(error).split())[:200]})"
                    return [*rows, self._row(batch.samples[0], Said(""), batch.prepared.prompts[0], 0.0, reason)]
                self.batch_size = len(batch.samples) // 2
            else:
                seconds = (time.perf_counter() - start) / len(answers)
                together = zip(batch.samples, answers, batch.prepared.prompts, strict=True)
                return [*rows, *(self._row(sample, said, prompt, seconds) for sample, said, prompt in together)]
        # out here the traceback, and with it the tensors that did not fit, is gone
        batch.prepared = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        size = self.batch_size
        for start_of in range(0, len(batch.samples), size):
            rows += self.ask(self.prepare(batch.samples[start_of : start_of + size]))
        return rows

    def _seen(self, sample: Sample) -> Messages:
        if not self.blind:
            return sample.messages
        return blank(without_clues(sample.messages), self.model.num_frames)  # a row's clue was made of its pictures

    def _row(self, sample: Sample, said: Said, prompt: str, seconds: float, error: str | None = None) -> Prediction:
        clues = [item["text"] for item in items_of(sample.messages, "clue")]
        row: Prediction = {
            "id": sample.id,
            "prediction": said.text,
            "normalised": self.normalise(said.text),
            "prompt": prompt or _words(sample.messages),
            "references": list(sample.references),
            "kind": sample.kind,
            "seconds": round(seconds, 4),
            "clue": said.clue or (clues[-1] if clues else None),
        }
        if said.no_clue:
            row["no_clue"] = said.no_clue
        return {**row, "error": error} if error else row


def _shape(sample: Sample, model: Model) -> tuple[int, str, int]:
    """What puts samples together: pictures, kind of sight, letters. The largest come first: they run out of memory."""
    row: Row = {"id": sample.id, "task": task_of(sample.messages), "messages": sample.messages}
    characters, blocks = text_and_blocks(row, model.num_frames)
    return -blocks, row["task"], -characters


def _words(messages: Messages) -> str:
    contents = [message["content"] for message in messages]
    return "\n".join(
        content if isinstance(content, str) else "\n".join(item["text"] for item in content if item.get("text"))
        for content in contents
    )


def _tell_missing(benchmark: Benchmark) -> None:
    named = named_files(sample.messages for sample in benchmark.samples)
    missing = [file for file in named if not os.path.isfile(file)]
    if missing and len(missing) == len(named):
        raise DataError(f"{missing[0]}: is not there, nor any other of {len(named)} pictures; check the data's path")
    problem = f"{len(missing)} of {len(named)} pictures and clips are not there, {missing[0]} first" if missing else ""
    if problem and problem not in benchmark.problems:
        benchmark.problems.append(problem)
