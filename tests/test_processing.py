"""Markers, messages, pictures and clips through the processor."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor
from unirs.processing import UniRSImageProcessor, prepare_tokenizer
from unirs.processing.prompts_unirs import DEFAULT_INSTRUCTIONS, ERA_CLASSES, FRAME_MARKERS

from tests.tiny import SIZE, encode, picture, raw_tokenizer, tiny_processor, user
from unirs import UniRSProcessor


def prompt(processor, messages, **kwargs) -> str:
    return processor.apply_chat_template(messages, add_generation_prompt=True, **kwargs)


def turn(processor, *content, **kwargs) -> str:
    """The user turn of a prompt, without the system text."""
    return prompt(processor, user(*content), **kwargs).partition("USER: ")[2].removesuffix(" ASSISTANT:")


# -- what the template writes ----------------------------------------------------------------------------------------
def test_one_image_two_images_and_a_clip_get_their_marker_tag_and_words(processor):
    image, clip = picture(1), [picture(1)] * 4
    assert turn(processor, image, "Why?") == "<image>\nSingle image understanding: Why?"
    assert turn(processor, image, image, "Why?") == "<Change Feature>\nRemote sensing change captioning: Why?"
    assert turn(processor, clip, "Why?") == "<video>\nVideo scene classification: Why?"
    assert turn(processor, image, image, image, "Why?") == "<video>\nVideo scene classification: Why?"
    assert turn(processor, "Why?") == "Why?"


def test_markers_come_first_wherever_the_picture_stands_in_the_message(processor):
    assert turn(processor, "Why?", picture(1)) == turn(processor, picture(1), "Why?")


def test_options_leave_out_the_tag_and_send_a_pair_as_two_plain_images(processor):
    pair = picture(1), picture(2), "Why?"
    assert turn(processor, *pair, task_tag=False) == "<Change Feature>\nWhy?"
    plain = turn(processor, *pair, change_extraction=False)
    assert plain == "<image>\n<image>\nRemote sensing change captioning: Why?"


def test_pictures_without_a_question_get_the_papers_instruction(processor):
    assert turn(processor, picture(1), picture(2)).endswith(": " + DEFAULT_INSTRUCTIONS["pair"])
    assert turn(processor, picture(1)).endswith(": " + DEFAULT_INSTRUCTIONS["single"])
    assert turn(processor, [picture(1)]).endswith(", ".join(ERA_CLASSES) + ".")
    assert len(set(ERA_CLASSES)) == 25


def test_clue_follows_the_instruction(processor):
    messages = user(picture(1), "Is there a lake?")
    messages[0]["content"].append({"type": "clue", "text": " a lake between fields "})
    expected = "<image>\nSingle image understanding: Is there a lake? Clue: a lake between fields"
    assert expected in prompt(processor, messages)


def test_several_turns_and_an_own_system_text(processor):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Q1"}]},
        {"role": "assistant", "content": "A1"},
        {"role": "user", "content": "Q2"},
    ]
    expected = "<s> Be brief. USER: <image>\nSingle image understanding: Q1 ASSISTANT: A1</s>USER: Q2 ASSISTANT:"
    assert prompt(processor, messages) == expected


def test_unknown_roles_are_refused(processor):
    with pytest.raises(Exception, match="roles user and assistant"):
        prompt(processor, [{"role": "tool", "content": "x"}])


# -- words to placeholders -------------------------------------------------------------------------------------------
def test_every_marker_becomes_as_many_placeholders_as_features(processor):
    def count(inputs, token):
        return (inputs["input_ids"] == token).sum().item()

    single, pair = encode(processor, user(picture(1), "a")), encode(processor, user(picture(1), picture(2), "a"))
    clip = encode(processor, user([picture(1)] * 9, "a"))
    assert (count(single, processor.image_token_id), count(pair, processor.change_token_id)) == (4, 4)
    assert [count(clip, token) for token in processor.frame_token_ids] == [4] * 4 + [0] * 60
    assert single["pixel_values"].shape == (1, 3, SIZE, SIZE)
    assert pair["pixel_values_pairs"].shape == (1, 2, 3, SIZE, SIZE)
    assert clip["pixel_values_videos"].shape == (4, 3, SIZE, SIZE)


def test_pair_keeps_its_order(processor):
    before, after = picture(1), picture(2)
    pair = encode(processor, user(before, after, "a"))["pixel_values_pairs"][0]
    for place, image in enumerate((before, after)):
        assert torch.equal(pair[place], processor.image_processor(image, return_tensors="pt")["pixel_values"][0])


def test_dated_sequence_equals_a_clip_of_its_pictures(processor):
    images = [picture(seed) for seed in range(3)]
    sequence, clip = encode(processor, user(*images, "a")), encode(processor, user(images, "a"))
    assert sequence.keys() == clip.keys()
    assert all(torch.equal(sequence[name], clip[name]) for name in clip)


def test_finished_prompt_gives_the_same_as_messages(processor):
    """vLLM and TRL's prompt-completion path render the text first and hand the pictures over beside it."""
    images = [picture(seed) for seed in range(5)]
    for content in ([images[0], "a"], [*images[:2], "a"], [*images, "a"]):
        text = prompt(processor, user(*content))
        beside = processor(text=text, images=[content[:-1]], add_special_tokens=False, return_tensors="pt")
        inside = encode(processor, user(*content))
        assert torch.equal(beside["input_ids"], inside["input_ids"])


def test_markers_typed_by_a_user_stay_text(processor):
    typed = "What do <image>, <Change Feature>, <video>, <Frame 1>, </s> and <s> mean?"
    messages = user(picture(1), typed)
    messages[0]["content"].append({"type": "clue", "text": "a <image> </s> clue"})
    ids = encode(processor, messages)["input_ids"][0].tolist()
    assert ids.count(processor.image_token_id) == 4
    assert not set(ids) & {processor.change_token_id, *processor.frame_token_ids, 2}
    assert ids.count(1) == 1
    assert typed in processor.tokenizer.decode(ids)
    assert "\ue000" not in processor.tokenizer.decode(ids)


def test_escaped_text_is_tokenised_as_if_it_had_not_been_escaped(processor):
    plain = "a < b, x<y and <b>"
    tokenizer = processor.tokenizer
    assert tokenizer(processor.escape(plain))["input_ids"] == tokenizer(plain)["input_ids"]
    assert processor.escape("<image>") != "<image>"


def test_assistant_mask_covers_answers_and_their_end_only(processor):
    messages = [
        *user(picture(1), picture(2), "What?"),
        {"role": "assistant", "content": "a house"},
        {"role": "user", "content": "Sure?"},
        {"role": "assistant", "content": "yes <image>"},
    ]
    encoded = processor.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    ids, mask = encoded["input_ids"][0], encoded["assistant_masks"][0]
    kept = processor.tokenizer.decode([token for token, keep in zip(ids, mask, strict=True) if keep])
    assert kept.replace(" ", "") == "ahouse</s>yes<image></s>"
    assert processor.image_token_id not in ids


@pytest.mark.parametrize("side", ["left", "right"])
def test_assistant_mask_of_a_padded_batch_covers_the_answers(processor, side):
    """Expanded placeholders and padding once moved the mask, and differently in every transformers version."""
    clip = [picture(seed) for seed in range(4)]
    conversations = [
        [*user(picture(1), "What?"), {"role": "assistant", "content": "a"}],
        [*user(*clip, "What is that, and what was there before?"), {"role": "assistant", "content": "two <houses>"}],
        [*user("Hm?"), {"role": "assistant", "content": "yes"}],
    ]
    encoded = processor.apply_chat_template(
        conversations,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        return_assistant_tokens_mask=True,
        processor_kwargs={"padding": True, "padding_side": side},
    )
    masks = torch.as_tensor(encoded["assistant_masks"]).bool()
    kept = [processor.tokenizer.decode(ids[mask]) for ids, mask in zip(encoded["input_ids"], masks, strict=True)]
    assert [text.replace(" ", "") for text in kept] == ["a</s>", "two<houses></s>", "yes</s>"]


# -- counts ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "images", "message"),
    [
        ("<image> a", 2, "markers for 1 images, but 2 images were given"),
        ("<image><image> a", 1, "markers for 2 images, but 1 images were given"),
        ("<Change Feature> a", 1, r"markers for 2 images \(<Change Feature> takes two.*but 1 images were given"),
        ("<Change Feature> a", 3, "markers for 2 images.*but 3 images were given"),
        ("a", 1, "markers for 0 images, but 1 images were given"),
        ("<video> a", 0, "1 <video> markers, but 0 videos were given"),
    ],
)
def test_count_mismatch_is_told_with_both_numbers(processor, text, images, message):
    with pytest.raises(ValueError, match=message):
        processor(text=text, images=[picture(seed) for seed in range(images)] or None)


def test_flat_images_are_consumed_by_the_texts_in_order(processor):
    images = [picture(seed) for seed in range(4)]
    batch = processor(text=["<image> a", "<Change Feature> b", "<image> c"], images=images)
    expected = [processor.image_processor(image, return_tensors="pt")["pixel_values"][0] for image in images]
    assert torch.equal(batch["pixel_values"], torch.stack([expected[0], expected[3]]))
    assert torch.equal(batch["pixel_values_pairs"], torch.stack(expected[1:3])[None])


def test_more_than_64_frames_are_refused(processor):
    with pytest.raises(ValueError, match=r"65 frames were asked for; a clip has at most 64"):
        encode(processor, user([picture(1)] * 70, "a"), num_frames=65)
    with pytest.raises(ValueError, match="num_frames is 65; 1 to 64"):
        tiny_processor(processor.tokenizer, num_frames=65)
    longest = encode(processor, user([picture(1)] * 70, "a"), num_frames=64)
    assert longest["pixel_values_videos"].shape[0] == len(FRAME_MARKERS) == 64


def test_truncation_inside_pictures_is_refused(processor):
    with pytest.raises(ValueError, match=r"needs 4 placeholders for its pictures and has \d after truncation"):
        processor(text="<image> a", images=[picture(1)], truncation=True, max_length=3)


def test_tokenizer_without_markers_is_refused():
    with pytest.raises(ValueError, match=r"call unirs\.processing\.prepare_tokenizer"):
        UniRSProcessor(UniRSImageProcessor(size={"height": 28, "width": 28}), raw_tokenizer(), patch_size=7)


def test_preparing_a_tokenizer_twice_changes_nothing():
    tokenizer = prepare_tokenizer(raw_tokenizer())
    before = tokenizer.backend_tokenizer.to_str()
    assert prepare_tokenizer(tokenizer).backend_tokenizer.to_str() == before


# -- pictures --------------------------------------------------------------------------------------------------------
def test_every_form_of_a_picture_gives_the_same_pixels(processor, tmp_path):
    image = picture(1, 40, 30)
    array = np.asarray(image)
    image.save(tmp_path / "a.png")
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    forms = [image, array, torch.from_numpy(array), torch.from_numpy(array).permute(2, 0, 1), buffer.getvalue()]
    forms += [str(tmp_path / "a.png"), tmp_path / "a.png"]
    expected = processor.image_processor(image, return_tensors="pt")["pixel_values"]
    for form in forms:
        assert torch.equal(processor.image_processor(form, return_tensors="pt")["pixel_values"], expected)
        assert torch.equal(
            encode(processor, [{"role": "user", "content": [{"type": "image", "image": form}]}])["pixel_values"],
            expected,
        )


def test_padding_centres_the_picture_on_the_mean_colour():
    """Closed form: 8x4 white on grey 127, no resampling at 8x8."""
    processor = UniRSImageProcessor(size={"height": 8, "width": 8})
    white = Image.new("RGB", (8, 4), "white")
    pixels = processor(white, return_tensors="pt")["pixel_values"][0]
    grey = (127 / 255 - 0.5) / 0.5
    expected = torch.full((3, 8, 8), grey)
    expected[:, 2:6] = 1.0
    torch.testing.assert_close(pixels, expected, atol=1e-6, rtol=0)


def test_resize_squashes_instead():
    processor = UniRSImageProcessor(size={"height": 8, "width": 8}, image_aspect_ratio="resize")
    pixels = processor(Image.new("RGB", (8, 4), "white"), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(pixels, torch.ones(1, 3, 8, 8), atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="'pad' and 'resize'"):
        processor(picture(1), image_aspect_ratio="crop")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"do_normalize": False},
        {"do_rescale": False},
        {"do_rescale": False, "do_normalize": False},
        {"do_resize": False},
        {"do_center_crop": True, "crop_size": {"height": 20, "width": 50}},
        {"resample": Image.Resampling.BILINEAR},
        {"return_tensors": None},
    ],
    ids=str,
)
def test_pixels_are_those_of_transformers_own_processor(options):
    """Bit by bit where Pillow resizes; torchvision resizes tensors, and rounds otherwise."""
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    settings = {"size": {"height": 40, "width": 24}, "image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28]}
    ours = UniRSImageProcessor(**settings, image_aspect_ratio="resize")
    if ours.backend != "pil":
        pytest.skip("torchvision is used here")
    pictures = [picture(seed, 56, 90) for seed in range(3)]
    options = {"return_tensors": "pt", **options}
    found = ours(pictures, **options)["pixel_values"]
    expected = SiglipImageProcessorPil(**settings)(pictures, **options)["pixel_values"]
    assert type(found) is type(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert np.array_equal(np.asarray(one), np.asarray(other))


def test_pictures_of_unlike_sizes_stay_unlike_without_resizing(processor):
    options = {"do_resize": False, "image_aspect_ratio": "resize", "return_tensors": None}
    found = processor.image_processor([picture(1, 56, 28), picture(2, 28, 42)], **options)["pixel_values"]
    alone = [
        processor.image_processor(one, **options)["pixel_values"][0]
        for one in (picture(1, 56, 28), picture(2, 28, 42))
    ]
    assert [one.shape for one in found] == [one.shape for one in alone]
    assert all(np.array_equal(one, other) for one, other in zip(found, alone, strict=True))


def test_aspect_ratio_can_be_chosen_for_one_call(processor):
    wide = picture(1, 56, 28)
    padded = encode(processor, user(wide, "a"))
    squashed = encode(processor, user(wide, "a"), image_aspect_ratio="resize")
    assert not torch.equal(padded["pixel_values"], squashed["pixel_values"])


# -- clips -----------------------------------------------------------------------------------------------------------
def test_every_form_of_a_clip_gives_the_same_pixels(processor):
    frames = [picture(seed) for seed in range(4)]
    array = np.stack([np.asarray(frame) for frame in frames])
    expected = encode(processor, user(frames, "a"))["pixel_values_videos"]
    for form in (frames, array, torch.from_numpy(array), [np.asarray(frame) for frame in frames]):
        messages = [{"role": "user", "content": [{"type": "video", "video": form}, {"type": "text", "text": "a"}]}]
        assert torch.equal(encode(processor, messages)["pixel_values_videos"], expected)
        beside = processor(text="<video> a", videos=form)
        assert torch.equal(beside["pixel_values_videos"], expected)


def test_short_clip_gives_all_its_frames_and_no_black_ones(processor):
    clip = encode(processor, user([picture(seed) for seed in range(2)], "a"), num_frames=4)
    pictures = processor.image_processor([picture(0), picture(1)], return_tensors="pt")["pixel_values"]
    assert torch.equal(clip["pixel_values_videos"], pictures)
    assert processor.frame_token_ids[2] not in clip["input_ids"]


# -- saving ----------------------------------------------------------------------------------------------------------
def test_saved_processor_prepares_the_same(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert isinstance(loaded, UniRSProcessor)
    assert (loaded.patch_size, loaded.num_frames) == (processor.patch_size, processor.num_frames)
    for content in ([picture(1, 40, 20), "a <image>"], [picture(1), picture(2)], [[picture(3)] * 5]):
        one, other = encode(processor, user(*content)), encode(loaded, user(*content))
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_long_strip_is_padded_without_filling_the_memory(processor):
    """A picture of 60,000 x 1 once asked for a square of 14 GB."""
    strip = np.random.default_rng(0).integers(0, 256, (1, 60_000), np.uint8)
    pixels = processor.image_processor(Image.fromarray(strip), return_tensors="pt")["pixel_values"]
    assert pixels.abs().max() < 0.02  # a hair on the mean colour


def test_typed_marker_in_a_finished_prompt_is_told_as_such(processor):
    with pytest.raises(ValueError, match=r"4 visual|1 visual placeholders and its pictures need 0.*escape"):
        processor(text="<Frame 1> hello")


def test_bare_base64_is_no_path(processor):
    buffer = io.BytesIO()
    picture(1).save(buffer, "PNG")
    item = {"type": "image", "base64": base64.b64encode(buffer.getvalue()).decode()}
    found = encode(processor, [{"role": "user", "content": [item]}])["pixel_values"]
    assert torch.equal(found, encode(processor, user(picture(1)))["pixel_values"])


def test_no_frames_are_refused_and_not_taken_for_the_default(processor):
    with pytest.raises(ValueError, match="num_frames is 0"):
        processor(text="<video>", videos=[[picture(1)]], num_frames=0)


def test_clip_without_text_is_one_clip(processor):
    frames = [picture(seed) for seed in range(3)]
    alone = processor(videos=frames, return_tensors="pt")["pixel_values_videos"]
    assert torch.equal(alone, processor(text="<video>", videos=frames, return_tensors="pt")["pixel_values_videos"])


def test_unknown_option_of_the_video_processor_is_refused(processor):
    with pytest.raises(TypeError, match="no option frame_count"):
        processor.video_processor([[picture(1)]], frame_count=3)


@pytest.mark.parametrize("as_markers", [False, True])
def test_of_many_dates_in_a_turn_the_last_is_seen(processor, as_markers):
    """Three and more images are a dated sequence; of a clip's frames the released rule leaves the last out."""
    shown = [picture(seed) for seed in range(9)]
    expected = processor.image_processor([shown[place] for place in (0, 3, 5, 8)], return_tensors="pt")["pixel_values"]
    if as_markers:
        found = processor(text="<video> What?", images=shown, num_frames=4, return_tensors="pt")
    else:
        found = processor.encode_chats([user(*shown, "What?")], {}, num_frames=4)
    assert torch.equal(found["pixel_values_videos"], expected)


def test_sequence_that_came_as_images_stands_beside_a_clip_in_a_batch(processor):
    """Its empty list of clips was taken for a clip."""
    dates, clip = [picture(seed) for seed in range(3)], [picture(seed) for seed in range(5, 9)]
    found = processor(text=["<video> a", "<video> a"], images=[dates, []], videos=[[], [clip]], padding=True)
    alone = [processor(text="<video> a", videos=[one], return_tensors="pt") for one in (dates, clip)]
    expected = torch.cat([one["pixel_values_videos"] for one in alone])
    assert torch.equal(torch.as_tensor(found["pixel_values_videos"]), expected)
    with pytest.raises(ValueError, match="text 1 has 1 <video> markers, but 0 videos were given"):
        processor(text=["<video> a", "<video> a"], images=[dates, []], videos=[[], []])


def test_pictures_without_words_are_as_many_frames_as_with_them(processor):
    """The video processor's own number is another one."""
    clip, mine = [picture(seed) for seed in range(20)], tiny_processor(processor.tokenizer, num_frames=16)
    assert mine(videos=[clip])["pixel_values_videos"].shape[0] == 16
    assert mine(videos=[clip], num_frames=5)["pixel_values_videos"].shape[0] == 5
    with_words = mine(text="<video> What?", videos=[clip], return_tensors="pt")
    assert torch.equal(torch.as_tensor(mine(videos=[clip])["pixel_values_videos"]), with_words["pixel_values_videos"])
