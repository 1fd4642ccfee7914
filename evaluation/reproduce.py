"""`unirs reproduce`: draws the world, trains and scores every arm of the paper's ablations; resumable."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from ..trainers import claims as arms
from ..trainers.scene_tasks import TEST_SEED, WORLD_VERSION
from ..trainers.tiny_data import make_scenes
from ..trainers.tiny_tuning import Schedule, keep_features
from .claims import figure, judge, scene_scores, score, table
from .model_hash import model_hash

# Training seeds that the embedded checkpoint's tower was not trained on. The base learns from scenes of its own: of
# those that it had learned to describe, its clues would be better than they are in the test.
FIRST_SEEDS = {"base": 300_000, "train": 500_000, "test": TEST_SEED}


@dataclass(frozen=True)
class Plan:
    """Sizes of a run. What is in the folder already must have been made with the same ones."""

    single: int = 1000
    pair: int = 1000
    video: int = 500
    test: int = 300  # scenes of each task
    seeds: int = 5
    base_epochs: float = 3.0
    epochs: float = 2.0
    batch: int = 25
    learning_rate: float = 1e-3

    def steps(self, tasks: tuple[str, ...], epochs: float) -> int:
        return max(1, round(sum(getattr(self, task) for task in tasks) * epochs / self.batch))

    def warmup(self, steps: int) -> int:
        """Steps of warming up: the same share of every arm's training, or short ones would learn less of it."""
        return round(steps / 20)


class PlanError(Exception):
    """The folder holds a run of other sizes."""


def reproduce(folder: Path, plan: Plan, checkpoint: str, say: Callable[[str], None]) -> dict[str, Any]:
    """Everything, into `folder`: scores and answers of each arm and seed, `claims.json`, `claims.md`, `claims.png`.

    Raises:
        PlanError: `folder` was begun with another plan.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _keep_plan(folder, {**asdict(plan), "checkpoint": model_hash(checkpoint), "world": WORLD_VERSION})
    started = time.time()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    processor = AutoProcessor.from_pretrained(checkpoint)
    base_split, train, test = (_look(folder, plan, name, checkpoint, device, say) for name in FIRST_SEEDS)
    base = _base(folder, plan, checkpoint, processor, base_split, device, say)
    for name, split in (("train", train), ("test", test)):
        path = folder / f"clues-{name}.json"
        if not path.exists():
            say(f"clues of the {name} split")
            _write(path, arms.write_clues(base, processor, split))
        split.clues = _read(path)
    earned: dict[int, dict[str, dict[str, np.ndarray]]] = {}
    for seed in range(plan.seeds):
        earned[seed] = {}
        for arm in arms.ARMS:
            path = folder / f"seed-{seed}" / f"{arm.name.replace(' ', '-')}.json"
            if not path.exists():
                begun = time.time()
                steps = plan.steps(arm.tasks, plan.epochs)
                schedule = Schedule(
                    steps, plan.batch, plan.learning_rate, seed, folder / "checkpoints", plan.warmup(steps)
                )
                model = arms.train_arm(base, processor, train, arm, schedule)
                answers = arms.answer(model, processor, test, arm)
                _write(path, {"minutes": (time.time() - begun) / 60, "answers": answers})
            earned[seed][arm.name] = scene_scores(_read(path)["answers"])
            shown = {name: round(score(points), 1) for name, points in earned[seed][arm.name].items()}
            say(f"seed {seed}, {arm.name}: {shown} ({(time.time() - started) / 60:.0f} min)")
        result = _report(folder, plan, checkpoint, earned, started)
    return result


def _keep_plan(folder: Path, wanted: dict[str, Any]) -> None:
    path = folder / "plan.json"
    known = _read(path)
    if known is None:
        _write(path, wanted)
        return
    differ = [name for name, value in wanted.items() if known.get(name) != value and name != "seeds"]
    if differ:
        raise PlanError(
            f"{folder}: it was begun with {differ[0]}={known.get(differ[0])}, not {wanted[differ[0]]}; "
            "give what it was begun with, or another --output"
        )


def _look(folder: Path, plan: Plan, name: str, checkpoint: str, device: str, say: Callable[[str], None]) -> arms.Split:
    """Scenes of one split and what the frozen tower makes of them."""
    counts = {task: plan.test if name == "test" else getattr(plan, task) for task in arms.TASKS}
    scenes, kept = folder / "scenes" / name, folder / f"features-{name}.safetensors"
    if not kept.exists():
        say(f"{name} split: {counts}")
        make_scenes(scenes, counts, FIRST_SEEDS[name], quiet=True)
    found = arms.load_split(scenes)
    if not kept.exists():
        say(f"the tower looks at the {name} split")
        tower = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32).to(device)
        _save(kept, keep_features(tower, {task: pictures for task, (pictures, _) in found.items()}))
    return arms.Split({task: words for task, (_, words) in found.items()}, load_file(kept), {})


def _base(
    folder: Path, plan: Plan, checkpoint: str, processor: Any, split: arms.Split, device: str, say: Callable
) -> Any:
    """The frozen base: a small language model that describes what it is shown."""
    trained = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32)
    base = arms.small_model(trained.config, seed=0)
    base.generation_config = trained.generation_config
    base.model.change_extraction.load_state_dict(trained.model.change_extraction.state_dict())
    base.model.vision_tower = torch.nn.Identity()  # its features are kept
    path = folder / "base.safetensors"
    if path.exists():
        missing, unexpected = base.load_state_dict(load_file(path), strict=False)
        if missing != ["lm_head.weight"] or unexpected:  # the one that is tied
            raise PlanError(f"{path}: holds another base; remove {folder}, or give another --output")
    else:
        steps = plan.steps(arms.TASKS, plan.base_epochs)
        say(f"the base learns to describe: {steps} steps")
        schedule = Schedule(steps, plan.batch, plan.learning_rate, 0, folder / "checkpoints")
        arms.train_base(base, processor, split, schedule)
        state = {name: value.detach().cpu().clone() for name, value in base.state_dict().items()}
        state.pop("lm_head.weight", None)  # tied
        _save(path, state)
    return base.to(device)


def _report(folder: Path, plan: Plan, checkpoint: str, earned: dict, started: float) -> dict[str, Any]:
    rows = judge(earned)
    result = {
        "plan": asdict(plan),
        "world": WORLD_VERSION,
        "checkpoint": {"name": Path(checkpoint).name, "sha256": model_hash(checkpoint)},
        "claims": rows,
        "scores": {
            seed: {arm: {name: score(points) for name, points in one.items()} for arm, one in by_arm.items()}
            for seed, by_arm in earned.items()
        },
        "minutes_of_this_call": round((time.time() - started) / 60, 1),
        "machine": torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores",
    }
    _write(folder / "claims.json", result)
    (folder / "claims.md").write_text(table(rows), encoding="utf-8")
    figure(folder / "claims.png", rows)
    return result


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(part, path)


def _save(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    part = path.with_suffix(".part")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part)
    os.replace(part, path)
