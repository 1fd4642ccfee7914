"""Clues of a base model inside a model with adapters: they are off for it alone, and as before afterwards."""

import threading

import pytest
from peft import LoraConfig, get_peft_model
from transformers import CompileConfig
from unirs.modeling_unirs.adapter_free_unirs import without_adapters

from tests.clued import CONVERSATIONS, one_pass
from tests.tiny import encode, with_lora
from unirs import PromptAugmenter


def adapter_state(network):
    """All that switching adapters on and off could leave changed."""
    layers = {
        name: (module._disable_adapters, tuple(module.active_adapters))
        for name, module in network.named_modules()
        if hasattr(module, "_disable_adapters")
    }
    return layers, {name: parameter.requires_grad for name, parameter in network.named_parameters()}


def test_base_inside_a_model_with_adapters_shares_its_memory(model):
    tuned = with_lora(model)
    base = without_adapters(tuned.get_base_model())
    inner = dict(tuned.get_base_model().named_parameters())
    for name, parameter in base.named_parameters():
        adapted = name.rpartition(".")[0] + ".base_layer." + name.rpartition(".")[2]
        assert parameter is inner.get(name, inner.get(adapted)), name
    assert without_adapters(model) is model


@pytest.mark.parametrize("broken", ["clue", "answer"])
def test_adapters_are_as_before_whatever_fails(model, processor, broken):
    tuned = with_lora(model)
    before = adapter_state(tuned)
    tokens = []

    def fail_at(step):
        def fail(module, args):
            tokens.append(None)
            if len(tokens) == step:
                raise KeyboardInterrupt

        return fail

    # The head runs once a token in both passes, on modules of their own: a hook set before is in both.
    tuned.get_base_model().lm_head.register_forward_pre_hook(fail_at(5 if broken == "clue" else 36))
    with pytest.raises(KeyboardInterrupt):
        one_pass(PromptAugmenter(tuned, processor), tuned, CONVERSATIONS[:1])
    assert adapter_state(tuned) == before


def test_threads_with_and_without_clues_do_not_disturb_each_other(model, processor):
    """Switched adapters would be off in the middle of another thread's answer."""
    tuned = with_lora(model)
    augmenter = PromptAugmenter(tuned, processor)
    inputs = encode(processor, CONVERSATIONS[:2])
    expected = tuned.generate(**inputs, max_new_tokens=24).tolist()
    expected_clues = one_pass(augmenter, tuned, CONVERSATIONS)
    before, wrong = adapter_state(tuned), []

    def plain():
        for _ in range(6):
            if tuned.generate(**inputs, max_new_tokens=24).tolist() != expected:
                wrong.append("plain")

    def clued():
        for _ in range(3):
            if one_pass(augmenter, tuned, CONVERSATIONS) != expected_clues:
                wrong.append("clued")

    threads = [threading.Thread(target=one) for one in (plain, clued, plain, clued)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert adapter_state(tuned) == before


def test_merged_adapter_is_refused(model, processor):
    tuned = with_lora(model)
    tuned.merge_adapter()
    with pytest.raises(ValueError, match="merged into the weights"):
        PromptAugmenter(tuned, processor).clues(CONVERSATIONS[:1])


@pytest.mark.parametrize("change", [{"init_lora_weights": "pissa"}, {"bias": "all"}])
def test_adapter_that_has_changed_the_base_is_refused(model, change):
    config = LoraConfig(target_modules=r".*language_model.*q_proj", r=2, **change)
    with pytest.raises(ValueError, match="has changed the base's own weights"):
        without_adapters(get_peft_model(model, config).get_base_model())


@pytest.mark.parametrize("start", ["lora_ga", "OLoRA"])
def test_every_start_that_takes_from_the_base_is_refused(model, start):
    """LoRA-GA needs gradients before it starts, so the adapter here only says that it did."""
    adapted = get_peft_model(model, LoraConfig(target_modules=r".*language_model.*q_proj", r=2)).get_base_model()
    adapted.peft_config["default"].init_lora_weights = start
    with pytest.raises(ValueError, match=f"init_lora_weights={start}"):
        without_adapters(adapted)


def test_base_does_not_run_what_was_compiled_with_the_adapter(model, processor):
    tuned = with_lora(model)
    inner = tuned.get_base_model()
    expected = PromptAugmenter(model, processor).clues(CONVERSATIONS[:1])
    inner.generation_config.cache_implementation = "static"
    compiled = CompileConfig(backend="eager", fullgraph=False)
    compiled._compile_all_devices = True  # transformers compiles on accelerators only
    inputs = encode(processor, CONVERSATIONS[:1])
    tuned.generate(**inputs, max_new_tokens=3, compile_config=compiled)
    assert "_compiled_call" in vars(inner)
    assert PromptAugmenter(tuned, processor).clues(CONVERSATIONS[:1]) == expected


def test_base_of_another_kind_is_refused(processor):
    from transformers import LlamaConfig, LlamaForCausalLM

    llama = LlamaForCausalLM(
        LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=9)
    )
    with pytest.raises(ValueError, match="must be a UniRS model"):
        PromptAugmenter(llama, processor)
