"""`unirs reproduce`: draws the world, trains and scores every arm of the paper's ablations; resumable."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from ..trainers import claims as arms
from ..trainers.progress import duration
from ..trainers.scene_tasks import TEST_SEED, WORLD_VERSION
from ..trainers.tiny_data import FRAMES, GRID, SIZE, load_scenes, load_words, make_scenes
from ..trainers.tiny_tuning import Schedule, keep_features
from .claims import Answers, Earned, commonest, figure, judge, scene_scores, score, table
from .model_hash import model_hash

Say = Callable[[str], None]
Read = TypeVar("Read")

# Training seeds that the embedded checkpoint's tower was not trained on. The base learns from scenes of its own: of
# those that it had learned to describe, its clues would be better than they are in the test.
FIRST_SEEDS = {"base": 300_000, "train": 700_000, "test": TEST_SEED}
PICTURES = {"single": 1, "pair": 2, "video": FRAMES}
# Bytes that a picture takes: its pixels and, for each patch, 192 features and the shares of 12 land classes, in half
# precision. Words and answers are a twentieth more.
PICTURE_BYTES = round(1.05 * (SIZE**2 * 3 + GRID**2 * (192 + 12) * 2))
OPTIONS = {
    "single": "--scenes", "pair": "--scenes", "video": "--scenes", "test": "--test", "epochs": "--epochs",
    "seeds": "--seeds", "clues": "--clues",
}  # fmt: skip
SECONDS_BETWEEN_LINES = 60  # of a training's progress


@dataclass(frozen=True)
class Plan:
    """Sizes of a run. What is in the folder already must have been made with the same ones."""

    single: int = 1000
    pair: int = 1000
    video: int = 500
    test: int = 300  # scenes of each task
    seeds: int = 5
    base: int = 3  # times as many scenes for the base as for an arm: its clues must be good of scenes it never saw
    base_epochs: float = 3.0
    epochs: float = 2.0
    batch: int = 12  # 25 in half the steps teach a language model this small less: docs/ablations.md
    learning_rate: float = 1e-3
    clues: bool = True

    def counts(self, name: str) -> dict[str, int]:
        """Scenes of each task in a split."""
        if name == "test":
            return dict.fromkeys(arms.TASKS, self.test)
        return {task: getattr(self, task) * (self.base if name == "base" else 1) for task in arms.TASKS}

    def steps(self, tasks: tuple[str, ...], epochs: float) -> int:
        return max(1, round(sum(getattr(self, task) for task in tasks) * epochs / self.batch))

    def base_steps(self) -> int:
        return self.steps(arms.TASKS, self.base * self.base_epochs)

    def warmup(self, steps: int) -> int:
        """Steps of warming up: the same share of every arm's training, or short ones would learn less of it."""
        return round(steps / 20)

    def base_warmup(self, steps: int) -> int:
        """Of the base, which starts from nothing: 156 of the 1,875 steps of the default plan."""
        return round(steps / 12)

    def bytes(self) -> int:
        """What a whole run takes on the disk."""
        return PICTURE_BYTES * sum(
            PICTURES[task] * count for name in FIRST_SEEDS for task, count in self.counts(name).items()
        )


class PlanError(Exception):
    """The folder cannot be gone on with: it holds a run of other sizes, something else, or a damaged file."""


class Pace:
    """How long the trainings that are left will take, from the steps that were measured."""

    def __init__(self, plan: Plan):
        self.todo = {
            (seed, arm.name): plan.steps(arm.paced_by, plan.epochs)
            for seed in range(plan.seeds)
            for arm in arms.arms(plan.clues)
        }
        self.count, self.minutes, self.steps = len(self.todo), 0.0, 0

    def base(self, minutes: float, steps: int) -> None:
        """A guess until an arm is measured: an arm also answers, but its steps are shorter."""
        self.minutes, self.steps = minutes, steps

    def arm(self, seed: int, name: str, minutes: float) -> None:
        if self.count == len(self.todo):  # better than the guess
            self.minutes, self.steps = 0.0, 0
        self.minutes, self.steps = self.minutes + minutes, self.steps + self.todo.pop((seed, name))

    def __str__(self) -> str:
        left = self.minutes / self.steps * sum(self.todo.values()) if self.steps else 0
        return f"{len(self.todo)} of {self.count} trainings are left, about {duration(60 * left)}"


def reproduce(folder: Path, plan: Plan, checkpoint: str, say: Say) -> dict[str, Any]:
    """Everything, into `folder`: scores and answers of each arm and seed, `claims.json`, `claims.md`, `claims.png`.

    Raises:
        PlanError: `folder` was begun with another plan, is no run, is damaged or has no room for one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {**asdict(plan), "first_seeds": FIRST_SEEDS}
    wanted |= {"checkpoint": model_hash(checkpoint), "world": WORLD_VERSION}
    is_new = _is_new(folder, wanted)
    _check_room(folder, plan)
    if is_new:
        _write(folder / "plan.json", wanted)
    started = time.time()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    processor = AutoProcessor.from_pretrained(checkpoint)
    pace = Pace(plan)
    say(f"{pace.count} trainings, together {sum(pace.todo.values()):,} steps, {plan.bytes() / 1e9:.1f} GB in {folder}")
    base_split, train, test = (_look(folder, plan, name, checkpoint, device, say) for name in FIRST_SEEDS)
    base = _base(folder, plan, checkpoint, processor, base_split, device, pace, say)
    for name, split in (("train", train), ("test", test)) if plan.clues else ():
        path = folder / f"clues-{name}.json"
        if not path.exists():
            say(f"clues of the {name} split")
            _write(path, arms.write_clues(base, processor, split))
        split.clues = _whole(path, lambda path: _fitting(_json(path), split.words))  # noqa: B023  # called at once
    earned: Earned = {}
    trained = 0.0  # minutes, of all calls
    baseline: dict[str, float] = {}
    for seed in range(plan.seeds):
        earned[seed] = {}
        for arm in arms.arms(plan.clues):
            path = folder / f"seed-{seed}" / f"{arm.name.replace(' ', '-')}.json"
            if not path.exists():
                if pace.steps:
                    say(str(pace))
                begun = time.time()
                steps = plan.steps(arm.paced_by, plan.epochs)
                schedule = Schedule(
                    steps, plan.batch, plan.learning_rate, seed, folder / "checkpoints", plan.warmup(steps)
                )
                model = arms.train_arm(base, processor, train, arm, schedule, _now_and_then(say))
                answers = arms.answer(model, processor, test, arm)
                _write(path, {"minutes": (time.time() - begun) / 60, "answers": answers})
            minutes, answers, earned[seed][arm.name] = _whole(path, _answers)
            pace.arm(seed, arm.name, minutes)
            trained += minutes
            learnt = {name: score(points) for name, points in earned[seed][arm.name].items()}
            shown = ", ".join(f"{name} {value:.1f}" for name, value in learnt.items())
            say(f"seed {seed}, {arm.name}: {shown} ({duration(60 * minutes)})")
            if not baseline:  # the arm "full", which is asked everything
                baseline = commonest(answers)
                for line in beside_commonest(learnt, baseline, answers):
                    say(line)
        result = _report(folder, plan, checkpoint, earned, baseline, started, trained)
    return result


def beside_commonest(learnt: dict[str, float], baseline: dict[str, float], answers: Answers) -> list[str]:
    """What always the commonest answer would earn, and whether the arm has learnt more than that of anything."""
    lines = ["  always the commonest answer: " + ", ".join(f"{name} {baseline[name]:.1f}" for name in learnt)]
    if all(learnt[name] <= baseline[name] for name in learnt):
        said = [one["said"] for some in answers.values() for one in some]
        silent = sum(not words.strip() for words in said)
        nothing = f", and says nothing to {silent} of {len(said)} questions" if silent else ""
        lines.append(f"  the arm is better at nothing{nothing}: these are too few steps; raise --scenes or --epochs")
    return lines


def _is_new(folder: Path, wanted: dict[str, Any]) -> bool:
    """Whether nothing is in the folder yet. Raises `PlanError` if it holds anything but a run of this plan."""
    path = folder / "plan.json"
    if not path.exists():
        if any(one.name != "plan.part" for one in folder.iterdir()):
            raise PlanError(f"{folder}: is no run of reproduce; give an empty or new --output")
        return True
    try:
        # runs of before clues were a choice, and of before the base had more scenes than an arm
        kept = {"clues": True, "base": 1, "first_seeds": None} | _json(path)
        known = {name: kept[name] for name in wanted}
    except (ValueError, KeyError, TypeError) as error:  # without it nobody knows how the rest was made
        raise PlanError(f"{path}: damaged; give an empty or new --output") from error
    differ = [name for name, value in wanted.items() if known[name] != value and name != "seeds"]
    if not differ:
        return False
    name = differ[0]
    if not set(differ) <= set(OPTIONS):
        raise PlanError(f"{folder}: it was begun with another {_spoken(differ)}; give another --output")
    given = {one: known[one] for one in ("single", "test", "epochs")} | {"seeds": wanted["seeds"]}
    command = " ".join(
        [*(_option(one, value) for one, value in given.items()), *(["--no-clues"] * (not known["clues"]))]
    )
    raise PlanError(
        f"{folder}: it was begun with {_option(name, known[name])}, not {_option(name, wanted[name]).split()[-1]}; "
        f"`unirs reproduce --output {shlex.quote(str(folder))} {command}` goes on, or give another --output"
    )


def _option(name: str, value: Any) -> str:
    """As the command takes it."""
    if name == "clues":
        return "--clues" if value else "--no-clues"
    return f"{OPTIONS[name]} {value}"


def _spoken(names: list[str]) -> str:
    """The first that no option changes."""
    name = next(name for name in names if name not in OPTIONS)
    known = {"checkpoint": "checkpoint (unirs-tiny)", "world": "version of RS-World"}
    return known.get(name, "plan, that of another version of unirs")


def _check_room(folder: Path, plan: Plan) -> None:
    there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    free, needed = shutil.disk_usage(folder).free, plan.bytes() - there
    if needed > free:
        raise PlanError(
            f"{folder}: this run still writes about {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free; "
            "give fewer --scenes and --test, or another --output"
        )


def _look(folder: Path, plan: Plan, name: str, checkpoint: str, device: str, say: Say) -> arms.Split:
    """Scenes of one split and what the frozen tower makes of them."""
    counts = plan.counts(name)
    scenes, kept = folder / "scenes" / name, folder / f"features-{name}.safetensors"
    if not kept.exists():
        say(f"{name} split: {counts}")
    make_scenes(scenes, counts, FIRST_SEEDS[name], quiet=True)  # also those that were removed since
    try:
        if not kept.exists():
            say(f"the tower looks at the {name} split")
            pictures = {task: load_scenes(scenes, task)[0]["pictures"] for task in arms.TASKS}
            tower = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32).to(device)
            _save(kept, keep_features(tower, pictures))
        words = {task: load_words(scenes, task) for task in arms.TASKS}
    except ValueError as error:  # names the file
        raise PlanError(str(error)) from error
    return arms.Split(words, _whole(kept, lambda path: _fitting(load_file(path), words)), {})


def _base(
    folder: Path,
    plan: Plan,
    checkpoint: str,
    processor: Any,
    split: arms.Split,
    device: str,
    pace: Pace,
    say: Say,
) -> Any:
    """The frozen base: a small language model that describes what it is shown."""
    trained = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32)
    base = arms.small_model(trained.config, seed=0)
    base.generation_config = trained.generation_config
    base.model.change_extraction.load_state_dict(trained.model.change_extraction.state_dict())
    base.model.vision_tower = torch.nn.Identity()  # its features are kept
    path = folder / "base.safetensors"
    if path.exists():
        missing, unexpected = _whole(path, lambda path: base.load_state_dict(load_file(path), strict=False))
        if missing != ["lm_head.weight"] or unexpected:  # the one that is tied
            raise PlanError(f"{path}: holds another base; remove {folder}, or give another --output")
    else:
        steps, begun = plan.base_steps(), time.time()
        say(f"the base learns to describe: {steps} steps")
        schedule = Schedule(steps, plan.batch, plan.learning_rate, 0, folder / "checkpoints", plan.base_warmup(steps))
        arms.train_base(base, processor, split, schedule, _now_and_then(say))
        state = {name: value.detach().cpu().clone() for name, value in base.state_dict().items()}
        state.pop("lm_head.weight", None)  # tied
        _save(path, state)
        pace.base((time.time() - begun) / 60, steps)
    return base.to(device)


def _now_and_then(say: Say) -> Say:
    """The first line after a minute, and one in each minute."""
    last = time.monotonic()

    def told(line: str) -> None:
        nonlocal last
        if time.monotonic() - last > SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            say(line)

    return told


def _report(
    folder: Path,
    plan: Plan,
    checkpoint: str,
    earned: Earned,
    baseline: dict[str, float],
    started: float,
    trained: float,
) -> dict[str, Any]:
    rows = judge(earned, baseline)
    result = {
        "plan": asdict(plan),
        "world": WORLD_VERSION,
        "checkpoint": {"name": Path(checkpoint).name, "sha256": model_hash(checkpoint)},
        "claims": rows,
        "scores": {
            seed: {arm: {name: score(points) for name, points in one.items()} for arm, one in by_arm.items()}
            for seed, by_arm in earned.items()
        },
        "minutes_of_trainings": round(trained, 1),
        "minutes_of_this_call": round((time.time() - started) / 60, 1),
        "machine": torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores",
    }
    _write(folder / "claims.json", result)
    (folder / "claims.md").write_text(table(rows), encoding="utf-8")
    figure(folder / "claims.png", rows)
    return result


# -- files -----------------------------------------------------------------------------------------------------------
def _whole(path: Path, read: Callable[[Path], Read]) -> Read:
    """What `read` makes of a file of the run that an earlier call has written."""
    try:
        return read(path)
    except (ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise PlanError(f"{path}: damaged; remove it and run again") from error


def _answers(path: Path) -> tuple[float, dict[str, Any], dict[str, Any]]:
    """Minutes, answers and what they earned."""
    kept = _json(path)
    return float(kept["minutes"]), kept["answers"], scene_scores(kept["answers"])


def _fitting(kept: dict[str, Any], words: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Features or clues, if there is one for each scene."""
    for task, scenes in words.items():
        if len(kept[task]) != len(scenes):
            raise ValueError(f"{len(kept[task])} for {len(scenes)} {task} scenes")
    return kept


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(part, path)


def _save(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    part = path.with_suffix(".part")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part)
    os.replace(part, path)
