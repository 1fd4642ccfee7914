"""`unirs train`: a recipe and the changes to it."""

from __future__ import annotations

import errno
import json
import os
from typing import Annotated, Any

import typer

from .extras import install_command
from .model_source import find_model
from .terminal import InputError, Json, quieten

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # only a write can fail by these


def train(
    recipe: Annotated[str, typer.Argument(help="YAML file, or a recipe of the package by its name.")],
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a value, e.g. training.max_steps=3.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last whole checkpoint.")] = False,
    as_json: Json = False,
) -> None:
    """Train stage 1 or 2, an adapter, or on your own data. The recipe names every value."""
    rank = os.environ.get("RANK", "0")
    try:
        found = run(recipe, changes or [], resume, rank == "0" and not as_json)
    except InputError as error:
        if rank != "0":  # the fault may be this process's alone
            raise InputError(f"process {rank}: {error}") from error
        raise
    if as_json and rank == "0":
        typer.echo(json.dumps({"task": "train", **found}, ensure_ascii=False))


def run(name: str, changes: list[str], resume: bool, talk: bool) -> dict[str, Any]:
    """Raises `InputError` for a recipe, data or a model that cannot be used."""
    try:
        from unirs.trainers.recipe import JointTuning, load_recipe
    except ImportError as error:
        raise InputError(f"training needs more packages ({error.name}): {install_command('train')}") from error
    import torch
    from safetensors import SafetensorError

    from unirs.trainers.data_sets import DataError

    def say(line: str) -> None:
        if talk:
            typer.echo(line)

    try:
        recipe = load_recipe(name, changes)
        model = find_model(recipe.model)
        quieten()
        if isinstance(recipe, JointTuning):
            from unirs.trainers.joint_tuning import tune

            return tune(recipe, model, resume, say)
        from unirs.trainers.change_pretraining import pretrain

        return pretrain(recipe, model, resume, say)
    except DataError as error:
        raise InputError(plain(error)) from error
    except torch.OutOfMemoryError as error:
        raise InputError(
            "the accelerator's memory is full: lower training.per_device_train_batch_size (and raise "
            "training.gradient_accumulation_steps as much), or train an adapter"
        ) from error
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = why_not_saved(error)
        if reason is None:
            raise
        raise InputError(
            f"{recipe.output}: the run could not be saved ({reason}); make room and run again with --resume"
        ) from error


def why_not_saved(error: Exception) -> str | None:
    """Why a file could not be written, in words; None for any other error."""
    text = str(error)
    if isinstance(error, OSError):
        return error.strerror if error.errno in NO_ROOM else None
    if any(f"(os error {number})" in text for number in NO_ROOM):  # safetensors'
        return text.rpartition("I/O error: ")[2].partition(" (os error")[0]
    # torch.save counts what it wrote, and tells neither the file nor the reason
    cut = "inline_container.cc" in text and ("unexpected pos" in text or "PytorchStreamWriter" in text)
    return "a checkpoint was not written to its end" if cut else None


def plain(error: Exception) -> str:
    """The message alone: a loader's process sends its traceback along."""
    text = str(error).strip()
    return text.splitlines()[-1].partition(": ")[2] if "Traceback (most recent" in text else text
