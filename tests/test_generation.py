"""What `generate` gives for a mixed batch must not depend on how it is asked."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from unirs.modeling_unirs import modeling_unirs

from tests.tiny import encode, picture, tiny_config, tiny_model, user

CONVERSATIONS = {
    "single": (user(picture(1), "Is there a road?"), {}),
    "pair": (user(picture(2), picture(3), "What has changed?"), {}),
    "two plain images": (user(picture(4), picture(5), "Compare."), {"change_extraction": False}),
    "video": (user([picture(seed) for seed in range(6, 10)], "Which event?"), {}),
    "text": (user("Hello."), {}),
}


def mixed_batch(processor):
    """The five kinds in one left-padded batch; one goes without Change Extraction, so prompts are made one by one."""
    prompts, images, videos = [], [], []
    for conversation, options in CONVERSATIONS.values():
        prompts.append(processor.apply_chat_template(conversation, add_generation_prompt=True, **options))
        items = conversation[0]["content"]
        images.append([item["image"] for item in items if item["type"] == "image"])
        videos.append([item["video"] for item in items if item["type"] == "video"])
    return processor(
        text=prompts,
        images=images,
        videos=videos,
        padding=True,
        padding_side="left",
        add_special_tokens=False,
        return_tensors="pt",
    )


def generate(model, inputs, **kwargs):
    """New tokens of each sample, with the padding behind the end cut off."""
    length = 0 if "inputs_embeds" in inputs else inputs["input_ids"].shape[1]
    output = model.generate(**inputs, max_new_tokens=8, do_sample=False, pad_token_id=0, **kwargs)
    return [[token for token in row[length:].tolist() if token != 0] for row in output]


@pytest.fixture(scope="module")
def alone(processor):
    """Greedy and beam answers of every conversation on its own."""
    model = tiny_model(processor)
    found = {}
    for name, options in (("greedy", {}), ("beams", {"num_beams": 3})):
        found[name] = [
            generate(model, encode(processor, conversation, **kwargs), **options)[0]
            for conversation, kwargs in CONVERSATIONS.values()
        ]
    return found


def test_answers_differ_between_the_conversations(alone):
    """Otherwise the tests below could not fail."""
    assert len({tuple(answer) for answer in alone["greedy"]}) == len(CONVERSATIONS)


def test_mixed_batch_equals_single_samples(model, processor, alone):
    assert generate(model, mixed_batch(processor)) == alone["greedy"]


def test_beam_search_keeps_pictures_with_their_samples(model, processor, alone):
    """The third sample has two images: repeating the pixel rows for each beam would hand them to the wrong beams."""
    assert generate(model, mixed_batch(processor), num_beams=3) == alone["beams"]


def test_static_cache_equals_dynamic_cache(model, processor, alone):
    assert (
        generate(model, mixed_batch(processor), cache_implementation="static", disable_compile=True) == alone["greedy"]
    )


def test_no_cache_equals_cache(model, processor, alone):
    assert generate(model, mixed_batch(processor), use_cache=False) == alone["greedy"]


@pytest.mark.parametrize("beams", [1, 3])
def test_inputs_embeds_equal_input_ids(model, processor, alone, beams):
    inputs = mixed_batch(processor)
    inputs["inputs_embeds"] = model.get_input_embeddings()(inputs.pop("input_ids"))
    assert generate(model, inputs, num_beams=beams) == alone["greedy" if beams == 1 else "beams"]


def test_inputs_embeds_of_a_scaled_table_equal_input_ids(processor):
    """Gemma multiplies what it looks up, so the rows of its table stood nowhere in the embeddings."""
    text = tiny_config(processor).text_config.to_dict() | {"model_type": "gemma", "head_dim": 8}
    model, inputs = tiny_model(processor, text_config=text), mixed_batch(processor)
    expected = generate(model, inputs)
    inputs["inputs_embeds"] = model.get_input_embeddings()(inputs.pop("input_ids"))
    assert generate(model, inputs) == expected


def test_features_stand_for_pixels(model, processor, alone):
    inputs = mixed_batch(processor)
    inputs["image_features"] = model.get_image_features(inputs.pop("pixel_values"))
    inputs["change_features"] = model.get_change_features(inputs.pop("pixel_values_pairs"))
    inputs["video_features"] = model.get_video_features(inputs.pop("pixel_values_videos"))
    assert generate(model, inputs) == alone["greedy"]
    assert generate(model, inputs, num_beams=3) == alone["beams"]


def test_features_find_words_that_lie_on_another_device(monkeypatch):
    """As `device_map="auto"` may spread them over two GPUs; the mask of the placeholders stayed with the ids."""
    monkeypatch.setattr(modeling_unirs, "check_placeholders", lambda masks, features: None)  # fakes have no values
    with FakeTensorMode():
        words = torch.zeros(1, 8, 32, device="cuda:1")
        masks = {"image_features": torch.ones(1, 8, dtype=torch.bool, device="cuda:0")}
        features = {"image_features": torch.zeros(2, 4, 32, device="cuda:0")}
        assert modeling_unirs.insert_features(words, masks, features).device == words.device


def test_several_returned_sequences_belong_to_their_sample(model, processor, alone):
    found = generate(model, mixed_batch(processor), num_beams=3, num_return_sequences=2)
    assert found[::2] == alone["beams"]


def test_left_padding_has_no_effect_on_logits(model, processor):
    inputs = mixed_batch(processor)
    with torch.no_grad():
        batch = model(**inputs, logits_to_keep=1).logits[:, 0]
        for row, (conversation, kwargs) in enumerate(CONVERSATIONS.values()):
            one = model(**encode(processor, conversation, **kwargs), logits_to_keep=1).logits[0, 0]
            torch.testing.assert_close(batch[row], one, atol=1e-4, rtol=1e-4)


def second_turn(processor, first, answer, *shown):
    chat = [*first, {"role": "assistant", "content": answer}, *user(*shown, "Is it so?")]
    return encode(processor, chat)


@pytest.mark.parametrize("shown", [(), (picture(8),), (picture(8), picture(9))], ids=["words", "image", "pair"])
def test_second_turn_on_the_cache_of_the_first_equals_the_whole_chat(model, processor, shown):
    """Pictures that the cache covers were asked for, and then refused."""
    first = user(picture(1), picture(2), "What?")
    before = encode(processor, first)
    said = model.generate(**before, max_new_tokens=4, return_dict_in_generate=True)
    answer = processor.decode(said.sequences[0, before["input_ids"].shape[1] :], skip_special_tokens=True)
    inputs = second_turn(processor, first, answer, *shown)
    covered = model(**before).past_key_values.get_seq_length()
    assert torch.equal(inputs["input_ids"][:, :covered], before["input_ids"])
    expected = generate(model, inputs)
    assert generate(model, inputs, past_key_values=model(**before).past_key_values) == expected
    inputs["pixel_values_pairs"] = inputs["pixel_values_pairs"][1:]  # the pictures of the new turn alone
    if len(shown) < 2:
        del inputs["pixel_values_pairs"]
    assert generate(model, inputs, past_key_values=model(**before).past_key_values) == expected


def test_picture_of_the_second_turn_that_is_missing_is_told(model, processor):
    first = user(picture(1), picture(2), "What?")
    cache = model(**encode(processor, first)).past_key_values
    inputs = second_turn(processor, first, "a", picture(8))
    with pytest.raises(ValueError, match=r"Image features and image tokens.*0 features, the text has 4 placeholders"):
        model.generate(inputs["input_ids"], attention_mask=inputs["attention_mask"], past_key_values=cache)
