"""Weights in the released layouts, loaded by key into UniRS (until `unirs convert` does it)."""

import json
import re
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer
from unirs.modeling_unirs import UniRSConfig, UniRSForConditionalGeneration
from unirs.processing import UniRSImageProcessor, UniRSProcessor, prepare_tokenizer

CHANGE_NAMES = {
    "h_embedding.": "column_embedding.",  # the released tables are crossed
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


def rename(key: str, names: dict[str, str]) -> str:
    for old, new in names.items():
        if key.startswith(old):
            return new + key.removeprefix(old)
    raise KeyError(key)


def change_state(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Keys below `layers.change.` to keys of ChangeExtraction."""
    renamed = {}
    for key, value in state.items():
        if match := re.match(r"selftrans\.(\d+)\.([01])\.(.*)", key):
            level, block, rest = match.groups()
            if rest.startswith("att.to_v."):
                continue  # never used: the released code takes the keys for values
            block_name = "per_date" if block == "0" else "across_dates"
            renamed[f"layers.{level}.{block_name}.{rename(rest, BLOCK_NAMES)}"] = value
        else:
            renamed[rename(key, CHANGE_NAMES)] = value
    return renamed


def below(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def load_released(folder: Path) -> tuple[UniRSForConditionalGeneration, UniRSProcessor]:
    """A folder of ../shared/reference/vlm as a UniRS model and processor."""
    tokenizer = prepare_tokenizer(AutoTokenizer.from_pretrained(folder / "llm"))
    vision = json.loads((folder / "vision_tower" / "config.json").read_text())
    text = json.loads((folder / "llm" / "config.json").read_text())
    image_processor = UniRSImageProcessor(size={"height": vision["image_size"], "width": vision["image_size"]})
    processor = UniRSProcessor(image_processor, tokenizer, patch_size=vision["patch_size"], num_frames=4)
    config = UniRSConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=processor.image_token_id,
        change_token_id=processor.change_token_id,
        frame_token_ids=processor.frame_token_ids,
    )
    model = UniRSForConditionalGeneration(config).eval()

    def shards(part: str) -> dict[str, torch.Tensor]:
        return {
            key: value
            for path in sorted((folder / part).glob("*.safetensors"))
            for key, value in load_file(path).items()
        }

    llm, tower, projector = shards("llm"), shards("vision_tower"), shards("mm_projector")
    model.model.language_model.load_state_dict(below(llm, "model."))
    model.lm_head.load_state_dict(below(llm, "lm_head."))
    used = model.model.vision_tower.state_dict().keys()
    model.model.vision_tower.load_state_dict({key: below(tower, "vision_model.")[key] for key in used})
    single = below(projector, "layers.single.") or below(projector, "layers.")
    model.model.multi_modal_projector.load_state_dict(
        {rename(key, PROJECTOR_NAMES): value for key, value in single.items()}
    )
    if change := below(projector, "layers.change."):
        model.model.change_extraction.load_state_dict(change_state(change))
    model.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=64)
    return model, processor
