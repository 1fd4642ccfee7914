"""Clues: what the base model is asked, what enters the prompt, and that looking once changes nothing."""

import copy

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForImageTextToText, StoppingCriteriaList
from unirs.modeling_unirs.adapter_free_unirs import without_adapters
from unirs.modeling_unirs.prompt_augmentation_unirs import Clue
from unirs.modeling_unirs.shared_features_unirs import see_alike

from tests.clued import CLIP, CONVERSATIONS, LIMITS, one_pass, strip
from tests.tiny import encode, other_words, picture, user, with_lora
from unirs import PromptAugmenter


def clue_by_hand(base, processor, conversation, words):
    """The base model's own full pass over the pictures of the last turn that has some."""
    turn = next(one for one in reversed(conversation) if not isinstance(one["content"], str))
    items = [item for item in turn["content"] if item["type"] != "text"]
    inputs = encode(
        processor, [user_turn(*items, {"type": "text", "text": words})], change_extraction=False, task_tag=False
    )
    output = base.generate(**inputs, max_new_tokens=32)[0, inputs["input_ids"].shape[1] :]
    return processor.clean_clue(processor.tokenizer.decode(output, skip_special_tokens=True))


def user_turn(*items):
    return [{"role": "user", "content": list(items)}]


def two_passes(base, model, processor, conversations):
    """Clues and answers one by one, each model by itself, everything looked at twice."""
    clues, answers = [], []
    kinds = ["single", "pair", "video", "video", "pair"]
    for conversation, kind in zip(conversations, kinds, strict=True):
        clue = clue_by_hand(base, processor, conversation, processor.clue_prompts[kind])
        turn = max(n for n, one in enumerate(conversation) if not isinstance(one["content"], str))
        augmented = copy.copy(conversation)
        augmented[turn] = {"role": "user", "content": [*conversation[turn]["content"], {"type": "clue", "text": clue}]}
        inputs = encode(processor, [augmented])
        answers.append(model.generate(**inputs, **LIMITS)[0, inputs["input_ids"].shape[1] :].tolist())
        clues.append(clue)
    return clues, answers


@pytest.fixture
def base(model):
    return other_words(model)


def test_base_model_is_asked_the_papers_questions_and_sees_a_pair_as_two_images(model, processor):
    """Table II of the paper, word by word; no task tag, no <Change Feature>."""
    augmenter = PromptAugmenter(model, processor)
    prompts = processor.apply_chat_template(
        [augmenter.question(one) for one in CONVERSATIONS[:3]], tokenize=False, change_extraction=False, task_tag=False
    )
    asked = [prompt.partition("USER: ")[2].strip() for prompt in prompts]
    assert asked == [
        "<image>\nDescribe this remote sensing image in detail.",
        "<image>\n<image>\nPlease identify whether there are obvious remote sensing image changes.",
        "<video>\nPlease classify the scene in this video captured by the UAV.",
    ]


def test_prompts_can_be_changed_by_kind(model, processor):
    augmenter = PromptAugmenter(model, processor, prompts={"pair": "Same place?"})
    texts = [augmenter.question(one)[0]["content"][-1]["text"] for one in CONVERSATIONS[:2]]
    assert texts == ["Describe this remote sensing image in detail.", "Same place?"]
    with pytest.raises(ValueError, match=r"clue prompts are words for single, pair, video, not radar='\?'"):
        PromptAugmenter(model, processor, prompts={"radar": "?"})


@pytest.mark.parametrize("place", range(len(CONVERSATIONS)))
def test_clue_is_the_base_models_greedy_answer(base, processor, place):
    conversation, kind = CONVERSATIONS[place], ["single", "pair", "video", "video", "pair"][place]
    augmented = PromptAugmenter(base, processor)(conversation)
    turn = max(n for n, one in enumerate(conversation) if not isinstance(one["content"], str))
    expected = clue_by_hand(base, processor, conversation, processor.clue_prompts[kind])
    assert expected
    assert augmented[turn]["content"] == [*conversation[turn]["content"], {"type": "clue", "text": expected}]
    assert augmented[:turn] + augmented[turn + 1 :] == conversation[:turn] + conversation[turn + 1 :]


def test_clue_of_a_row_does_not_depend_on_its_batch(base, processor):
    augmenter = PromptAugmenter(base, processor)
    alone = [augmenter.clues([one])[0] for one in CONVERSATIONS]
    assert len({one.text for one in alone}) == len(alone)
    assert augmenter.clues(CONVERSATIONS) == alone
    assert augmenter.clues(CONVERSATIONS[::-1]) == alone[::-1]


def test_token_limit_is_kept(base, processor):
    said = []
    base.lm_head.register_forward_hook(lambda *args: said.append(None))
    for limit in (1, 7):
        said.clear()
        PromptAugmenter(base, processor, max_new_tokens=limit).clues(CONVERSATIONS[1:2])
        assert len(said) == limit  # tokens; this random model does not end by itself


def test_sharing_gives_what_two_full_passes_give_with_a_second_model(base, model, processor):
    clues, answers = one_pass(PromptAugmenter(base, processor), model, CONVERSATIONS)
    expected_clues, expected = two_passes(base, model, processor, CONVERSATIONS)
    assert [one.text for one in clues] == expected_clues
    assert answers == expected
    plain = encode(processor, CONVERSATIONS[:1])
    assert model.generate(**plain, **LIMITS)[0, plain["input_ids"].shape[1] :].tolist() != answers[0]  # clues matter


@pytest.mark.parametrize("kind", ["lora", "dora", "whole module"])
def test_sharing_gives_what_two_full_passes_give_on_one_set_of_weights(model, processor, kind):
    tuned = with_lora(
        model,
        **({"use_dora": True} if kind == "dora" else {}),
        **({"modules_to_save": ["lm_head"]} if kind == "whole module" else {}),
    )
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "modules_to_save" in name:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    clues, answers = one_pass(PromptAugmenter(tuned, processor), tuned, CONVERSATIONS)
    expected_clues, expected = two_passes(model, tuned, processor, CONVERSATIONS)  # the base as it was before
    assert [one.text for one in clues] == expected_clues
    assert answers == expected


def test_adapter_folder_loaded_by_transformers_is_its_own_base(model, processor, tmp_path):
    model.save_pretrained(tmp_path / "base")
    tuned = with_lora(AutoModelForImageTextToText.from_pretrained(tmp_path / "base"))
    tuned.peft_config["default"].base_model_name_or_path = str(tmp_path / "base")
    tuned.save_pretrained(tmp_path / "lora")
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path / "lora")
    clues, answers = one_pass(PromptAugmenter(loaded, processor), loaded, CONVERSATIONS)
    assert ([one.text for one in clues], answers) == two_passes(model, tuned, processor, CONVERSATIONS)


def test_tower_with_an_adapter_looks_twice(model, processor):
    tuned = with_lora(model, targets=r".*(vision_tower|language_model).*\.(q_proj|v_proj)")
    inner = tuned.get_base_model()
    assert not see_alike(inner.model, without_adapters(inner).model)
    clues, answers = one_pass(PromptAugmenter(tuned, processor), tuned, CONVERSATIONS)
    assert ([one.text for one in clues], answers) == two_passes(model, tuned, processor, CONVERSATIONS)


def count_looks(network):
    """Pictures that the tower is shown."""
    looks = []
    tower = (network.get_base_model() if isinstance(network, PeftModel) else network).model.vision_tower
    tower.register_forward_hook(
        lambda module, args, kwargs, output: looks.append(len(kwargs["pixel_values"])), with_kwargs=True
    )
    return looks


def test_each_picture_is_looked_at_once_where_weights_are_equal(base, model, processor):
    """Equal by their hash: the base's tower is a copy in memory of its own."""
    of_model, of_base = count_looks(model), count_looks(base)
    one_pass(PromptAugmenter(base, processor), model, CONVERSATIONS)
    pictures = 1 + 2 + 3 + 3 + 1 + 2
    assert (sum(of_model), sum(of_base)) == (pictures, 0)


def test_one_changed_weight_of_tower_or_projector_ends_the_sharing(base, model, processor):
    augmenter = PromptAugmenter(base, processor)
    assert see_alike(model.model, base.model)
    for part in (base.model.vision_tower, base.model.multi_modal_projector):
        weight = next(part.parameters()).data  # PEFT merges like this, which no counter of writes notices
        weight.view(-1)[0] += 0.5
        assert not see_alike(model.model, base.model)
        of_base = count_looks(base)
        clues, answers = one_pass(augmenter, model, CONVERSATIONS)
        assert ([one.text for one in clues], answers) == two_passes(base, model, processor, CONVERSATIONS)
        assert sum(of_base) > 0
        weight.view(-1)[0] -= 0.5
        assert see_alike(model.model, base.model)


def test_models_of_other_settings_do_not_see_alike(model):
    other = copy.deepcopy(model)
    other.config.vision_config.num_attention_heads = 2  # the same weights, another picture
    assert not see_alike(model.model, other.model)


def test_change_map_needs_no_second_look(model, processor):
    pairs = CONVERSATIONS[1:2]
    inputs = encode(processor, pairs)
    expected = model.get_change_map(inputs["pixel_values_pairs"])
    looks = count_looks(model)
    found = PromptAugmenter(model, processor).generate(model, pairs, inputs, change_map=True, **LIMITS)
    assert sum(looks) == 2
    torch.testing.assert_close(found.change_maps, expected)


def plain_answers(model, processor, conversations):
    inputs = encode(processor, conversations)
    return [strip(row.tolist()) for row in model.generate(**inputs, **LIMITS)[:, inputs["input_ids"].shape[1] :]]


def test_empty_clue_leaves_the_prompt_plain_and_says_so(base, model, processor, caplog):
    caplog.set_level("WARNING", logger=PromptAugmenter.__module__)  # commands are silent about it in the log
    base.generation_config.suppress_tokens = [
        token for token in range(base.config.text_config.vocab_size) if token != 2
    ]
    clues, answers = one_pass(PromptAugmenter(base, processor), model, CONVERSATIONS)
    assert {(one.text, one.failure) for one in clues} == {(None, "the base model's answer is empty")}
    assert answers == plain_answers(model, processor, CONVERSATIONS)
    assert "the prompt stays plain" in caplog.text


@pytest.mark.parametrize("alike", [True, False])
def test_failed_clue_leaves_the_prompt_plain_and_says_so(base, model, processor, monkeypatch, alike):
    def fail(*args, **kwargs):
        raise RuntimeError("the device is gone")

    if alike:
        monkeypatch.setattr(base, "generate", fail)
    else:
        next(base.model.vision_tower.parameters()).data += 0.5
        monkeypatch.setattr(base.model.vision_tower, "forward", fail)
    clues, answers = one_pass(PromptAugmenter(base, processor), model, CONVERSATIONS)
    assert {(one.text, one.failure) for one in clues} == {(None, "the device is gone")}
    assert answers == plain_answers(model, processor, CONVERSATIONS)


def test_want_of_memory_is_the_callers_where_fewer_conversations_may_fit(base, model, processor, monkeypatch):
    def fail(*args, **kwargs):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(base, "generate", fail)
    with pytest.raises(torch.OutOfMemoryError):
        one_pass(PromptAugmenter(base, processor), model, CONVERSATIONS)
    clues, answers = one_pass(PromptAugmenter(base, processor), model, CONVERSATIONS[:1])
    assert clues == [Clue(None, "out of memory")]
    assert answers == plain_answers(model, processor, CONVERSATIONS[:1])


def test_clue_without_room_is_left_out_of_its_own_prompt_only(base, model, processor):
    """Placed beside a longer one, a short prompt keeps its clue; so does a clue that was given."""
    long = user(CLIP, "Which event is this? " * 20)
    given = PromptAugmenter.with_clue(long, "a river")
    conversations = [CONVERSATIONS[0], long, given]
    clues, _ = one_pass(PromptAugmenter(base, processor), model, conversations)
    longest = int(encode(processor, [long])["attention_mask"].sum()) + 3
    model.config.text_config.max_position_embeddings = longest
    found, answers = one_pass(PromptAugmenter(base, processor), model, conversations)
    assert found == [clues[0], Clue(None, "the prompt has no room for it"), Clue("a river")]
    assert answers[1] == plain_answers(model, processor, [long])[0]


def test_base_that_cannot_read_a_clip_still_reads_the_picture_beside_it(base, model, processor):
    both = [CONVERSATIONS[0], CONVERSATIONS[2]]
    augmenter = PromptAugmenter(base, processor)
    expected = augmenter.clues(both)[0]
    question = augmenter.encode([augmenter.question(CONVERSATIONS[0])])
    base.config.text_config.max_position_embeddings = question["input_ids"].shape[1] + 32
    for found in (augmenter.clues(both), one_pass(augmenter, model, both)[0]):
        assert found[0] == expected
        assert found[1].text is None
        assert found[1].failure.startswith("the base model reads")


def test_options_of_the_template_hold_for_the_answer(base, model, processor):
    """The ablation's pair of two plain images, and the released code's prompt without a tag."""
    for template in ({"change_extraction": False}, {"task_tag": False}):
        pair = CONVERSATIONS[1:2]
        augmenter = PromptAugmenter(base, processor)
        inputs = encode(processor, pair, **template)
        found = augmenter.generate(model, pair, inputs, template=template, **LIMITS)
        augmented = encode(processor, augmenter(pair), **template)
        expected = model.generate(**augmented, **LIMITS)[:, augmented["input_ids"].shape[1] :]
        assert found.tokens.tolist() == expected.tolist()


def test_options_of_generate_hold_for_the_base_model(base, processor):
    """Such as what ends a clue that nobody waits for any more."""
    augmenter, lengths = PromptAugmenter(base, processor), []
    inputs = augmenter.encode([augmenter.question(CONVERSATIONS[0])])

    def stop(input_ids, scores, **options):
        lengths.append(input_ids.shape[1] - inputs["input_ids"].shape[1])
        return torch.full((len(input_ids),), lengths[-1] == 3, device=input_ids.device)

    augmenter.ask(inputs, stopping_criteria=StoppingCriteriaList([stop]))
    assert lengths == [1, 2, 3]


def test_inputs_of_other_conversations_are_refused(base, model, processor):
    inputs = encode(processor, CONVERSATIONS[:1])
    with pytest.raises(ValueError, match="a turn has 2 images and 0 clips, and its row placeholders for 1 images"):
        PromptAugmenter(base, processor).generate(model, CONVERSATIONS[1:2], inputs, **LIMITS)


def test_conversation_without_pictures_and_one_with_a_clue_are_not_asked(base, processor, monkeypatch):
    monkeypatch.setattr(base, "generate", None)
    given = user(picture(1), "Is there a road?")
    given[0]["content"].append({"type": "clue", "text": "a road"})
    augmenter = PromptAugmenter(base, processor)
    assert augmenter.with_clue(given, "a lake") == given
    clues = augmenter.clues([user("Hello"), given, [{"role": "user", "content": "Hello"}]])
    assert [one.text for one in clues] == [None, "a road", None]
    assert augmenter([given]) == [given]
