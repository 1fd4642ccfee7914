"""Where each tensor of another layout belongs in UniRS, or why it is left out."""

from __future__ import annotations

import re
from collections.abc import Container

TOWER, CHANGE, PROJECTOR, LANGUAGE = (
    "model.vision_tower.",
    "model.change_extraction.",
    "model.multi_modal_projector.",
    "model.language_model.",
)

# Released names to ours. The released position tables are crossed: the one called h is indexed by column.
CHANGE_NAMES = {
    "h_embedding.": "column_embedding.",
    "w_embedding.": "row_embedding.",
    "Conv1.": "fuse.",
    "LN.left.": "bottleneck.",
}
BLOCK_NAMES = {
    "att.to_q.": "attention.q_proj.",
    "att.to_k.": "attention.k_proj.",
    "att.to_out.0.": "attention.out_proj.",
    "feedforward.net.0.": "fc1.",
    "feedforward.net.3.": "fc2.",
    "norm1.": "attention_norm.",
    "norm2.": "mlp_norm.",
}
PROJECTOR_NAMES = {"1.": "norm.", "2.": "linear_1.", "4.": "linear_2."}


def rename(key: str, names: dict[str, str]) -> str | None:
    return next((new + key.removeprefix(old) for old, new in names.items() if key.startswith(old)), None)


def prefixed(prefix: str, name: str | None) -> str | None:
    return prefix + name if name else None


def change_name(key: str) -> str | None:
    """A released name below `layers.change.` to ours below `model.change_extraction.`."""
    if match := re.fullmatch(r"selftrans\.(\d+)\.([01])\.(.*)", key):
        level, block, rest = match.groups()
        return prefixed(f"layers.{level}.{('per_date', 'across_dates')[int(block)]}.", rename(rest, BLOCK_NAMES))
    return rename(key, CHANGE_NAMES)


def place_tower(key: str) -> str:
    return TOWER + key.removeprefix("vision_model.")


def place_language(key: str) -> str | None:
    return LANGUAGE + key.removeprefix("model.") if key.startswith("model.") else key


def reason_to_leave_out(key: str, name: str | None, expected: Container[str], tied: bool) -> str | None:
    """Why a tensor of the source has no place, where that is as it should be."""
    if key.endswith((".inv_freq", ".position_ids")):
        return "is computed, not stored"
    if ".att.to_v." in key:
        return "the released code takes the keys for values and never uses this matrix"
    if tied and name == "lm_head.weight":
        return "is the same as the input embeddings"
    if name is None or not name.startswith(TOWER):
        return None
    inner = name.removeprefix(TOWER)
    if inner.startswith(("text_model.", "text_projection.", "visual_projection.", "logit_")):
        return "the text side of the vision model is not part of UniRS"
    layer = re.search(r"(.*\blayers?)\.(\d+)\.(.*)", name)
    if inner.startswith(("head.", "post_layernorm.", "layernorm.", "norm.", "pooler.")) or (
        layer and f"{layer[1]}.0.{layer[3]}" in expected
    ):
        return "lies behind the layer whose features are used"
    return None
