"""`unirs reproduce`: draws the world, trains and scores every arm of the paper's ablations; resumable."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from ..trainers import claims as arms
from ..trainers.scene_tasks import TEST_SEED
from ..trainers.tiny_data import make_scenes
from ..trainers.tiny_tuning import Schedule, keep_features
from .claims import arm_scores, figure, judge, table

FIRST_SEED = 500_000  # training seeds that the embedded checkpoint's tower was not trained on


@dataclass(frozen=True)
class Plan:
    """Sizes of a run. What is in the folder already must have been made with the same ones."""

    single: int = 3000
    pair: int = 3000
    video: int = 1500
    test: int = 400  # scenes of each task
    seeds: int = 5
    base_epochs: float = 3.0
    epochs: float = 2.0
    batch: int = 25
    learning_rate: float = 1e-3

    def steps(self, tasks: tuple[str, ...], epochs: float) -> int:
        return max(1, round(sum(getattr(self, task) for task in tasks) * epochs / self.batch))


class PlanError(Exception):
    """The folder holds a run of other sizes."""


def reproduce(folder: Path, plan: Plan, checkpoint: str, say: Callable[[str], None]) -> dict[str, Any]:
    """Everything, into `folder`: scores and answers of each arm and seed, `claims.json`, `claims.md`, `claims.png`.

    Raises:
        PlanError: `folder` was begun with another plan.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _keep_plan(folder, plan)
    started = time.time()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    processor = AutoProcessor.from_pretrained(checkpoint)
    train, test = _look(folder, plan, checkpoint, device, say)
    base = _base(folder, plan, checkpoint, processor, train, device, say)
    for name, split in (("train", train), ("test", test)):
        path = folder / f"clues-{name}.json"
        if not path.exists():
            say(f"clues of the {name} split")
            _write(path, arms.write_clues(base, processor, split))
        split.clues = _read(path)
    scores: dict[int, dict[str, dict[str, float]]] = {}
    for seed in range(plan.seeds):
        scores[seed] = {}
        for arm in arms.ARMS:
            path = folder / f"seed-{seed}" / f"{arm.name.replace(' ', '-')}.json"
            if not path.exists():
                begun = time.time()
                steps = plan.steps(arm.tasks, plan.epochs)
                schedule = Schedule(steps, plan.batch, plan.learning_rate, seed, folder / "checkpoints", warmup=20)
                model = arms.train_arm(base, processor, train, arm, schedule)
                answers = arms.answer(model, processor, test, arm)
                _write(
                    path, {"scores": arm_scores(answers), "minutes": (time.time() - begun) / 60, "answers": answers}
                )
            scores[seed][arm.name] = _read(path)["scores"]
            shown = {name: round(score, 1) for name, score in scores[seed][arm.name].items()}
            say(f"seed {seed}, {arm.name}: {shown} ({(time.time() - started) / 60:.0f} min)")
        _report(folder, plan, checkpoint, scores, started)
    return _report(folder, plan, checkpoint, scores, started)


def _keep_plan(folder: Path, plan: Plan) -> None:
    path = folder / "plan.json"
    known = _read(path)
    wanted = asdict(plan)
    if known is None:
        _write(path, wanted)
        return
    differ = [name for name, value in wanted.items() if known.get(name) != value and name != "seeds"]
    if differ:
        raise PlanError(
            f"{folder}: it was begun with {differ[0]}={known.get(differ[0])}, not {wanted[differ[0]]}; "
            "give the same sizes, or another --output"
        )


def _look(
    folder: Path, plan: Plan, checkpoint: str, device: str, say: Callable[[str], None]
) -> tuple[arms.Split, arms.Split]:
    """Scenes of both splits and what the frozen tower makes of them."""
    splits = []
    for name, first in (("train", FIRST_SEED), ("test", TEST_SEED)):
        counts = {task: getattr(plan, task) if name == "train" else plan.test for task in arms.TASKS}
        scenes, kept = folder / "scenes" / name, folder / f"features-{name}.safetensors"
        if not kept.exists():
            say(f"{name} split: {counts}")
            make_scenes(scenes, counts, first, quiet=True)
        found = arms.load_split(scenes)
        if not kept.exists():
            say(f"the tower looks at the {name} split")
            tower = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32).to(device)
            _save(kept, keep_features(tower, {task: pictures for task, (pictures, _) in found.items()}))
        splits.append(arms.Split({task: words for task, (_, words) in found.items()}, load_file(kept), {}))
    return splits[0], splits[1]


def _base(
    folder: Path, plan: Plan, checkpoint: str, processor: Any, train: arms.Split, device: str, say: Callable
) -> Any:
    """The frozen base: a small language model that describes what it is shown."""
    trained = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32)
    base = arms.small_model(trained.config, seed=0)
    base.generation_config = trained.generation_config
    base.model.change_extraction.load_state_dict(trained.model.change_extraction.state_dict())
    base.model.vision_tower = torch.nn.Identity()  # its features are kept
    path = folder / "base.safetensors"
    if path.exists():
        base.load_state_dict(load_file(path), strict=False)
    else:
        steps = plan.steps(arms.TASKS, plan.base_epochs)
        say(f"the base learns to describe: {steps} steps")
        schedule = Schedule(steps, plan.batch, plan.learning_rate, 0, folder / "checkpoints")
        arms.train_base(base, processor, train, schedule)
        state = {name: value.detach().cpu().clone() for name, value in base.state_dict().items()}
        state.pop("lm_head.weight", None)  # tied
        _save(path, state)
    return base.to(device)


def _report(folder: Path, plan: Plan, checkpoint: str, scores: dict, started: float) -> dict[str, Any]:
    whole = {seed: by_arm for seed, by_arm in scores.items() if len(by_arm) == len(arms.ARMS)}
    rows = judge(whole)
    result = {
        "plan": asdict(plan),
        "checkpoint": Path(checkpoint).name,
        "claims": rows,
        "scores": whole,
        "minutes_of_this_call": round((time.time() - started) / 60, 1),
        "machine": torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores",
    }
    _write(folder / "claims.json", result)
    (folder / "claims.md").write_text(table(rows), encoding="utf-8")
    figure(folder / "claims.png", rows, whole)
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
