"""Our kernels say what LLaMA says: by Triton's interpreter, and, where there is a GPU, on it.

`make test-kernels` brings Triton, which the CPU build of PyTorch does not.
"""

import math
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
triton = pytest.importorskip("triton", reason="needs Triton: make test-kernels")
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
        step(token, place, torch.zeros_like(place), said, silent)
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


@torch.no_grad()
def test_beyond_the_ends_of_matrices_nothing_is_read(kernels):
    """Weights with no numbers on either side, a vocabulary that fills no block, and logits that are all negative."""
    width, words = 96, 70
    torch.manual_seed(0)

    def between_no_numbers(*shape):
        whole = torch.full((64 + math.prod(shape) + 64,), torch.nan, device=DEVICE)
        whole[64:-64] = torch.rand(math.prod(shape))
        return whole[64:-64].view(shape)

    hidden, norm, head = (between_no_numbers(*shape) for shape in ((width,), (width,), (words, width)))
    head.neg_()
    head[-1] *= 0.01  # the largest logit is the last one
    silent = torch.zeros(words, dtype=torch.bool, device=DEVICE)
    blocks = triton.cdiv(words, 32)
    logits, tokens = torch.zeros(blocks, device=DEVICE), torch.zeros(blocks, dtype=torch.int32, device=DEVICE)
    kernels._likeliest_of_rows[(blocks,)](
        hidden, norm, 1e-6, head, silent, logits, tokens, words, 32, width, 64, False
    )
    expected = head @ (hidden * torch.rsqrt(hidden.square().mean() + 1e-6) * norm)
    torch.testing.assert_close(logits, torch.stack([one.max() for one in expected.split(32)]))
    assert tokens.tolist() == [32 * place + int(one.argmax()) for place, one in enumerate(expected.split(32))]


@pytest.mark.skipif(ON_A_GPU, reason="the GPU's own test is below")
def test_a_decoder_with_kernels_answers_as_generate(kernels, spoken, decoder, processor):  # noqa: F811
    ours = GraphDecoder(spoken, max_length=512, kernels=True)
    for inputs in prompts(processor).values():
        assert says(spoken, inputs, 5, custom_generate=ours) == says(spoken, inputs, 5)
    inputs = padded(prompts(processor)["pair"], 9)
    assert says(spoken, inputs, 5, custom_generate=ours) == says(spoken, inputs, 5)
    assert isinstance(ours._kernels, kernels.LlamaStep)  # and nothing else has answered


def padded(inputs, count):
    """With so many places before the prompt that hold nothing."""
    left = torch.zeros(1, count, dtype=torch.long)
    ids, mask = (torch.cat([left, inputs[name]], 1) for name in ("input_ids", "attention_mask"))
    return {**inputs, "input_ids": ids, "attention_mask": mask}


@pytest.mark.skipif(not ON_A_GPU, reason="needs an NVIDIA GPU")
def test_on_a_gpu_a_recorded_decoder_with_kernels_answers_as_generate(kernels, processor):
    model = tiny_model(processor).cuda()
    model.generation_config.eos_token_id = None
    ours = GraphDecoder(model, max_length=512, kernels=True)
    for inputs in prompts(processor).values():
        given = inputs.to("cuda")
        assert says(model, given, 40, custom_generate=ours) == says(model, given, 40)


def adapter(config):
    def change(model, head):
        import peft

        peft.inject_adapter_in_model(config(peft), model)

    return change


def hook_of_a_layer(model, head):
    model.layers[0].register_forward_hook(lambda *found: None)


def hook_of_the_head(model, head):
    head.register_forward_hook(lambda *found: None)


def other_forward(model, head):
    model.layers[1].mlp.forward = model.layers[0].mlp.forward


def head_of_another_type(model, head):
    head.to(torch.bfloat16)


def other_norm(model, head):
    model.norm = nn.RMSNorm(64, device=DEVICE)


def other_table(model, head):
    class Table(nn.Embedding):
        pass

    model.embed_tokens = Table(WORDS, 64, device=DEVICE)


def fewer_heads_kept(model, head):
    model.layers[0].self_attn.k_proj = nn.Linear(64, 32, bias=False, device=DEVICE)


CHANGES = {
    "LoRA": adapter(lambda peft: peft.LoraConfig(target_modules=["q_proj"])),
    "LoRA of the embedding": adapter(lambda peft: peft.LoraConfig(target_modules=["embed_tokens"])),
    "IA3": adapter(lambda peft: peft.IA3Config(target_modules=["k_proj"], feedforward_modules=[])),
    "LoHa": adapter(lambda peft: peft.LoHaConfig(target_modules=["down_proj"])),
    "tuned norms": adapter(lambda peft: peft.LNTuningConfig(target_modules=["input_layernorm"])),
}
CHANGES |= {
    one.__name__: one
    for one in (
        hook_of_a_layer, hook_of_the_head, other_forward, head_of_another_type, other_norm, other_table,
        fewer_heads_kept,
    )
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_what_the_kernels_would_get_wrong_is_not_theirs(kernels, change):
    model, head = llama(4, 4, 64, 128)
    model(input_ids=torch.ones(1, 3, dtype=torch.long, device=DEVICE), output_hidden_states=True)  # hooks of its own
    assert kernels.LlamaStep.fits(model, head)
    CHANGES[change](model, head)
    assert not kernels.LlamaStep.fits(model, head)


@pytest.mark.parametrize("settings", [{"hidden_act": "gelu"}, {"attention_bias": True}, turned("dynamic")])
def test_other_networks_are_not_theirs(kernels, settings):
    assert not kernels.LlamaStep.fits(*llama(4, 4, 64, 128, **settings))


def test_a_batch_is_refused(spoken, decoder):  # noqa: F811
    with pytest.raises(ValueError, match="one sequence and a plain LLaMA"):
        GraphDecoder(spoken, max_length=512, batch_size=2, kernels=True)


# By position, of what the kernel before has just written.
WRITTEN_BEFORE = {
    "products": [0], "attended": [0, 2], "gated": [0], "inner": [0, 2], "head": [0, 5, 6], "attention": [0, 7, 8, 9],
    "choice": [0, 1, 2, 3, 4],
}  # fmt: skip


@pytest.fixture(scope="module")
def for_hopper():
    """What each kernel becomes at the paper's size, by Triton's own `ptxas`, which needs no GPU."""
    plain = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    script = Path(__file__).parent / "hopper_kernels.py"
    found = subprocess.run([sys.executable, script], env=plain, capture_output=True, text=True, check=True).stdout
    return dict(re.findall(r"^== (\w+)\n(.*?)(?=^== |\Z)", found, re.S | re.M))


@pytest.mark.parametrize("kind", WRITTEN_BEFORE)
def test_for_a_hopper_gpu_nothing_spills_and_weights_are_asked_for_before_the_wait(for_hopper, kind):
    listing = for_hopper[kind]
    assert "STACK:0 " in listing
    assert not re.search(r"\b(LDL|STL)\b", listing)
    before, wait, _ = listing.rpartition("ACQBULK")
    assert wait
    loads = len(re.findall(r"LDG\.E[.\w]*\.128", before))
    assert loads >= int(re.search(r"needed (\d+)", listing)[1])  # (rows, bytes of a row) by 16 bytes of each thread


@pytest.mark.parametrize("kind", WRITTEN_BEFORE)
def test_nothing_that_the_kernel_before_writes_is_touched_before_the_wait(for_hopper, kind):
    """The interpreter runs one program after another and sees no race."""
    signature, _, body = for_hopper[kind].partition("tt.func public @")[2].partition(") attributes ")
    body, end, _ = body.partition("tt.return")
    assert end
    names = re.findall(r"%(\w+): ", signature)
    early, wait, late = body.rpartition("tt.grid_dependency_wait")
    assert wait
    for place in WRITTEN_BEFORE[kind]:
        assert not re.search(rf"%{names[place]}\b", early), names[place]
        assert re.search(rf"%{names[place]}\b", late), names[place]


def test_the_last_part_of_an_attention_sees_what_the_others_wrote(for_hopper):
    """All threads of a part have written before it counts itself, and the last reads past its own caches."""
    written, counted, read = re.search(
        r"tt\.grid_dependency_wait.*(tt\.store.*?)(tt\.atomic_rmw add, acq_rel, gpu.*?\n)(.*?)tt\.return",
        for_hopper["attention"], re.S,
    ).groups()  # fmt: skip
    assert "barrier" in written
    assert counted
    loads = re.findall(r"tt\.load.*", read)
    assert len(loads) == 3
    assert all("cg" in one for one in loads)
