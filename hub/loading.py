"""A network and its processor from a folder or the hub, whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText, AutoProcessor

LONGEST_REASON = 300  # characters of another library's message that are worth showing
FAILURES = (
    OSError,
    ValueError,
    RuntimeError,
    KeyError,
    AttributeError,
    TypeError,
    ImportError,  # processors that also read video need torchvision
    SafetensorError,
)


class LoadingError(Exception):
    """It cannot be loaded, or lacks weights; one line, to be put behind the model's name."""


def load_network(name: str, dtype: torch.dtype | str = "auto", kind: str = "a UniRS model") -> tuple[Any, Any]:
    """Network and processor of a folder or hub id; an adapter's folder (PEFT) brings its base model along.

    Args:
        dtype: "auto" is the checkpoint's own.
        kind: What was wanted, for the message.

    Raises:
        LoadingError: It cannot be loaded, or weights are missing.
    """
    try:
        network, loading = AutoModelForImageTextToText.from_pretrained(name, dtype=dtype, output_loading_info=True)
        processor = AutoProcessor.from_pretrained(_processor_folder(name))
    except FAILURES as error:
        raise LoadingError(f"cannot be loaded as {kind}: {reason_of(error)}") from error
    check_whole(loading)
    return network, processor


def check_whole(loading: dict[str, Any]) -> None:
    """transformers fills gaps with random weights and only says so in its log.

    Args:
        loading: Of `from_pretrained(output_loading_info=True)`.

    Raises:
        LoadingError: Weights are missing, or of another shape.
    """
    gaps = sorted(loading["missing_keys"]) + sorted(str(key) for key, *_ in loading["mismatched_keys"])
    if gaps:
        raise LoadingError(f"lacks {len(gaps)} weights, {gaps[0]} first; copy the folder again")


def adapter_base(name: str) -> str | None:
    """The model that a folder's adapter (PEFT) sits on; None where the folder is no adapter."""
    file = Path(name) / "adapter_config.json"
    if not file.is_file():
        return None
    return json.loads(file.read_text(encoding="utf-8")).get("base_model_name_or_path")


def reason_of(error: Exception) -> str:
    """One line of another library's message; of a message with a traceback inside, its last line."""
    text = str(error).strip()
    line = " ".join((text.splitlines()[-1] if "Traceback (most recent" in text else text).split())
    return (line or type(error).__name__)[:LONGEST_REASON]


def _processor_folder(name: str) -> str:
    """The model's own, or, of an adapter saved without one, its base's."""
    base = adapter_base(name)
    return base if base and not os.path.isfile(os.path.join(name, "processor_config.json")) else name
