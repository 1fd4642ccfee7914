"""The released checkpoints of ../shared/reference/vlm, taken in by `unirs convert`."""

from pathlib import Path

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor
from unirs.hub.convert import convert
from unirs.hub.released_names import change_name
from unirs.modeling_unirs import UniRSForConditionalGeneration
from unirs.processing import UniRSProcessor


def load_released(folder: Path, target: Path) -> tuple[UniRSForConditionalGeneration, UniRSProcessor]:
    """A folder in a released layout, converted to `target`, as a UniRS model and processor."""
    convert(folder, target)
    model = AutoModelForImageTextToText.from_pretrained(target, dtype=torch.float32).eval()
    return model, AutoProcessor.from_pretrained(target)


def below(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def change_state(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Keys below `layers.change.` to keys of ChangeExtraction; the unused value matrices go."""
    renamed = {change_name(key): value for key, value in state.items() if ".att.to_v." not in key}
    assert None not in renamed
    return {str(key): value for key, value in renamed.items()}
