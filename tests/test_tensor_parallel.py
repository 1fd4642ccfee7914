"""The tensor-parallel plan that transformers and vLLM read: LLaMA's own, at UniRS's names."""

import re

import pytest
import torch
from transformers import AutoConfig

import unirs
from unirs import UniRSConfig, UniRSForConditionalGeneration

# The dimension of a weight (out, in) that each style cuts.
CUT = {"colwise": 0, "colwise_gather_output": 0, "rowwise": 1, "embedding_rowwise": 0}


@pytest.fixture(scope="module", params=["paper", "embedded"])
def model(request):
    paper = request.param == "paper"
    config = UniRSConfig() if paper else AutoConfig.from_pretrained(unirs.default_checkpoint())
    with torch.device("meta"):
        return UniRSForConditionalGeneration(config)


@pytest.mark.parametrize("degree", [2, 4])
def test_plan_cuts_every_matrix_of_the_language_model_into_equal_parts(model, degree):
    """And nothing else: tower, Change Extraction and projector stand whole on every device."""
    plan = model.tp_plan
    cut = set()
    for name, weight in model.named_parameters(remove_duplicate=False):
        style = plan.get(re.sub(r"\d+", "*", name.removesuffix(".weight")))
        if style is not None:
            assert weight.shape[CUT[style]] % degree == 0, name
            cut.add(name)
    assert {re.sub(r"\d+", "*", name.removesuffix(".weight")) for name in cut} == plan.keys()  # no rule is idle
    words = ("model.language_model.", "lm_head.")
    matrices = {name for name, weight in model.named_parameters(remove_duplicate=False) if weight.ndim > 1}
    assert cut == {name for name in matrices if name.startswith(words)}
    text = model.config.text_config
    for heads in (text.num_attention_heads, text.num_key_value_heads):
        assert heads % degree == 0  # whole heads on every device


def test_plan_of_the_headless_model_is_the_same_without_the_head(model):
    headless = {f"model.{name}": style for name, style in model.model.tp_plan.items()}
    assert {**headless, "lm_head": "colwise_gather_output"} == model.tp_plan
