"""Our kernels say what LLaMA says: by Triton's interpreter, and, where there is a GPU, on it.

`make test-kernels` brings Triton, which the CPU build of PyTorch does not.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaModel, StaticCache

from tests.test_graph_decoding import decoder, prompts, says, spoken  # noqa: F401
from tests.tiny import tiny_model
from unirs.graph_decoding import GraphDecoder

ON_A_GPU = torch.cuda.is_available()
if not ON_A_GPU and not os.environ.get("TRITON_INTERPRET"):
    # It must be set before Triton is first imported.
    pytest.skip("needs an NVIDIA GPU or Triton's interpreter: make test-kernels", allow_module_level=True)
pytest.importorskip("triton", reason="needs Triton: make test-kernels")
DEVICE = "cuda" if ON_A_GPU else "cpu"
WORDS, ROOM, PROMPT, TOKENS = 130, 32, 10, 12


@pytest.fixture(scope="module")
def kernels():
    """The module, with other blocks: small ones of columns and places, and few programs."""
    from unirs import llama_kernels

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(llama_kernels, "COLUMNS", 64)
        patch.setattr(llama_kernels, "KEYS", 8)
        patch.setattr(llama_kernels, "ROWS", dict.fromkeys(llama_kernels.ROWS, 32))
        yield llama_kernels


def llama(heads, kept, width, inner, **settings):
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=width, intermediate_size=inner, num_hidden_layers=2, num_attention_heads=heads,
        num_key_value_heads=kept, head_dim=16, vocab_size=WORDS, **settings,
    )  # fmt: skip
    model, head = LlamaModel(config).eval(), nn.Linear(width, WORDS, bias=False)
    for weight in (*model.parameters(), head.weight):
        nn.init.normal_(weight, std=0.3)
        weight.requires_grad_(False)
    return model.to(DEVICE), head.to(DEVICE)


def filled_cache(model):
    """With a prompt, and what the model says of its last token."""
    cache = StaticCache(config=model.config, max_cache_len=ROOM)
    ids = torch.arange(3, 3 + PROMPT, device=DEVICE)[None]
    return cache, model(input_ids=ids, past_key_values=cache, use_cache=True).last_hidden_state[:, -1]


@torch.no_grad()
def by_transformers(model, head, silent):
    cache, hidden = filled_cache(model)
    said = []
    for number in range(TOKENS + 1):
        token = head(hidden).masked_fill(silent, -torch.inf).argmax(-1, keepdim=True)
        said.append(int(token))
        place = torch.tensor([[PROMPT + number]], device=DEVICE)
        hidden = model(input_ids=token, position_ids=place, past_key_values=cache, use_cache=True).last_hidden_state[
            :, -1
        ]
    return said, cache


@torch.no_grad()
def by_kernels(kernels, model, head, silent, first):
    cache, _ = filled_cache(model)
    step = kernels.LlamaStep(model, head, cache)
    token = torch.tensor([[first]], device=DEVICE)
    place = torch.tensor([[PROMPT]], device=DEVICE)
    said = torch.zeros(1, ROOM, dtype=torch.long, device=DEVICE)
    for _ in range(TOKENS):
        step(token, place, said, silent)
    assert int(place) == PROMPT + TOKENS
    assert int(token) == int(said[0, PROMPT + TOKENS])
    return said[0, PROMPT + 1 : PROMPT + TOKENS + 1].tolist(), cache


def turned(kind):
    return {"rope_parameters": {"rope_type": kind, "factor": 2.0, "rope_theta": 1e4}}


SHAPES = {
    "whole blocks": (4, 4, 64, 128, {}),
    "widths that fill no block": (4, 4, 96, 200, {}),
    "several queries to a key": (6, 2, 96, 160, {}),
    "stretched positions": (4, 2, 64, 128, turned("linear")),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_kernels_say_what_llama_says(kernels, shape):
    *sizes, settings = SHAPES[shape]
    model, head = llama(*sizes, **settings)
    assert kernels.LlamaStep.fits(model, head)
    silent = torch.zeros(1, WORDS, dtype=torch.bool, device=DEVICE)
    (first, *expected), held = by_transformers(model, head, silent)
    found, cache = by_kernels(kernels, model, head, silent, first)
    assert len(set(expected)) > 3
    assert found == expected
    for ours, theirs in zip(cache.layers, held.layers, strict=True):
        filled = slice(PROMPT + TOKENS)
        torch.testing.assert_close(ours.keys[:, :, filled], theirs.keys[:, :, filled], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(ours.values[:, :, filled], theirs.values[:, :, filled], rtol=1e-4, atol=1e-4)


def test_silent_tokens_are_not_said(kernels):
    model, head = llama(4, 4, 64, 128)
    silent = torch.zeros(1, WORDS, dtype=torch.bool, device=DEVICE)
    (first, *free), _ = by_transformers(model, head, silent)
    silent[:, free[:3]] = True
    (first, *expected), _ = by_transformers(model, head, silent)
    assert expected != free
    assert by_kernels(kernels, model, head, silent, first)[0] == expected


def test_what_is_no_number_ends_within_the_vocabulary(kernels):
    model, head = llama(4, 4, 64, 128)
    model.embed_tokens.weight.fill_(torch.nan)
    silent = torch.zeros(1, WORDS, dtype=torch.bool, device=DEVICE)
    assert set(by_kernels(kernels, model, head, silent, 5)[0]) == {WORDS - 1}


def test_a_decoder_with_kernels_answers_as_generate(kernels, spoken, decoder, processor, monkeypatch):  # noqa: F811
    if ON_A_GPU:
        pytest.skip("the GPU's own test is below")
    ours = GraphDecoder(spoken, max_length=512, kernels=True)
    for inputs in prompts(processor).values():
        assert says(spoken, inputs, 5, custom_generate=ours) == says(spoken, inputs, 5)
    assert ours._kernels is not None


@pytest.mark.skipif(not ON_A_GPU, reason="needs an NVIDIA GPU")
def test_on_a_gpu_a_recorded_decoder_with_kernels_answers_as_generate(kernels, processor):
    model = tiny_model(processor).cuda()
    model.generation_config.eos_token_id = None
    ours = GraphDecoder(model, max_length=512, kernels=True)
    for inputs in prompts(processor).values():
        given = inputs.to("cuda")
        assert says(model, given, 40, custom_generate=ours) == says(model, given, 40)


def adapted(model, head):
    from peft import LoraConfig, inject_adapter_in_model

    inject_adapter_in_model(LoraConfig(target_modules=["q_proj"]), model)


def hooked(model, head):
    model.layers[0].register_forward_hook(lambda *found: None)


def of_another_type(model, head):
    head.to(torch.bfloat16)


@pytest.mark.parametrize("change", [adapted, hooked, of_another_type])
def test_what_the_kernels_would_get_wrong_is_not_theirs(kernels, change):
    model, head = llama(4, 4, 64, 128)
    model(input_ids=torch.ones(1, 3, dtype=torch.long, device=DEVICE), output_hidden_states=True)  # hooks of its own
    assert kernels.LlamaStep.fits(model, head)
    change(model, head)
    assert not kernels.LlamaStep.fits(model, head)


@pytest.mark.parametrize("settings", [{"hidden_act": "gelu"}, {"attention_bias": True}, turned("dynamic")])
def test_other_networks_are_not_theirs(kernels, settings):
    assert not kernels.LlamaStep.fits(*llama(4, 4, 64, 128, **settings))


def test_a_batch_is_refused(spoken, decoder):  # noqa: F811
    with pytest.raises(ValueError, match="one sequence and a plain LLaMA"):
        GraphDecoder(spoken, max_length=512, batch_size=2, kernels=True)


COMPILED = Path(__file__).parent / "hopper_kernels.py"


def test_for_a_hopper_gpu_nothing_spills_and_weights_are_asked_for_before_the_wait():
    """At the paper's size, compiled by Triton's own `ptxas`, which needs no GPU."""
    plain = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    found = subprocess.run([sys.executable, COMPILED], env=plain, capture_output=True, text=True, check=True).stdout
    listings = dict(re.findall(r"^== (\w+)\n(.*?)(?=^== |\Z)", found, re.S | re.M))
    assert set(listings) == {"products", "attended", "gated", "inner", "head", "attention"}
    for kind, listing in listings.items():
        assert "STACK:0 " in listing, kind
        assert not re.search(r"\b(LDL|STL)\b", listing), kind
        before, wait, _ = listing.rpartition("ACQBULK")
        assert wait, kind
        loads = len(re.findall(r"LDG\.E[.\w]*\.128", before))
        # (rows, bytes of a row) over 16 bytes of 32 threads of each warp
        assert loads >= int(re.search(r"needed (\d+)", listing)[1]), kind
