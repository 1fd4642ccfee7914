"""Generated scenes as arrays on disk, for the training of the embedded checkpoint."""

from __future__ import annotations

import json
import os
import signal
import zipfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from .scene_tasks import (
    OBJECTS,
    WORLD_VERSION,
    SceneSample,
    clip_sample,
    pair_sample,
    sequence_sample,
    single_sample,
)
from .scenes import LAND_CLASSES

SIZE = 144  # pixels
GRID = 12  # patches of 12 pixels
FRAMES = 4
SAMPLERS = {"single": single_sample, "pair": pair_sample, "sequence": sequence_sample}


def patch_shares(values: np.ndarray) -> np.ndarray:
    """Mean over each patch: `(..., SIZE, SIZE)` to `(..., GRID * GRID)`."""
    side = SIZE // GRID
    return values.reshape(*values.shape[:-2], GRID, side, GRID, side).mean((-3, -1)).reshape(*values.shape[:-2], -1)


def patch_centres(centres: np.ndarray) -> np.ndarray:
    """Which patches hold the middle of an object, for each kind: `(objects, 3)` to `(kinds, GRID * GRID)`."""
    marked = np.zeros((len(OBJECTS), GRID, GRID), bool)
    kind, column, row = (centres * [1, GRID, GRID]).astype(int).clip(0, [len(OBJECTS) - 1, GRID - 1, GRID - 1]).T
    marked[kind, row, column] = True
    return marked.reshape(len(OBJECTS), -1)


def turned(stack: np.ndarray, quarters: int, mirrored: bool, axes: tuple[int, int] = (-2, -1)) -> np.ndarray:
    """Squares turned left by quarters, then mirrored left to right: all eight are true views from above.

    Args:
        axes: Of the rows and of the columns.
    """
    stack = np.rot90(stack, quarters, axes)
    return np.ascontiguousarray(np.flip(stack, axes[1]) if mirrored else stack)


def _shard_names(task: str) -> str:
    return f"{task}-world{WORLD_VERSION}-{SIZE}-{FRAMES}"


def _shard(job: tuple[str, str, int, int]) -> Path:
    folder, task, first, count = job
    return Path(folder) / f"{_shard_names(task)}-{first:08d}-{count}"


def make_shard(job: tuple[str, str, int, int]) -> str:
    """Writes `(folder, task, first seed, count)` as an npz of pictures and patch labels, and a JSON of words."""
    _, task, first, count = job
    path = _shard(job)
    if path.with_suffix(".json").exists():
        return str(path)
    pictures, labels, changes, centres, words = [], [], [], [], []
    for seed in range(first, first + count):
        sample: SceneSample = clip_sample(seed, SIZE, FRAMES) if task == "video" else SAMPLERS[task](seed, SIZE)
        pictures.append(np.stack([np.asarray(image) for image in sample.images]))
        if sample.land:
            one_hot = np.stack(sample.land)[:, None] == np.arange(len(LAND_CLASSES))[:, None, None]
            labels.append(patch_shares(one_hot.astype(np.float32)).astype(np.float16))  # (dates, classes, patches)
        if task == "single":
            centres.append(patch_centres(sample.centres))
        if sample.change_mask is not None:
            changes.append(patch_shares(sample.change_mask.astype(np.float32)).astype(np.float16))
        words.append(
            {
                "seed": seed,
                "task": task,
                "label": sample.label,
                "clue": sample.clue,
                "questions": [
                    {"question": q.question, "answer": q.answer, "kind": q.kind, "references": list(q.references)}
                    for q in sample.questions
                ],
                "more": [{"question": q.question, "answer": q.answer} for q in sample.more],
            }
        )
    arrays = {"pictures": np.stack(pictures)}  # (samples, pictures, SIZE, SIZE, 3)
    if labels:
        arrays["land"] = np.stack(labels)
    if changes:
        arrays["change"] = np.stack(changes)
    if centres:
        arrays["centres"] = np.stack(centres)  # (samples, kinds, patches)
    np.savez(path.with_suffix(".npz"), **arrays)  # type: ignore[arg-type]
    part = path.with_suffix(".part")
    part.write_text(json.dumps(words))
    os.replace(part, path.with_suffix(".json"))  # last: it says that the shard is whole
    return str(path)


def make_scenes(
    folder: Path, counts: dict[str, int], first_seed: int, shard: int = 250, processes: int = 2, quiet: bool = False
) -> None:
    """Generates `counts[task]` samples of each task from `first_seed` on; what is there already is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [
        (str(folder), task, first_seed + start, min(shard, count - start))
        for task, count in counts.items()
        for start in range(0, count, shard)
    ]
    jobs = [job for job in jobs if not _shard(job).with_suffix(".json").exists()]
    if not jobs:
        return
    # Ctrl-C is the terminal's word to all processes; one of them tells of it
    with ProcessPoolExecutor(processes, None, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
        for number, path in enumerate(pool.map(make_shard, jobs), 1):
            if not quiet:
                print(f"{number}/{len(jobs)} {path}", flush=True)


def load_scenes(folder: Path, task: str) -> tuple[dict[str, np.ndarray], list[dict]]:
    """All shards of a task: arrays stacked along the samples, and the words of each sample.

    Raises:
        FileNotFoundError: There are none of this version of the world.
        ValueError: Shards of different sizes hold a scene twice, or a file is damaged.
    """
    words = load_words(folder, task)
    try:
        shards = [np.load(path.with_suffix(".npz"), allow_pickle=False) for path in _shards(folder, task)]
        return {name: np.concatenate([one[name] for one in shards]) for name in shards[0].files}, words
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{folder}: its {task} pictures are damaged; remove it and run again") from error


def load_words(folder: Path, task: str) -> list[dict]:
    """As `load_scenes`, without the pictures, which are large."""
    words = []
    for path in _shards(folder, task):
        try:
            words += json.loads(path.read_text())
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: damaged; remove it and run again") from error
    if len({row["seed"] for row in words}) < len(words):
        raise ValueError(f"{folder}: holds {task} scenes twice; empty it")
    return words


def _shards(folder: Path, task: str) -> list[Path]:
    paths = sorted(folder.glob(f"{_shard_names(task)}-*.json"))
    if not paths:
        raise FileNotFoundError(f"no {task} scenes in {folder}; make them with make_scenes first")
    return paths
