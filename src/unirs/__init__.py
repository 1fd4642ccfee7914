"""UniRS: one remote-sensing vision-language model for single images, before/after pairs and clips.

Importing this package registers the Auto classes of transformers, so that `AutoModel`, `AutoProcessor` and the others
load UniRS checkpoints without `trust_remote_code`. Nothing heavy is imported for it: where transformers is not loaded
yet, registration waits until it is.
"""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._registration import register_when_transformers_loads

if TYPE_CHECKING:
    from .modeling_unirs import PromptAugmenter, UniRSConfig, UniRSForConditionalGeneration, UniRSModel
    from .processing import UniRSImageProcessor, UniRSProcessor, UniRSVideoProcessor

__version__ = "0.1.0"

_HOMES = {
    "PromptAugmenter": "modeling_unirs",
    "UniRSConfig": "modeling_unirs",
    "UniRSForConditionalGeneration": "modeling_unirs",
    "UniRSModel": "modeling_unirs",
    "UniRSImageProcessor": "processing",
    "UniRSProcessor": "processing",
    "UniRSVideoProcessor": "processing",
}


def default_checkpoint() -> str:
    """Folder of `unirs-tiny`, the small trained checkpoint inside this package."""
    return str(Path(__file__).parent / "checkpoints" / "unirs-tiny")


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])


register_when_transformers_loads()

__all__ = [
    "PromptAugmenter",
    "UniRSConfig",
    "UniRSForConditionalGeneration",
    "UniRSImageProcessor",
    "UniRSModel",
    "UniRSProcessor",
    "UniRSVideoProcessor",
    "default_checkpoint",
]
