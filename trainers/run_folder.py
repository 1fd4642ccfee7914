"""The folder of a run: its recipe, its log, its checkpoints, and which of these is whole."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers.trainer_callback import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from .data_sets import DataError
from .recipe import ChangePretraining, JointTuning, as_yaml

RECIPE, LOG, CHECKPOINTS, BAD_ROWS = "recipe.yaml", "log.jsonl", "checkpoints", "bad_rows.jsonl"
RECORD = "training.json"  # comes last: where it is, the model beside it is whole


def process_state() -> PartialState:
    """This process among those of the run; without an accelerator they must be told to meet on the CPU."""
    return PartialState(cpu=not torch.accelerator.is_available())


class RunFolder:
    """Args: recipe: Whose `output` the folder is."""

    def __init__(self, recipe: JointTuning | ChangePretraining):
        self.recipe = recipe
        self.path = Path(recipe.output).expanduser()
        self.checkpoints, self.log, self.bad_rows = self.path / CHECKPOINTS, self.path / LOG, self.path / BAD_ROWS

    def prepare(self, resume: bool) -> None:
        """Makes the folder with the resolved recipe, or checks that a run to resume is this one.

        Raises:
            DataError: The folder holds something else, or a run by another recipe.
        """
        file = self.path / RECIPE
        text = as_yaml(self.recipe)
        if self._is_untouched():  # stopped before its first step: nothing to go on from, and nothing to lose
            file.write_text(text, encoding="utf-8")
            self.bad_rows.unlink(missing_ok=True)
            return
        if resume and file.is_file():
            if file.read_text(encoding="utf-8") != text:
                lines = sorted(set(text.splitlines()) ^ set(file.read_text(encoding="utf-8").splitlines()))
                changed = ", ".join(dict.fromkeys(line.strip().partition(":")[0] for line in lines))
                raise DataError(
                    f"{file}: the run to resume has other values for {changed}; take them over, or start anew"
                )
            return
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            hint = "go on with --resume, or " if file.is_file() and not resume else ""
            raise DataError(f"{self.path}: is there already; {hint}give another folder by --set output=FOLDER")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        except OSError as error:
            raise DataError(f"{self.path}: cannot be written ({error.strerror})") from error

    def _is_untouched(self) -> bool:
        """Whether there is a recipe, and no step of it was logged."""
        if not (self.path / RECIPE).is_file():
            return False
        logged = self.log.is_file() and self.log.stat().st_size > 0
        kept = self.checkpoints.is_dir() and any(self.checkpoints.iterdir())
        others = {one.name for one in self.path.iterdir()} - {RECIPE, LOG, BAD_ROWS, CHECKPOINTS}
        return not (logged or kept or others)

    def write_record(self, record: dict[str, Any]) -> None:
        """Ends the run, when all else is written; whole or not at all."""
        partial = self.path / f"{RECORD}.writing"
        partial.write_text(json.dumps(record, indent=1), encoding="utf-8")
        os.replace(partial, self.path / RECORD)

    def last_checkpoint(self, processes: int = 1) -> Path | None:
        """The newest checkpoint that was written to its end; a killed run may leave a half one."""
        found = sorted(self.checkpoints.glob(f"{PREFIX_CHECKPOINT_DIR}-*"), key=_step, reverse=True)
        return next((folder for folder in found if _is_whole(folder, processes)), None)

    def done(self, processes: int = 1) -> dict[str, Any] | None:
        """The Trainer's state of a run that is over: its last step is a checkpoint, and its model lies here, whole."""
        checkpoint = self.last_checkpoint(processes)
        if checkpoint is None or not (self.path / RECORD).is_file() or not any(self.path.glob("*.safetensors")):
            return None
        state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        return state if state["global_step"] >= state["max_steps"] else None


def _step(folder: Path) -> int:
    number = folder.name.rpartition("-")[2]
    return int(number) if number.isdigit() else -1


def _is_whole(folder: Path, processes: int) -> bool:
    """The Trainer writes its state last of all, each process its generators' states before."""
    try:
        json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    names = ["rng_state.pth"] if processes == 1 else [f"rng_state_{rank}.pth" for rank in range(processes)]
    return all((folder / name).is_file() for name in names)


class LogFile(TrainerCallback):
    """Every log of the Trainer as a line of JSON; a resumed run continues where its checkpoint was."""

    def __init__(self, file: Path):
        self.file = file

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            lines = [json.dumps(logs) for logs in state.log_history]
            self.file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def on_log(self, args, state, control, logs=None, **kwargs):
        if state.is_world_process_zero and state.log_history:
            with self.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(state.log_history[-1]) + "\n")
                file.flush()
                os.fsync(file.fileno())
