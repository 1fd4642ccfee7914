"""The folder of a run: its recipe, its log, its checkpoints, and which of these is whole."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers.trainer_callback import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..file_lock import locked_folder
from .data_sets import DataError
from .recipe import ChangePretraining, JointTuning, as_yaml

RECIPE, LOG, CHECKPOINTS, BAD_ROWS = "recipe.yaml", "log.jsonl", "checkpoints", "bad_rows.jsonl"
DATA = "data.json"  # what was trained on: the recipe names files, whose content may change
TRIES, PATIENCE = 20, 10.0  # seconds
RECORD = "training.json"  # comes last: where it is, the model beside it is whole


def process_state() -> PartialState:
    """This process among those of the run; without an accelerator they must be told to meet on the CPU."""
    return PartialState(cpu=not torch.accelerator.is_available())


def begun_from(checkpoint: Path | None) -> str:
    """What a resumed run says of its start."""
    return f"resuming from {checkpoint}" if checkpoint else "no whole checkpoint yet: starting from the first step"


def _but_bad_rows(recipe: str) -> list[str]:
    """Its lines: a run that a bad row stopped may go on without it."""
    return [line for line in recipe.splitlines() if not line.startswith("bad_rows:")]


class RunFolder:
    """Args: recipe: Whose `output` the folder is."""

    def __init__(self, recipe: JointTuning | ChangePretraining):
        self.recipe = recipe
        self.path = Path(recipe.output).expanduser()
        self.checkpoints, self.log, self.bad_rows = self.path / CHECKPOINTS, self.path / LOG, self.path / BAD_ROWS

    @contextmanager
    def held(self, by_us: bool) -> Iterator[None]:
        """Makes the folder, and no other run writes into it as long as this lasts.

        Args:
            by_us: Not so for processes of a run beside the first.

        Raises:
            DataError: Another run does, still after some seconds: so long live the loaders of one that was killed.
        """
        if not by_us:
            yield
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise DataError(f"{self.path}: is a file; give a folder by --set output=FOLDER") from error
        except OSError as error:
            raise DataError(f"{self.path}: cannot be written ({error.strerror})") from error
        with ExitStack() as held:
            for left in reversed(range(TRIES)):
                if held.enter_context(locked_folder(self.path)):
                    break
                held.close()
                if not left:
                    raise DataError(f"{self.path}: another run is writing there; wait for it, or give another output")
                time.sleep(PATIENCE / TRIES)
            yield

    def prepare(self, resume: bool, data: dict[str, Any]) -> None:
        """Makes the folder with the resolved recipe, or checks that a run to resume is this one.

        Args:
            data: What tells the data sets from others (`recipe_data.data_record`).

        Raises:
            DataError: The folder holds something else, or a run by another recipe or on other data.
        """
        file = self.path / RECIPE
        text = as_yaml(self.recipe)
        if self._is_untouched():  # stopped before its first step: nothing to go on from, and nothing to lose
            self._begin(text, data)
            self.bad_rows.unlink(missing_ok=True)
            return
        if resume and file.is_file():
            before = file.read_text(encoding="utf-8")
            if _but_bad_rows(text) != _but_bad_rows(before):
                lines = sorted(set(text.splitlines()) ^ set(before.splitlines()))
                changed = ", ".join(dict.fromkeys(line.strip().partition(":")[0] for line in lines))
                raise DataError(
                    f"{file}: the run to resume has {f'other values for {changed}' if changed else 'another order'}; "
                    "take them over, or start anew"
                )
            self._check_data(data)
            if text != before:
                file.write_text(text, encoding="utf-8")
            return
        if self.path.exists() and any(self.path.iterdir()):
            hint = "go on with --resume, or " if file.is_file() and not resume else ""
            raise DataError(f"{self.path}: is there already; {hint}give another folder by --set output=FOLDER")
        try:
            self._begin(text, data)
        except OSError as error:
            raise DataError(f"{self.path}: cannot be written ({error.strerror})") from error

    def _begin(self, recipe: str, data: dict[str, Any]) -> None:
        (self.path / RECIPE).write_text(recipe, encoding="utf-8")
        (self.path / DATA).write_text(json.dumps(data, indent=1), encoding="utf-8")

    def _check_data(self, data: dict[str, Any]) -> None:
        file = self.path / DATA
        if not file.is_file():  # a run of an older version
            return
        before = json.loads(file.read_text(encoding="utf-8"))
        for name, now in data.items():
            if now != before.get(name):
                then = before.get(name, {}).get("samples")
                how = f"{then} samples, now {now['samples']}" if then != now["samples"] else "other labels"
                raise DataError(
                    f"{file}: the run to resume was begun with other data for {name} ({how}); put the old files "
                    "back, or start anew with another output"
                )

    def _is_untouched(self) -> bool:
        """Whether there is a recipe, and no step of it was logged."""
        if not (self.path / RECIPE).is_file():
            return False
        logged = self.log.is_file() and self.log.stat().st_size > 0
        kept = self.checkpoints.is_dir() and any(self.checkpoints.iterdir())
        others = {one.name for one in self.path.iterdir()} - {RECIPE, DATA, LOG, BAD_ROWS, CHECKPOINTS}
        return not (logged or kept or others)

    def write_record(self, record: dict[str, Any]) -> None:
        """Ends the run, when all else is written; whole or not at all."""
        partial = self.path / f"{RECORD}.writing"
        partial.write_text(json.dumps(record, indent=1), encoding="utf-8")
        os.replace(partial, self.path / RECORD)

    def last_checkpoint(self, processes: int = 1) -> Path | None:
        """The newest checkpoint that was written to its end; a killed run may leave a half one.

        Raises:
            DataError: There are such, and none that so many processes can go on from.
        """
        found = sorted(self.checkpoints.glob(f"{PREFIX_CHECKPOINT_DIR}-*"), key=_step, reverse=True)
        whole = {folder: writers for folder in found if (writers := _written_by(folder)) is not None}
        for folder, writers in whole.items():
            if writers == processes:
                return folder
        for folder, writers in whole.items():
            if writers:
                raise DataError(
                    f"{folder}: was written by a run of {writers} process{'es' * (writers > 1)}, and this one has "
                    f"{processes}; go on with {writers}, or start anew with another output"
                )
            raise DataError(
                f"{folder}: holds the model alone (training.save_only_model), so the run cannot go on from it; start "
                "anew with another output"
            )
        return None

    def done(self) -> list[dict[str, Any]] | None:
        """The log of a run that is over: its record, which comes last, and its model lie here."""
        file = self.path / RECORD
        if not file.is_file() or not any(self.path.glob("*.safetensors")):
            return None
        return json.loads(file.read_text(encoding="utf-8"))["log"]


def _step(folder: Path) -> int:
    number = folder.name.rpartition("-")[2]
    return int(number) if number.isdigit() else -1


def _written_by(folder: Path) -> int | None:
    """Processes that wrote a checkpoint, 0 where it is the model alone; None for one that was not written to its end.

    The Trainer writes its state last of all, each process its generators' state before.
    """
    try:
        json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if (folder / "rng_state.pth").is_file():
        return 1
    several = len(list(folder.glob("rng_state_*.pth")))
    return None if several == 1 else several  # of several processes, the others were killed


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
