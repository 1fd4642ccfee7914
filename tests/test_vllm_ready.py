"""What vLLM reads of UniRS, checked without vLLM: the tensor-parallel plan (LLaMA's own), features, replacements."""

import re
import shutil
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
import transformers
from transformers import AutoConfig
from unirs.processing.prompts_unirs import CHANGE_MARKER, FRAME_MARKERS, IMAGE_MARKER, VIDEO_MARKER

import unirs
from tests.tiny import encode, picture, tiny_model, user
from unirs import UniRSConfig, UniRSForConditionalGeneration, vllm_plugin

# The dimension of a weight (out, in) that each style cuts.
CUT = {"colwise": 0, "colwise_gather_output": 0, "rowwise": 1, "embedding_rowwise": 0}


@pytest.fixture(scope="module", params=["paper", "embedded"])
def on_meta(request):
    paper = request.param == "paper"
    config = UniRSConfig() if paper else AutoConfig.from_pretrained(unirs.default_checkpoint())
    with torch.device("meta"):
        return UniRSForConditionalGeneration(config)


@pytest.mark.parametrize("degree", [2, 4])
def test_plan_cuts_every_matrix_of_the_language_model_into_equal_parts(on_meta, degree):
    """And nothing else: tower, Change Extraction and projector stand whole on every device."""
    plan = on_meta.tp_plan
    cut = set()
    for name, weight in on_meta.named_parameters(remove_duplicate=False):
        style = plan.get(re.sub(r"\d+", "*", name.removesuffix(".weight")))
        if style is not None:
            assert weight.shape[CUT[style]] % degree == 0, name
            cut.add(name)
    assert {re.sub(r"\d+", "*", name.removesuffix(".weight")) for name in cut} == plan.keys()  # no rule is idle
    words = ("model.language_model.", "lm_head.")
    matrices = {name for name, weight in on_meta.named_parameters(remove_duplicate=False) if weight.ndim > 1}
    expected = {name for name in matrices if name.startswith(words)}
    if transformers.__version__.startswith("5.17.") and not on_meta.config.tie_word_embeddings:
        expected.remove("model.language_model.embed_tokens.weight")  # it has no rule for the words' table alone
    assert cut == expected
    text = on_meta.config.text_config
    for heads in (text.num_attention_heads, text.num_key_value_heads):
        assert heads % degree == 0  # whole heads on every device


def test_plan_of_the_headless_model_is_the_same_without_the_head(on_meta):
    headless = {f"model.{name}": style for name, style in on_meta.model.tp_plan.items()}
    assert {**headless, "lm_head": "colwise_gather_output"} == on_meta.tp_plan


def test_features_come_as_an_output_where_one_is_asked_for(processor):
    model = tiny_model(processor)
    pixels = encode(processor, user(picture(1), "What?"))["pixel_values"]
    with torch.no_grad():
        features = model.get_image_features(pixels)
        assert torch.equal(model.model.get_image_features(pixels, return_dict=True).pooler_output, features)


@pytest.mark.parametrize("marker", [IMAGE_MARKER, CHANGE_MARKER, VIDEO_MARKER])
def test_replacements_put_in_by_id_make_the_prompt_of_the_processor(processor, marker):
    """vLLM asks for the replacement of a bare marker, and puts its ids into the ids of a chat."""
    frames = [3] if marker == VIDEO_MARKER else []
    offsets = processor.encode_text([marker], frames, return_text_replacement_offsets=True)
    written = offsets["text_replacement_offsets"][0][0]["replacement"]
    block = processor.tokenizer(written, add_special_tokens=False)["input_ids"]
    single = FRAME_MARKERS[0] if marker == VIDEO_MARKER else marker  # one token
    ids = processor.tokenizer(f"USER: {single}\nWhat? ASSISTANT:")["input_ids"]
    at = ids.index(processor.tokenizer.convert_tokens_to_ids(single))
    expected = processor.encode_text([f"USER: {marker}\nWhat? ASSISTANT:"], frames)["input_ids"][0]
    assert [*ids[:at], *block, *ids[at + 1 :]] == expected


def test_plug_in_is_found_and_its_template_marks_a_clip_with_a_token_of_the_vocabulary():
    group = "vllm.general_plugins"
    named = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]["entry-points"]
    assert EntryPoint("unirs", named[group]["unirs"], group).load() is vllm_plugin.register  # no vLLM is needed yet
    processor = vllm_plugin.UniRSProcessor.from_pretrained(unirs.default_checkpoint())
    chat = user(picture(1), picture(2), picture(3), "<Frame 1> <video>?")
    prompt = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    assert prompt.count(FRAME_MARKERS[0]) == 1  # the typed ones are escaped
    assert processor.tokenizer(prompt)["input_ids"].count(processor.frame_token_ids[0]) == 1


def test_folder_with_several_chat_templates_is_refused_with_a_sentence(tmp_path):
    folder = Path(shutil.copytree(unirs.default_checkpoint(), tmp_path / "model"))
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tools.jinja").write_text("{{ messages }}")
    with pytest.raises(ValueError, match="one chat template, this folder has several"):
        vllm_plugin.UniRSProcessor.from_pretrained(folder)
