"""What `--model` names: the embedded checkpoint, a folder, or a repository on the hub."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from .terminal import InputError

EMBEDDED = "unirs-tiny"
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def find_model(model: str | None) -> str:
    """Folder or hub id to load. What is plainly neither is told at once, not after minutes of asking the hub."""
    import unirs

    if model is None or (model == EMBEDDED and not os.path.exists(model)):
        name = unirs.default_checkpoint()
        if not os.path.isfile(os.path.join(name, "config.json")):
            raise InputError(f"this installation has no embedded checkpoint at {name}; reinstall it or give --model")
        return name
    if not model:
        raise InputError("--model: the name is empty; give a folder or a hub id")
    name = os.path.expanduser(model)
    if os.path.isdir(name):
        check_model_folder(Path(name))
    elif os.path.exists(name):
        raise InputError(f"--model {model}: is a file; give the folder that holds config.json")
    elif not HUB_ID.fullmatch(name):
        raise InputError(f"--model {model}: no such folder, and a hub id is written OWNER/NAME")
    return name


def check_model_folder(folder: Path) -> None:
    """A folder of another model would load half-way and fail with a riddle."""
    if (folder / "adapter_config.json").is_file():  # LoRA: transformers finds its base model
        return
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(f"--model {folder}: holds no config.json; give the folder of a saved UniRS model")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # cut or no text at all
        raise InputError(f"--model {folder}: its config.json is damaged ({error}); copy the folder again") from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != "unirs":
        raise InputError(f"--model {folder}: is a model of type {kind}, not unirs")
    for name in ("processor_config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise InputError(f"--model {folder}: lacks {name}; save the processor there too, or copy the folder again")
