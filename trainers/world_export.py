"""RS-World written as a `datasets` folder, whole or not at all; what was drawn before a kill is kept."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..file_lock import locked_folder
from .data_sets.errors import DataError
from .data_sets.generated import FIRST_SEEDS, KINDS, Kind, Split, draw_sample, questions_of
from .scene_tasks import HELD_OUT_SEED, WORLD_VERSION, SceneSample

if TYPE_CHECKING:
    from datasets import Dataset, Features

CHUNK = 25  # seeds that are drawn and kept at a time
PARTS = ("questions", "pair_captions", "sequence_captions", "clips")  # each scored by one metric
PART_OF = {"change_caption": "pair_captions", "sequence_caption": "sequence_captions", "clip_class": "clips"}
SETTINGS = "rs_world.json"
PICTURES_WRITTEN = {"single": 6, "pair": 4, "sequence": 8}  # of a sample: in the row of each of its questions
PIXEL_BYTES = 2.1  # of a PNG, a bit more than on average

Job = tuple[str, Kind, int, int, int, int]  # folder, kind, first seed, seeds, size, frames


def export(
    output: Path,
    split: Split,
    counts: dict[Kind, int],
    size: int = 256,
    frames: int = 8,
    processes: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, int]:
    """Writes `counts[kind]` samples of each kind; a row is one question about its pictures.

    Killed at any moment, the same call goes on where it was; `output` is there only when it is whole.

    Args:
        output: A `DatasetDict` of those of PARTS that have rows; each part is a `datasets` folder of its own.
        processes: Default: one for each core.
        progress: Is told samples done and samples in all.

    Returns:
        Rows of each part.

    Raises:
        DataError: There is nothing to draw, `output` is there already, it was begun with other settings, another run
            is writing it, or a process that draws was killed.
    """
    total = sum(counts.values())
    if not total:
        raise DataError(f"{output}: no sample is asked for; give one of {', '.join(KINDS)} a count")
    if max(counts.values()) > HELD_OUT_SEED:
        raise DataError(f"{output}: a split has {HELD_OUT_SEED:,} samples of a kind, not {max(counts.values()):,}")
    if output.name in ("", ".."):
        raise DataError(f"{output}: names no folder that could be made; give one, such as rs_world")
    if output.exists():
        remedy = "remove it, or give another name" if (output / SETTINGS).is_file() else "give another name"
        raise DataError(f"{output}: is there already; {remedy}")
    work = output.with_name(f"{output.name}.writing")
    settings = {
        "world": WORLD_VERSION,
        "split": split,
        "first_seed": FIRST_SEEDS[split],
        "counts": counts,
        "size": size,
        "frames": frames,
    }
    _check_room(work, bytes_of(counts, size, frames))
    if work.exists() and not work.is_dir():
        raise DataError(f"{work}: is a file where the export is drawn; give another name")
    work.mkdir(exist_ok=True)
    with locked_folder(work) as ours:
        if not ours:
            raise DataError(f"{output}: another run is writing it; wait for that one, or give another name")
        _begin(work, settings)
        jobs = list(_jobs(work, split, counts, size, frames))
        ways = multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("forkserver" if "forkserver" in ways else "spawn")  # Windows: no other
        done = 0
        try:
            # Ctrl-C is the terminal's word to all processes; one of them tells of it
            with ProcessPoolExecutor(processes, context, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
                for job in zip(jobs, pool.map(_draw_chunk, jobs), strict=True):
                    done += job[0][3]
                    progress(done, total)
        except BrokenProcessPool as error:
            raise DataError(
                f"{output}: a process that draws was killed, perhaps for want of memory; run the command again, with "
                "fewer --processes"
            ) from error
        return _join(work, jobs, output)


def _begin(work: Path, settings: dict[str, Any]) -> None:
    """Notes what an export that is not whole yet was begun with, or checks that it was begun with the same."""
    known, part = work / SETTINGS, work / f"{SETTINGS}.part"
    if not known.exists():
        if any(one != part for one in work.iterdir()):  # the whole folder is removed at the end
            raise DataError(f"{work}: is no export that was stopped; give another name")
        part.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
        os.replace(part, known)
        return
    try:
        begun = json.loads(known.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{work}: damaged; remove it") from error
    if begun != settings:
        raise DataError(f"{work}: was begun with other settings; remove it, or give the command that began it")


def bytes_of(counts: dict[Kind, int], size: int, frames: int) -> int:
    """About what an export takes on the disk."""
    pictures = sum(PICTURES_WRITTEN.get(kind, frames) * count for kind, count in counts.items())
    return round(pictures * size**2 * PIXEL_BYTES)


def _check_room(work: Path, whole: int) -> None:
    """Samples are drawn into parts and then written once more."""
    there = sum(path.stat().st_size for path in work.rglob("*") if path.is_file())
    free, needed = shutil.disk_usage(work.absolute().parent).free, 2 * whole - there
    if needed > free:
        raise DataError(
            f"{work.parent}: this export takes about {whole / 1e9:.1f} GB, twice that while it is written, and "
            f"{free / 1e9:.1f} GB are free; ask for fewer samples or a smaller size, or give another folder"
        )


def _jobs(work: Path, split: Split, counts: dict[Kind, int], size: int, frames: int) -> Iterator[Job]:
    for kind in KINDS:
        count = counts.get(kind, 0)
        for start in range(0, count, CHUNK):
            yield str(work), kind, FIRST_SEEDS[split] + start, min(CHUNK, count - start), size, frames


def _place(job: Job) -> Path:
    folder, kind, first = job[:3]
    return Path(folder) / f"{kind}-{first:07d}"


def _draw_chunk(job: Job) -> None:
    """Draws the samples of a job and keeps their rows: a `datasets` folder for each part. Nothing if it is there."""
    from datasets import Dataset, disable_progress_bars

    _, kind, first, count, size, frames = job
    target = _place(job)
    if target.exists():
        return
    disable_progress_bars()
    rows: dict[str, list[dict[str, Any]]] = {part: [] for part in PARTS}
    for seed in range(first, first + count):
        for part, row in _rows(draw_sample(kind, seed, size, frames), seed):
            rows[part].append(row)
    partial = target.with_name(f"{target.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    for part, some in rows.items():
        if some:
            Dataset.from_list(some, features=_features(part)).save_to_disk(str(partial / part))
    os.replace(partial, target)


def _rows(sample: SceneSample, seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """One row for each question, with the part that it belongs to."""
    pictures = [_png(image) for image in sample.images]
    for number, one in enumerate(questions_of(sample)):
        part = PART_OF.get(one.kind, "questions")
        kind = one.kind
        if part.endswith("captions"):  # what the score of captions tells apart
            kind = "no_change" if sample.label == "no change" else "change"
        row = {
            "id": f"{sample.task}-{seed}-{number}",
            "seed": seed,
            "task": sample.task,
            "kind": kind,
            "messages": [{"role": "user", "content": one.question}, {"role": "assistant", "content": one.answer}],
            "references": list(one.references),
            "images": pictures,
        }
        if part == "pair_captions" and sample.change_mask is not None:
            row["mask"] = _png(Image.fromarray(sample.change_mask))
        yield part, row


def _png(image: Image.Image) -> dict[str, Any]:
    file = io.BytesIO()
    image.save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def _features(part: str) -> Features:
    from datasets import Features, List, Value
    from datasets import Image as Picture

    features = {
        "id": Value("string"),
        "seed": Value("int64"),
        "task": Value("string"),
        "kind": Value("string"),
        "messages": List({"role": Value("string"), "content": Value("string")}),
        "references": List(Value("string")),
        "images": List(Picture()),
    }
    if part == "pair_captions":
        features["mask"] = Picture()
    return Features(features)


def _join(work: Path, jobs: list[Job], output: Path) -> dict[str, int]:
    from datasets import DatasetDict, concatenate_datasets, load_from_disk

    whole = work / "whole"
    shutil.rmtree(whole, ignore_errors=True)
    parts: dict[str, Dataset] = {}
    for part in PARTS:
        folders = [_place(job) / part for job in jobs]
        chunks = [load_from_disk(str(folder)) for folder in folders if folder.is_dir()]
        if chunks:
            parts[part] = concatenate_datasets(chunks)
    DatasetDict(parts).save_to_disk(str(whole))
    shutil.copy(work / SETTINGS, whole)
    rows = {part: len(table) for part, table in parts.items()}
    del parts
    os.replace(whole, output)
    shutil.rmtree(work)
    return rows
