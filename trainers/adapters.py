"""LoRA, DoRA and QLoRA by PEFT, on the language model alone unless told otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from peft import LoraConfig
from torch import nn
from transformers import BitsAndBytesConfig
from transformers.pytorch_utils import Conv1D

from ..extras import install_command
from .data_sets import DataError

# The parts that joint tuning leaves frozen (paper, section IV-B), and the head: they stay whole in a 4-bit model.
WHOLE_PARTS = ("model.vision_tower", "model.change_extraction", "model.multi_modal_projector", "lm_head")


@dataclass(frozen=True)
class Adapter:
    """What a recipe says of its adapter.

    Args:
        method: "lora"; "dora" splits size from direction; "qlora" is LoRA on a language model kept in 4 bits.
        target_modules: Regular expression of module names; None is every linear layer of the language model.
    """

    method: Literal["lora", "dora", "qlora"]
    r: int
    lora_alpha: int
    lora_dropout: float
    target_modules: str | None

    def __post_init__(self) -> None:
        if self.method not in ("lora", "dora", "qlora"):
            raise DataError(f"adapter.method is {self.method!r}; lora, dora and qlora are there")
        if self.r < 1:
            raise DataError(f"adapter.r is {self.r}; give 1 or more")

    def peft_config(self, model: nn.Module) -> LoraConfig:
        return LoraConfig(
            r=self.r,
            lora_alpha=self.lora_alpha,
            lora_dropout=self.lora_dropout,
            use_dora=self.method == "dora",
            target_modules=self.target_modules or language_model_linears(model),
            task_type="CAUSAL_LM",
        )


def language_model_linears(model: nn.Module) -> str:
    """A regular expression for the linear layers of the language model, whatever its family calls them.

    PEFT's "all-linear" would also take the vision tower and the projector; TRL refuses adapters on the head.
    """
    linear = (nn.Linear, Conv1D)
    names = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if name.startswith("model.language_model.") and isinstance(module, linear)
    }
    return rf"model\.language_model\..*\.({'|'.join(sorted(names))})"


def four_bits() -> BitsAndBytesConfig:
    """NF4 with double quantisation, as the QLoRA paper has it, for the language model alone."""
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise DataError(f"adapter.method=qlora needs bitsandbytes: {install_command('qlora')}") from error
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=list(WHOLE_PARTS),  # the name is old: it serves 4 bits too
    )
