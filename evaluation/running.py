"""Asks a model every question of a benchmark: batched, greedy, resumable, on one process or several."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
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
from .asking import Asked, Asker
from .captions import normalise
from .model_hash import file_hash
from .models import Model
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
        DataError: The file is of another run or being written by one, all pictures are missing, or not one row could
            be asked.
    """
    state = evaluation_process()
    set_seed(seed)
    if not blind:
        _tell_missing(benchmark)
    settings: dict[str, Any] = {}
    if state.is_main_process:  # hashing gigabytes once is enough
        settings = describe(benchmark, model, batch_size, max_new_tokens, blind, seed, state.num_processes)

    def shown(batch: Sequence[Sample]) -> list[Messages]:
        if not blind:
            return [one.messages for one in batch]
        # a row's clue was made of its pictures
        return [blank(without_clues(one.messages), model.num_frames) for one in batch]

    with PredictionsFile(Path(predictions), state) as file:
        done = {row["id"] for row in file.open(settings)}
        rest = sorted((one for one in benchmark.samples if one.id not in done), key=lambda one: _shape(one, model))
        mine = rest[state.process_index :: state.num_processes]
        asker: Asker[Sample] = Asker(model, batch_size, max_new_tokens, shown)
        finished, total = 0, len(mine)
        progress(finished, total)
        for rows in asker.answers(_batches(mine, model, lambda: asker.batch_size)):
            file.append([_prediction(one, benchmark.scoring) for one in rows])
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


def _prediction(asked: Asked[Sample], scoring: Scoring) -> Prediction:
    """A line of the predictions file."""
    sample, said = asked.question, asked.said
    clues = [item["text"] for item in items_of(sample.messages, "clue")]
    row: Prediction = {
        "id": sample.id,
        "prediction": said.text,
        "normalised": (normalise if scoring == "captions" else normalise_answer)(said.text),
        "prompt": asked.prompt or _words(sample.messages),
        "references": list(sample.references),
        "kind": sample.kind,
        "seconds": round(asked.seconds, 4),
        "clue": said.clue or (clues[-1] if clues else None),
    }
    if said.no_clue:
        row["no_clue"] = said.no_clue
    return {**row, "error": asked.error} if asked.error else row


def _shape(sample: Sample, model: Model) -> tuple[int, str, int]:
    """What puts samples together: pictures, kind of sight, letters. The largest come first: they run out of memory."""
    row: Row = {"id": sample.id, "task": task_of(sample.messages), "messages": sample.messages}
    characters, blocks = text_and_blocks(row, model.num_frames)
    return -blocks, row["task"], -characters


def _batches(samples: Sequence[Sample], model: Model, size: Callable[[], int]) -> Iterator[list[Sample]]:
    """Of one kind and number of pictures each; made one by one, since the size may shrink."""
    for _, alike in groupby(samples, lambda one: _shape(one, model)[:2]):
        group, start = list(alike), 0
        while start < len(group):
            batch = group[start : start + size()]
            start += len(batch)
            yield batch


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
