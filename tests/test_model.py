"""Properties of the network itself, on a tiny random one."""

import copy
import os
from types import SimpleNamespace

import pytest
import torch
from accelerate import cpu_offload
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForImageTextToText, Trainer, TrainingArguments

from tests.test_generation import CONVERSATIONS, mixed_batch
from tests.tiny import encode, picture, tiny_model, user, with_lora
from unirs import UniRSConfig, UniRSForConditionalGeneration, UniRSModel


def logits_of(model, inputs):
    with torch.no_grad():
        return model(**inputs).logits


def test_last_vision_layer_head_and_norm_are_not_built(model):
    tower = model.model.vision_tower
    assert len(tower.encoder.layers) == model.config.vision_config.num_hidden_layers - 1
    assert not any("head" in name or "post_layernorm" in name for name, _ in tower.named_parameters())


def test_default_sizes_are_those_of_the_paper():
    """Tower of 26 layers at 1152, 7.0 M in Change Extraction, 2.7 B in the language model, 196 tokens a picture."""
    config = UniRSConfig()
    with torch.device("meta"):
        model = UniRSForConditionalGeneration(config)
    count = lambda module: sum(parameter.numel() for parameter in module.parameters())  # noqa: E731
    assert config.image_seq_length == 196
    assert config.vision_grid == 27
    assert len(model.model.vision_tower.encoder.layers) == 26
    # Conv1x1 2304->1152, bottleneck 1152->576->576->1152 with three BatchNorms, two tables of 27 x 576
    expected = 2304 * 1152 + 1152 + 1152 * 576 + 576 + 576 * 576 * 9 + 576 + 576 * 1152 + 1152
    expected += 2 * (576 + 576 + 1152) + 2 * 27 * 576
    assert count(model.model.change_extraction) == expected
    assert 6.9e6 < expected < 7.1e6
    assert 2.6e9 < count(model.model.language_model) < 2.8e9
    assert model.model.multi_modal_projector.linear_1.weight.shape == (2560, 4608)


def test_swapping_before_and_after_changes_the_features(model):
    pairs = torch.randn(1, 2, 3, 28, 28)
    with torch.no_grad():
        there, back = model.get_change_features(pairs), model.get_change_features(pairs.flip(1))
    assert (there - back).abs().max() > 0.1 * there.abs().max()


def test_equal_dates_give_a_change_map_of_zero(model):
    pictures = torch.randn(2, 1, 3, 28, 28)
    change_map = model.get_change_map(pictures.expand(-1, 2, -1, -1, -1))
    assert change_map.shape == (2, 4, 4)
    torch.testing.assert_close(change_map, torch.zeros(2, 4, 4), atol=1e-6, rtol=0)


def test_change_map_is_one_minus_cosine_of_embedded_features(model):
    pairs = torch.randn(2, 2, 3, 28, 28)
    change = model.model.change_extraction
    with torch.no_grad():
        features = model.model.encode_pixels(pairs.flatten(0, 1)).unflatten(0, (2, 2))
        rows, columns = torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij")
        position = torch.cat([change.column_embedding(columns), change.row_embedding(rows)], -1).flatten(0, 1)
        before, after = (features + position).double().unbind(1)
        cosine = (before * after).sum(-1) / (before.norm(dim=-1) * after.norm(dim=-1))
        expected = (1 - cosine).clamp(0, 1).unflatten(-1, (4, 4)).float()
        torch.testing.assert_close(model.get_change_map(pairs), expected, atol=1e-5, rtol=1e-4)


def test_weights_that_wait_on_a_disk_or_a_cpu_are_brought_in_for_a_pair(processor):
    """accelerate's hooks load what a module is called with; tables that were read past the call stayed on meta."""
    model = tiny_model(processor)
    pairs = torch.randn(1, 2, 3, 28, 28)
    with torch.no_grad():
        expected = model.get_change_features(pairs), model.get_change_map(pairs)
        offloaded = cpu_offload(model, execution_device="cpu")
        assert offloaded.model.change_extraction.row_embedding.weight.device.type == "meta"
        assert torch.equal(offloaded.get_change_features(pairs), expected[0])
        assert torch.equal(offloaded.get_change_map(pairs), expected[1])


def test_image_features_come_as_a_tensor_or_as_transformers_output(model):
    pixels = torch.randn(2, 3, 28, 28)
    with torch.no_grad():
        alone = model.get_image_features(pixels)
        assert torch.equal(model.get_image_features(pixels, return_dict=True).pooler_output, alone)


def test_a_pair_costs_the_tokens_of_one_image(processor):
    pair, single = user(picture(1), picture(2), "a"), user(picture(1), "a")

    def count(conversation, token, **kw):
        return (encode(processor, conversation, **kw)["input_ids"] == token).sum().item()

    assert count(pair, processor.change_token_id) == count(single, processor.image_token_id) == 4
    assert count(pair, processor.image_token_id, change_extraction=False) == 8


def test_eager_and_sdpa_attention_agree(model, processor):
    inputs = mixed_batch(processor)
    kept = inputs["attention_mask"].bool()
    logits = {}
    for implementation in ("eager", "sdpa"):
        model.set_attn_implementation(implementation)
        for part in (model.model.vision_tower, model.model.language_model):
            assert part.config._attn_implementation == implementation
        logits[implementation] = logits_of(model, inputs)[kept]
    torch.testing.assert_close(logits["sdpa"], logits["eager"], atol=1e-4, rtol=1e-4)


def test_gradient_checkpointing_changes_neither_loss_nor_gradients(model, processor):
    inputs = mixed_batch(processor)
    inputs["labels"] = inputs["input_ids"].clone()
    gradients, losses = [], []
    for checkpointing in (False, True):
        model.zero_grad()
        model.eval()  # dropout off; checkpointing acts in training mode only, so the parts that matter are set alone
        if checkpointing:
            model.gradient_checkpointing_enable()
            model.model.language_model.train()
            model.model.vision_tower.train()
            assert model.model.language_model.gradient_checkpointing or any(
                getattr(layer, "gradient_checkpointing", False) for layer in model.model.language_model.layers
            )
        loss = model(**inputs, use_cache=False).loss
        loss.backward()
        losses.append(loss.item())
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert losses[1] == pytest.approx(losses[0], abs=1e-6)
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("trained", "passes"), [(None, 1), ("model.vision_tower.encoder.layers.0.mlp.fc1", 2)])
def test_checkpointed_training_passes_a_tower_once_unless_it_learns(model, processor, trained, passes):
    """Where checkpointing is on, transformers marks what the tower reads as well as the words."""
    model = copy.deepcopy(model).train()
    model.requires_grad_(False)
    model.model.language_model.requires_grad_(True)
    if trained:
        model.get_submodule(trained).requires_grad_(True)
    model.gradient_checkpointing_enable()
    seen: list[bool] = []
    model.model.vision_tower.encoder.layers[0].mlp.fc1.register_forward_hook(lambda *given: seen.append(True))
    inputs = encode(processor, user(picture(1), "Is there a road?"))
    model(**inputs, labels=inputs["input_ids"]).loss.backward()
    assert len(seen) == passes
    assert model.model.language_model.layers[0].mlp.up_proj.weight.grad.abs().sum() > 0
    if trained:
        assert model.get_submodule(trained).weight.grad.abs().sum() > 0


def test_a_frozen_tower_still_gives_gradients_of_pixels(model):
    model = copy.deepcopy(model).requires_grad_(False)
    size = model.config.vision_config.image_size
    pixels = torch.randn(1, 3, size, size, requires_grad=True)
    model.model.encode_pixels(pixels).sum().backward()
    assert pixels.grad.abs().sum() > 0


def test_every_weight_gets_a_gradient(model, processor):
    """No tower layer behind the used one, no head: nothing for DDP to wait for."""
    inputs = mixed_batch(processor)
    model(**inputs, labels=inputs["input_ids"]).loss.backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_trainer_gives_metrics_logits_alone_whatever_kinds_its_batches_have(model, processor, tmp_path):
    """Features of pictures were predictions too, and those of a pair's batch did not fit to a clip's."""
    rows = [user(picture(1), "a"), user(picture(1), picture(2), "a"), user([picture(3)] * 4, "a")]
    seen = []
    trainer = Trainer(
        model,
        TrainingArguments(
            str(tmp_path), per_device_eval_batch_size=1, remove_unused_columns=False, report_to=[], use_cpu=True
        ),
        eval_dataset=rows,
        data_collator=lambda batch: (inputs := encode(processor, batch)) | {"labels": inputs["input_ids"]},
        compute_metrics=lambda found: seen.append(found.predictions) or {},
    )
    trainer.evaluate()
    (logits,) = seen
    assert logits.shape[::2] == (3, model.config.text_config.vocab_size)


def test_saved_and_loaded_model_gives_equal_logits(model, processor, tmp_path):
    inputs = mixed_batch(processor)
    model.save_pretrained(tmp_path)
    loaded, info = UniRSForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert torch.equal(logits_of(loaded, inputs), logits_of(model, inputs))
    assert set(load_file(tmp_path / "model.safetensors")) == set(model.state_dict())


def test_base_model_loads_from_the_full_checkpoint(model, processor, tmp_path):
    model.save_pretrained(tmp_path)
    base = UniRSModel.from_pretrained(tmp_path)
    pixels = torch.randn(2, 3, 28, 28)
    with torch.no_grad():
        assert torch.equal(base.get_image_features(pixels), model.get_image_features(pixels))


def test_tied_embeddings_survive_saving(processor, tmp_path):
    text = tiny_model(processor).config.text_config.to_dict()
    model = tiny_model(processor, text_config={**text, "tie_word_embeddings": True})
    model.save_pretrained(tmp_path)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path)
    assert loaded.lm_head.weight is loaded.get_input_embeddings().weight
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight)


def test_bfloat16_stays_within_its_error(model, processor):
    """A relative error near 2**-8 for each rounding; the sum over the layers stays below five per cent."""
    inputs = mixed_batch(processor)
    expected = logits_of(model, inputs)
    found = logits_of(copy.deepcopy(model).to(torch.bfloat16), inputs).float()
    kept = inputs["attention_mask"].bool()
    error = (found - expected)[kept].norm() / expected[kept].norm()
    assert 0 < error < 0.05


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("model_type", ["qwen2", "mistral", "gpt2"])
def test_other_language_models_fit(processor, model_type, tied):
    """GPT-2 calls its embeddings wte; tying them to the head once knew LLaMA's name only."""
    text = {
        "model_type": model_type,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 512,
        "pad_token_id": 0,
        "tie_word_embeddings": tied,
    }
    model = tiny_model(processor, text_config=text, tie_word_embeddings=tied)
    assert (model.lm_head.weight is model.get_input_embeddings().weight) == tied
    batch = mixed_batch(processor)
    batch["position_ids"] = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)  # GPT-2's positions are absolute
    together = logits_of(model, batch)[:, -1]
    for row, (conversation, options) in zip(together, CONVERSATIONS.values(), strict=True):
        alone = logits_of(model, encode(processor, conversation, **options))[0, -1]
        torch.testing.assert_close(row, alone, atol=1e-4, rtol=1e-4)


def test_clip_tower_fits_without_its_class_token(processor):
    vision = {
        "model_type": "clip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 37,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": 28,
        "patch_size": 7,
    }
    model = tiny_model(processor, vision_config=vision, vision_feature_select_strategy="default")
    pixels = torch.randn(2, 3, 28, 28)
    with torch.no_grad():
        features = model.model.encode_pixels(pixels)
        # A second way to layer -2: the whole tower, which keeps every layer.
        whole = AutoModel.from_config(model.config.vision_config).eval()
        whole.load_state_dict(model.model.vision_tower.state_dict(), strict=False)
        expected = whole(pixel_values=pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("model_type", ["vit", "dinov2_with_registers"])
def test_towers_with_pooling_and_registers_fit(processor, model_type):
    vision = {
        "model_type": model_type,
        "hidden_size": 32,
        "intermediate_size": 37,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": 28,
        "patch_size": 7,
    }
    model = tiny_model(processor, vision_config=vision, vision_feature_select_strategy="default")
    inputs = mixed_batch(processor)
    assert model.model.encode_pixels(inputs["pixel_values"]).shape[1:] == (16, 32)
    model(**inputs, labels=inputs["input_ids"]).loss.backward()
    unused = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert [name for name in unused if "mask_token" not in name] == []


def test_frozen_change_extraction_keeps_its_statistics(model):
    pairs = torch.randn(3, 2, 3, 28, 28)
    change = model.model.change_extraction
    change.requires_grad_(False)
    model.train()
    before = change.bottleneck[1].running_mean.clone()
    model.get_change_features(pairs)
    assert torch.equal(change.bottleneck[1].running_mean, before)
    change.requires_grad_(True)
    model.train()
    model.get_change_features(pairs)
    assert not torch.equal(change.bottleneck[1].running_mean, before)


@pytest.mark.parametrize("place", ["fuse", "bottleneck.0"])
def test_an_adapter_in_change_extraction_leaves_its_statistics(model, processor, place):
    """They moved in training and are in no adapter's file: loaded again it answered otherwise."""
    adapted = with_lora(model, targets=[place])
    before = {name: buffer.clone() for name, buffer in adapted.named_buffers()}
    adapted.train()(**mixed_batch(processor)).logits.sum().backward()
    assert any(weight.grad is not None for weight in adapted.parameters())
    assert all(torch.equal(before[name], buffer) for name, buffer in adapted.named_buffers())


@pytest.mark.parametrize("tower", ["siglip_vision_model", "dinov2_with_registers"])
def test_pixels_of_another_size_are_refused(processor, tower):
    """DINOv2 takes every size; its last 16 patches, the lower part of the picture, were then taken for the whole."""
    vision = {"model_type": tower, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    vision |= {"intermediate_size": 37, "image_size": 28, "patch_size": 7}
    strategy = "full" if tower == "siglip_vision_model" else "default"
    model = tiny_model(processor, vision_config=vision, vision_feature_select_strategy=strategy)
    inputs = encode(processor, user(picture(1), "a"), size={"height": 56, "width": 56})
    with pytest.raises(ValueError, match=r"\(1, 3, 56, 56\), and the vision tower takes \(n, 3, 28, 28\)"):
        model(**inputs)


def test_missing_features_are_told_with_both_numbers(model, processor):
    inputs = encode(processor, user(picture(1), "a"))
    inputs["pixel_values"] = inputs["pixel_values"].repeat(2, 1, 1, 1)
    with pytest.raises(ValueError, match=r"image_features has 2 x 4 = 8 features, the text has 4 placeholders"):
        model(**inputs)
    with pytest.raises(ValueError, match=r"Image features and image tokens do not match"):
        model.generate(**inputs, max_new_tokens=2, num_beams=2)  # once a RuntimeError about split sizes


def test_kinds_are_told_apart_and_forgotten_pictures_are_told(model, processor):
    inputs = encode(processor, user(picture(1), picture(2), "a"))
    with pytest.raises(ValueError, match=r"Change features and change tokens.*0 features, the text has 4 placehold"):
        model.generate(inputs["input_ids"], max_new_tokens=2)
    inputs = mixed_batch(processor)
    del inputs["pixel_values_videos"]
    with pytest.raises(ValueError, match="Video features and video tokens do not match"):
        model(**inputs)


def test_quantised_linear_weights_do_not_quantise_the_pixels(model, processor):
    """With 4 or 8 bits the storage type of a linear weight is an integer."""
    pixels = torch.randn(2, 3, 28, 28)
    with torch.no_grad():
        expected = model.model.encode_pixels(pixels)
        model.model.multi_modal_projector.linear_1.weight = torch.nn.Parameter(
            torch.zeros(32, 128, dtype=torch.uint8), requires_grad=False
        )
        assert torch.equal(model.model.encode_pixels(pixels), expected)


def test_code_is_beside_the_weights_before_they_are_uploaded(model, tmp_path, monkeypatch):
    """`push_to_hub=True` uploads at the end of the call; the pipelines' file was once copied after it."""
    seen = []
    monkeypatch.setattr(model, "_upload_modified_files", lambda folder, *a, **k: seen.append(os.listdir(folder)))
    hub = SimpleNamespace(create_repo=lambda *a, **k: SimpleNamespace(repo_id="a/b"))
    monkeypatch.setattr("transformers.modeling_utils.hf_api", lambda *a, **k: hub)
    # looks for the repository's card, and waits for a hub that is out of reach
    monkeypatch.setattr(
        "transformers.modeling_utils.create_and_tag_model_card", lambda *a, **k: SimpleNamespace(save=str)
    )
    model.save_pretrained(tmp_path / "unirs", push_to_hub=True)
    assert "pipeline_unirs.py" in seen[0]


def test_pairs_of_a_wrong_shape_are_refused(model):
    with pytest.raises(ValueError, match=r"\(pairs, 2, 3, H, W\).*\(3, 3, 28, 28\)"):
        model.get_change_features(torch.randn(3, 3, 28, 28))


def test_pixels_and_features_of_one_kind_exclude_each_other(model, processor):
    inputs = encode(processor, user(picture(1), "a"))
    with pytest.raises(ValueError, match="either pixel_values or image_features"):
        model(**inputs, image_features=torch.randn(1, 4, 32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frame_token_ids": list(range(100, 165))}, "65 entries; 1 to 64"),
        ({"image_token_id": 5, "change_token_id": 5}, "must be different ids"),
        ({"vision_feature_layer": -28}, "takes -27 to -1"),
        ({"vision_feature_select_strategy": "cls"}, "'full' and 'default'"),
    ],
)
def test_impossible_configurations_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        UniRSConfig(**change)
