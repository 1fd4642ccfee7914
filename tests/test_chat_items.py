"""Content items of messages: which there are, and what is said of others."""

import copy
from pathlib import Path

import pytest
import torch

import unirs
from tests.tiny import encode, picture, user
from unirs import PromptAugmenter

QUESTION = {"type": "text", "text": "Why?"}


def rendered(processor, *items) -> str:
    chat = [{"role": "user", "content": list(items)}]
    return processor.apply_chat_template(chat, add_generation_prompt=True).partition("USER: ")[2]


@pytest.mark.parametrize("kind", ["image_pair", "input_image", "images", "audio", None])
@pytest.mark.parametrize("role", ["user", "assistant", "system"])
def test_item_of_an_unknown_type_is_refused_with_its_name(processor, kind, role):
    """It was dropped without a word, and the question answered without its picture."""
    chat = [{"role": role, "content": [{"type": kind, "image": picture(1)}, QUESTION]}, *user("a")]
    sentence = f"type {kind}; the types are text, clue, image, image_url, video and video_url"
    for render in (processor.apply_chat_template, lambda chat: encode(processor, chat)):
        with pytest.raises(Exception, match=sentence):
            render(copy.deepcopy(chat))


def test_item_of_an_unknown_type_is_refused_under_an_older_template(processor):
    """Folders keep the template that they were saved with."""
    older = "{% for message in messages %}{% for item in message.content %}{{ item.text }}{% endfor %}{% endfor %}"
    chat = [{"role": "user", "content": [{"type": "images", "images": [picture(1)]}, QUESTION]}]
    with pytest.raises(ValueError, match="content item of type images"):
        processor.apply_chat_template(chat, chat_template=older, tokenize=True, return_dict=True)


@pytest.mark.parametrize("item", [{"type": "clue", "text": None}, {"type": "text", "text": None}, {"type": "text"}])
def test_item_without_words_writes_none(processor, item):
    """A table's empty cells come as None, and 'None' stood in the prompt."""
    image = {"type": "image"}
    assert rendered(processor, image, item, QUESTION) == rendered(processor, image, QUESTION)


@pytest.mark.parametrize(
    "begun", ["a < b </s>", [QUESTION, {"type": "text", "text": "<image>"}], "It is "], ids=["text", "items", "space"]
)
@pytest.mark.parametrize("several", [False, True])
def test_answer_that_is_begun_goes_on_whatever_stands_in_it(processor, begun, several):
    """transformers looks for its words in the prompt, where each "<" is escaped."""
    chat = [*user(picture(1), "What?"), {"role": "assistant", "content": begun}]
    options = {"tokenize": True, "return_dict": True}
    whole = processor.apply_chat_template(chat, **options)["input_ids"][0]
    chats = [chat, chat] if several else chat
    found = processor.apply_chat_template(chats, continue_final_message=True, **options)["input_ids"]
    assert found == [whole[:-1]] * len(found)  # all but the end of the answer
    assert len(found) == 1 + several


def test_video_url_is_a_clip_as_image_url_is_a_picture(processor):
    frames = [picture(seed) for seed in range(4)]
    expected = encode(processor, user(frames, "Why?"))
    for given in ({"url": frames}, frames):
        found = encode(processor, [{"role": "user", "content": [{"type": "video_url", "video_url": given}, QUESTION]}])
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in found)


def test_sequence_of_a_turn_is_told_from_pictures_and_clips_of_others(processor):
    """transformers 5.17 collects pictures by itself and knew no sequences: a batch with a clip in it was refused."""
    dates, clip, later = [[picture(10 * turn + seed) for seed in range(3)] for turn in range(3)]
    said = {"role": "assistant", "content": "Yes."}
    talk = [*user(picture(1), "a"), said, *user(clip, *dates, "b"), said, *user(*later, "c")]
    given = copy.deepcopy(talk)
    alone = [encode(processor, user(frames, "?"))["pixel_values_videos"] for frames in (dates, clip, later)]
    assert torch.equal(encode(processor, talk)["pixel_values_videos"], torch.cat(alone))
    assert [message["content"] for message in talk] == [message["content"] for message in given]
    batch = processor.encode_chats([user(*dates, "a"), user(clip, "b"), user(picture(1), "c")], {})
    assert torch.equal(batch["pixel_values_videos"], torch.cat(alone[:2]))
    assert len(batch["pixel_values"]) == 1


def test_a_url_item_without_its_field_is_refused_and_writes_no_marker(processor):
    for item in ({"type": "image_url"}, {"type": "video_url", "url": "a.mp4"}):
        with pytest.raises(Exception, match=r"image_url|video_url"):
            rendered(processor, item, QUESTION)


def test_arguments_of_a_chat_template_may_stand_in_their_order(processor):
    chat = user(picture(1), "Why?")
    expected = processor.apply_chat_template(chat, add_generation_prompt=True)
    assert processor.apply_chat_template(chat, None, None, None, True) == expected


def test_clue_of_a_video_url_is_asked_for_as_for_a_clip(model, processor):
    shown = {"type": "video_url", "video_url": {"url": [picture(1)] * 4}}
    (asked,) = PromptAugmenter(model, processor).question([{"role": "user", "content": [shown, QUESTION]}])
    assert asked["content"] == [shown, {"type": "text", "text": processor.clue_prompts["video"]}]


def test_template_of_unirs_tiny_is_the_packages_own(processor):
    assert (Path(unirs.default_checkpoint()) / "chat_template.jinja").read_text() == processor.chat_template
