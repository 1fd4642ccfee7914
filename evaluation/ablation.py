"""Which arm of the paper's ablation of clues a run is (table X): in training, at inference, in both, in none."""

from __future__ import annotations

import json
from pathlib import Path

ARMS = {
    (False, False): "none",
    (False, True): "at inference only",
    (True, False): "in training only",
    (True, True): "in training and at inference",
}


def arm_of(model: str, at_inference: bool) -> str:
    """In words, by the `training.json` that `unirs train` leaves beside the weights."""
    try:
        trained = json.loads((Path(model) / "training.json").read_text(encoding="utf-8")).get("clues")
    except (OSError, ValueError, AttributeError):
        trained = None
    if not isinstance(trained, bool):
        return f"{'at inference' if at_inference else 'not at inference'}; of the training it is not known"
    return ARMS[trained, at_inference]
