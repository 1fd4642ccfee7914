"""What `--model` and `--base` name: the embedded checkpoint, a folder, or a repository on the hub."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from .terminal import InputError, quieten

EMBEDDED = "unirs-tiny"
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
LONGEST_REASON = 300  # characters of another library's message that are worth showing
DType = Annotated[
    Literal["float32", "bfloat16"] | None,
    typer.Option(
        help="Of the weights. In bfloat16 they take half of float32's memory, but on the CPU an answer may then "
        "depend on what else is in its batch. [default: float32 on the CPU, else their own]"
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
        raise InputError(f"{option} {model}: no such folder, and a hub id is written OWNER/NAME")
    return name


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
    from safetensors import SafetensorError
    from transformers import AutoModelForImageTextToText, AutoProcessor

    quieten()
    try:
        network, loading = AutoModelForImageTextToText.from_pretrained(name, output_loading_info=True)
        processor = AutoProcessor.from_pretrained(name)
    except (OSError, ValueError, RuntimeError, KeyError, AttributeError, TypeError, SafetensorError) as error:
        raise InputError(f"{model or name} cannot be loaded as a UniRS model: {reason_of(error)}") from error
    # transformers fills gaps with random weights and only says so in its log.
    gaps = sorted(loading["missing_keys"]) + sorted(str(key) for key, *_ in loading["mismatched_keys"])
    if gaps:
        raise InputError(f"{model or name} lacks {len(gaps)} weights, {gaps[0]} first; copy the folder again")
    return network, processor


def load_base(base: str, processor: Any) -> Any:
    """The network that `--base` names; it must read words and pictures as the model's processor makes them."""
    network, own = load_model(base, "--base")
    if own.tokenizer.get_vocab() != processor.tokenizer.get_vocab():
        raise InputError(f"--base {base}: has another vocabulary than the model; give the base that it was tuned from")
    if own.image_processor.to_dict() != processor.image_processor.to_dict():
        raise InputError(f"--base {base}: wants other pictures than the model (its processor_config.json differs)")
    return network


def reason_of(error: Exception) -> str:
    """One line of another library's message; of a message with a traceback inside, its last line."""
    text = str(error).strip()
    line = " ".join((text.splitlines()[-1] if "Traceback (most recent" in text else text).split())
    return (line or type(error).__name__)[:LONGEST_REASON]
