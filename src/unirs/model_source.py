"""What `--model` and `--base` name: the embedded checkpoint, a folder, or a repository on the hub."""

from __future__ import annotations

import json
import os
import re
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .terminal import InputError, busy, quieten

if TYPE_CHECKING:
    from unirs.evaluation.models import ImageTextModel

EMBEDDED = "unirs-tiny"
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
DType = Annotated[
    Literal["float32", "bfloat16"] | None,
    typer.Option(
        help="Of the weights. In bfloat16 they take half of float32's memory, but on the CPU an answer may then "
        "depend on what else is in its batch.",
        show_default="float32 on the CPU, else their own",
    ),
]


def find_model(model: str | None, option: str = "--model") -> str:
    """Folder or hub id to load. What is plainly neither is told at once, not after minutes of asking the hub."""
    import unirs

    if model is None or (model == EMBEDDED and not os.path.exists(model)):
        name = unirs.default_checkpoint()
        if not os.path.isfile(os.path.join(name, "config.json")):
            raise InputError(f"this installation has no embedded checkpoint at {name}; reinstall it or give --model")
        return name
    if not model:
        raise InputError(f"{option}: the name is empty; give a folder or a hub id")
    name = os.path.expanduser(model)
    if os.path.isdir(name):
        check_model_folder(Path(name), option)
    elif os.path.exists(name):
        raise InputError(f"{option} {model}: is a file; give the folder that holds config.json")
    elif not HUB_ID.fullmatch(name):
        meant = _folder_of_that_name(name)
        hint = f"; did you mean {meant}?" if meant else ", and a hub id is written OWNER/NAME"
        raise InputError(f"{option} {model}: no such folder{hint}")
    elif meant := _folder_of_that_name(name):  # the hub would be asked for it in vain, for a minute
        raise InputError(
            f"{option} {model}: no such folder; did you mean {meant}? (To ask the hub for {name}, run this elsewhere.)"
        )
    else:
        _tell_of_the_hub(name)
    return name


def _folder_of_that_name(name: str) -> Path | None:
    """A folder that is there and has almost this name."""
    parent = Path(name).parent
    try:
        close = get_close_matches(Path(name).name, sorted(one.name for one in parent.iterdir() if one.is_dir()))
    except OSError:  # there is no such parent, or it may not be read
        return None
    return parent / close[0] if close else None


@lru_cache  # once, though several look for it
def _tell_of_the_hub(name: str) -> None:
    typer.echo(f"{name}: no such folder here; asking the Hugging Face hub for it", err=True)


def find_any_model(model: str | None) -> str:
    """As `find_model`, for commands that also take models of other kinds."""
    name = os.path.expanduser(model or EMBEDDED)
    config = Path(name) / "config.json"
    if not config.is_file() or (Path(name) / "adapter_config.json").is_file():
        return find_model(model)
    try:
        kind = json.loads(config.read_text(encoding="utf-8")).get("model_type")
    except (ValueError, AttributeError):
        kind = "unirs"  # damaged: told by the usual check
    return find_model(model) if kind == "unirs" else name


def check_model_folder(folder: Path, option: str = "--model") -> None:
    """A folder of another model would load half-way and fail with a riddle."""
    if (folder / "adapter_config.json").is_file():  # LoRA: transformers finds its base model
        return
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(f"{option} {folder}: holds no config.json; give the folder of a saved UniRS model")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # cut or no text at all
        raise InputError(f"{option} {folder}: its config.json is damaged ({error}); copy the folder again") from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != "unirs":
        raise InputError(f"{option} {folder}: is a model of type {kind}, not unirs")
    for name in ("processor_config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise InputError(
                f"{option} {folder}: lacks {name}; save the processor there too, or copy the folder again"
            )


def load_model(model: str | None, option: str = "--model") -> tuple[Any, Any]:
    """Network and processor of what `--model` names; an adapter's folder brings its base model along.

    Raises:
        InputError: It cannot be loaded, or lacks weights.
    """
    name = find_model(model, option)
    from unirs.hub.loading import LoadingError, load_network

    quieten()
    try:
        return load_network(name)
    except LoadingError as error:
        raise InputError(f"{model or name} {error}") from error


def load_for_answers(name: str, dtype: str | None) -> ImageTextModel:
    """What serve and predict ask: on the accelerator where there is one.

    On the CPU in float32 unless told otherwise: an answer there is the same whatever else is in its batch.

    Args:
        name: Of `find_model` or `find_any_model`.
        dtype: A name of `DType`.

    Raises:
        InputError: It cannot be loaded, or lacks weights.
    """
    import torch

    from unirs.evaluation.models import load_model as load
    from unirs.trainers.data_sets import DataError

    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    try:
        with busy("Loading the model"):
            return load(name, device or "cpu", getattr(torch, dtype) if dtype else None)
    except DataError as error:
        raise InputError(str(error)) from error


def load_base(base: str, processor: Any) -> Any:
    """The network that `--base` names; it must read words and pictures as the model's processor makes them."""
    network, own = load_model(base, "--base")
    if own.tokenizer.get_vocab() != processor.tokenizer.get_vocab():
        raise InputError(f"--base {base}: has another vocabulary than the model; give the base that it was tuned from")
    if own.image_processor.to_dict() != processor.image_processor.to_dict():
        raise InputError(f"--base {base}: wants other pictures than the model (its processor_config.json differs)")
    return network
