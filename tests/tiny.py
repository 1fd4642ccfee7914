"""A complete UniRS of a few thousand weights: random, seeded, on CPU."""

import copy
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast
from unirs.modeling_unirs import UniRSConfig, UniRSForConditionalGeneration
from unirs.processing import UniRSImageProcessor, UniRSProcessor, prepare_tokenizer

SIZE = 28  # pixels; a 4x4 grid of 7-pixel patches, so 4 tokens for a picture
PATCH = 7


def raw_tokenizer() -> PreTrainedTokenizerFast:
    """LLaMA's kind: byte fallback, a space is U+2581, written before the first piece; a token for each byte."""
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2}
    for byte in range(256):
        vocabulary[f"<0x{byte:02X}>"] = len(vocabulary)
    for piece in ["\u2581", *(chr(code) for code in range(33, 127))]:
        vocabulary.setdefault(piece, len(vocabulary))
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    backend.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<unk>"
    )


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    return prepare_tokenizer(raw_tokenizer())


def tiny_processor(tokenizer, **kwargs) -> UniRSProcessor:
    image_processor = UniRSImageProcessor(size={"height": SIZE, "width": SIZE})
    return UniRSProcessor(image_processor, tokenizer, patch_size=PATCH, **{"num_frames": 4, **kwargs})


def tiny_config(processor, **kwargs) -> UniRSConfig:
    settings = {
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 37,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_size": SIZE,
            "patch_size": PATCH,
        },
        "text_config": {
            "model_type": "llama",
            "hidden_size": 32,
            "intermediate_size": 37,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": -(-len(processor.tokenizer) // 64) * 64,
            "max_position_embeddings": 1024,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 0,
        },
        "image_token_id": processor.image_token_id,
        "change_token_id": processor.change_token_id,
        "frame_token_ids": processor.frame_token_ids,
    }
    return UniRSConfig(**{**settings, **kwargs})


def tiny_model(processor, **kwargs) -> UniRSForConditionalGeneration:
    """Weights are drawn so wide that attention is sharp and pictures change the answers."""
    torch.manual_seed(1)
    model = UniRSForConditionalGeneration(tiny_config(processor, **kwargs)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=1.5 * parameter[0].numel() ** -0.5)
    # As a trained checkpoint has it: no marker and no row of padding is ever said.
    vocabulary = model.config.text_config.vocab_size
    spoken = len(processor.tokenizer) - len(processor.frame_token_ids) - 2
    model.generation_config.suppress_tokens = list(range(spoken, vocabulary))
    return model


def save_tiny_model(processor, folder: Path) -> Path:
    """A tiny model and its processor in a folder, as users have them."""
    tiny_model(processor).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def picture(seed: int, width: int = SIZE, height: int = SIZE) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def user(*content) -> list[dict]:
    """A conversation of one user turn. Pictures become image items, lists clips, strings text."""
    items = []
    for one in content:
        kind = "text" if isinstance(one, str) else "video" if isinstance(one, list) else "image"
        items.append({"type": kind, kind: one})
    return [{"role": "user", "content": items}]


def encode(processor, conversations, **kwargs):
    template = {name: kwargs.pop(name) for name in ("change_extraction", "task_tag") if name in kwargs}
    return processor.apply_chat_template(
        conversations,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True, "padding_side": "left", **kwargs},
        **template,
    )


def other_words(model, seed=7) -> UniRSForConditionalGeneration:
    """A copy with another language model behind the same tower and projector."""
    other = copy.deepcopy(model)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in [*other.model.language_model.parameters(), *other.lm_head.parameters()]:
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=1.5 * parameter[0].numel() ** -0.5)
    return other


def with_lora(model, targets=r".*language_model.*\.(q_proj|v_proj|down_proj)", **kwargs):
    torch.manual_seed(3)
    config = LoraConfig(target_modules=targets, init_lora_weights=False, r=4, lora_alpha=16, **kwargs)
    return get_peft_model(copy.deepcopy(model), config).eval()
