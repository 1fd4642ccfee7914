"""Models of the paper's full size with random weights, a LLaVA on the same weights, and the limits of this machine."""

import os
import platform
import re
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from transformers import AutoProcessor, LlavaConfig, LlavaForConditionalGeneration, StoppingCriteria
from unirs.modeling_unirs import UniRSConfig, UniRSForConditionalGeneration
from unirs.modeling_unirs.configuration_unirs import DEFAULT_TEXT, DEFAULT_VISION
from unirs.processing import UniRSImageProcessor, UniRSProcessor

import unirs

FRAMES = 8
SMALL = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 2}
BLOCK = 2**22
MATRIX = 4096  # rows and columns of the product that the matmul rate is measured with
COPIED = 2**30  # bytes of the copy that the memory rate is measured with


def fill(module: nn.Module, seed: int = 0) -> None:
    """Random matrices of deviation 0.02, ones for scales, zeros for the rest; in place, without a second copy."""
    rng = torch.Generator().manual_seed(seed)
    drawn = torch.randn(BLOCK, generator=rng).mul(0.02).to(torch.bfloat16)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            block = drawn.to(tensor.device)
            if tensor.ndim > 1:
                flat = tensor.view(-1)
                for start in range(0, len(flat), BLOCK):
                    flat[start : start + BLOCK] = block[: len(flat) - start]
                    block = block.roll(7919)
                drawn = block
            else:
                tensor.fill_(1 if "norm" in name or "var" in name or name.endswith("weight") else 0)


def build(small: bool, seed: int = 0, device: str = "cpu") -> tuple[UniRSForConditionalGeneration, UniRSProcessor]:
    """UniRS of SigLIP-so400m and a LLaMA of 2.7 B weights, bfloat16, that says words of letters only."""
    tokenizer = AutoProcessor.from_pretrained(unirs.default_checkpoint()).tokenizer
    image_processor = UniRSImageProcessor(size={"height": 384, "width": 384})
    processor = UniRSProcessor(image_processor, tokenizer, patch_size=14, num_frames=FRAMES)
    vision, text = ({**one, **(SMALL if small else {})} for one in (DEFAULT_VISION, DEFAULT_TEXT))
    text = {**text, "num_key_value_heads": text["num_attention_heads"]}
    config = UniRSConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=processor.image_token_id,
        change_token_id=processor.change_token_id,
        frame_token_ids=processor.frame_token_ids,
    )
    with torch.device("meta"):
        model = UniRSForConditionalGeneration(config).to(torch.bfloat16)
    model.to_empty(device=device).eval()
    fill(model, seed)
    rotary = type(model.model.language_model.rotary_emb)(model.config.text_config)
    model.model.language_model.rotary_emb = rotary.to(device)
    tower = model.model.vision_tower
    if hasattr(tower.embeddings, "position_ids"):
        tower.embeddings.position_ids = torch.arange(tower.embeddings.num_positions, device=device)[None]
    # Only words are said: rows of zeros never win against random ones.
    said = [place for place in range(3, len(tokenizer)) if place not in processor.frame_token_ids]
    said = [place for place in said if tokenizer.decode([place]).strip().isalpha()]
    spoken = torch.zeros(len(model.lm_head.weight), dtype=torch.bool)
    spoken[said] = True
    with torch.no_grad():
        model.lm_head.weight[(~spoken).to(device)] = 0
    model.generation_config.eos_token_id = None  # lengths are forced
    model.generation_config.pad_token_id = 0
    return model, processor


def build_llava(model: UniRSForConditionalGeneration) -> LlavaForConditionalGeneration:
    """transformers' LLaVA around `model`'s own tower and language model: 729 tokens an image, layer -2 of 27."""
    config = LlavaConfig(
        vision_config=model.config.vision_config.to_dict(),
        text_config=model.config.text_config.to_dict(),
        image_token_index=model.config.image_token_id,
        vision_feature_layer=-2,
        vision_feature_select_strategy="full",
        image_seq_length=model.config.vision_grid**2,
    )
    with torch.device("meta"):
        peer = LlavaForConditionalGeneration(config).to(torch.bfloat16)
    ours, tower = model.model, peer.model.vision_tower
    peer.model.language_model, peer.lm_head = ours.language_model, model.lm_head
    last = len(tower.encoder.layers) - 1
    tower.embeddings = ours.vision_tower.embeddings
    for place, layer in enumerate(ours.vision_tower.encoder.layers):
        tower.encoder.layers[place] = layer
    for part in (tower.encoder.layers[last], tower.post_layernorm, peer.model.multi_modal_projector):
        part.to_empty(device=model.device)
        fill(part)
    peer.generation_config = model.generation_config
    return peer.eval()


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (384, 384, 3), dtype=np.uint8))


def limits(small: bool = False) -> dict[str, float]:
    """What this machine can: GFLOP/s of a large bfloat16 matrix product, GB/s of reading; the best of five each."""
    side, size = (512, 2**24) if small else (MATRIX, COPIED)
    left, right = (torch.randn(side, side).to(torch.bfloat16) for _ in range(2))
    source = torch.ones(size, dtype=torch.uint8)
    target = torch.zeros_like(source)
    products, copies = [], []
    for _ in range(5):
        started = time.perf_counter()
        left @ right
        products.append(time.perf_counter() - started)
        started = time.perf_counter()
        target.copy_(source)
        copies.append(time.perf_counter() - started)
    # a copy reads as much as it writes, so its bytes a second are half of what the memory moves
    return {
        "matmul_gflops": round(2 * side**3 / min(products) / 1e9, 1),
        "memory_read_gb_per_s": round(size / min(copies) / 1e9, 2),
    }


class TokenClock(StoppingCriteria):
    """Notes when each token came; stops nothing."""

    def __init__(self):
        self.times: list[float] = []

    def __call__(self, input_ids, scores, **kwargs):
        input_ids[0, -1].item()  # waits for an accelerator
        self.times.append(time.perf_counter())
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


@torch.no_grad()
def answer(model, inputs, tokens: int, **options) -> dict:
    """Seconds to the first token, the median of those between the later ones, and what was said."""
    clock, started = TokenClock(), time.perf_counter()
    said = model.generate(**inputs, max_new_tokens=tokens, do_sample=False, stopping_criteria=[clock], **options)
    steps = [later - earlier for earlier, later in zip(clock.times, clock.times[1:], strict=False)]
    return {
        "first_token": clock.times[0] - started,
        "second_token": steps[0],
        "a_token": median(steps[2:]),
        "all": time.perf_counter() - started,
        "said": said[0, inputs["input_ids"].shape[1] :].tolist(),
    }


def machine() -> dict[str, str | int]:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "machine": f"{os.cpu_count()} cores ({found[1] if found else platform.machine()})",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def median(values: list[float]) -> float:
    return round(statistics.median(values), 3)
