"""Settings of a processor hold: told at loading, set on a live one, saved and loaded."""

import numpy as np
import pytest
import torch
from transformers import AutoProcessor

from tests.tiny import encode, picture, tiny_processor, user


@pytest.fixture
def folder(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    return tmp_path


def test_padding_is_on_the_left_unless_told(folder, tmp_path):
    assert AutoProcessor.from_pretrained(folder).tokenizer.padding_side == "left"
    told = AutoProcessor.from_pretrained(folder, padding_side="right")
    assert told.tokenizer.padding_side == "right"
    words = told(text=["a", "a a a"], padding=True, return_tensors="pt")
    assert words["attention_mask"][0].tolist() == sorted(words["attention_mask"][0].tolist(), reverse=True)


def test_side_that_was_set_is_saved(folder, tmp_path):
    processor = AutoProcessor.from_pretrained(folder)
    processor.tokenizer.padding_side = "right"
    processor.save_pretrained(tmp_path / "right")
    loaded = AutoProcessor.from_pretrained(tmp_path / "right")
    assert loaded.tokenizer.padding_side == "right"
    assert AutoProcessor.from_pretrained(tmp_path / "right", padding_side="left").tokenizer.padding_side == "left"


def test_a_batch_padded_on_the_right_does_not_change_the_saved_side(folder, tmp_path):
    """A tokenizer keeps the last call's padding in its file."""
    processor = AutoProcessor.from_pretrained(folder)
    processor(text=["a", "a a a"], padding=True, padding_side="right")
    processor.save_pretrained(tmp_path / "again")
    assert AutoProcessor.from_pretrained(tmp_path / "again").tokenizer.padding_side == "left"


@pytest.mark.parametrize("option", [{"fps": 2}, {"do_sample_frames": False}])
def test_sampling_that_unirs_does_not_do_is_refused(processor, option):
    """It was ignored, and the usual number of frames shown."""
    with pytest.raises(ValueError, match=r"give num_frames"):
        encode(processor, user([picture(seed) for seed in range(9)], "a"), **option)
    assert len(encode(processor, user([picture(1)], "a"), num_frames=3)["pixel_values_videos"]) == 1


def test_clips_follow_the_image_processor_as_it_is_now(processor, tmp_path):
    """They kept its settings from when the processor was made, unless it was saved and loaded."""
    live = tiny_processor(processor.tokenizer)
    live.image_processor.image_aspect_ratio = "resize"
    live.image_processor.size = {"height": 14, "width": 14}
    wide = picture(1, 56, 28)
    frames = encode(live, user([wide], "a"))["pixel_values_videos"]
    assert frames.shape == (1, 3, 14, 14)
    assert torch.equal(frames, encode(live, user(wide, "a"))["pixel_values"])
    live.save_pretrained(tmp_path)
    saved = AutoProcessor.from_pretrained(tmp_path)
    assert torch.equal(encode(saved, user([wide], "a"))["pixel_values_videos"], frames)


@pytest.mark.parametrize("as_tensor", [False, True])
def test_floats_that_are_not_to_be_rescaled_are_refused(processor, as_tensor):
    """They are read as bytes, so pixels of -1 to 509 came out, where transformers' processors give -1 to 1."""
    array = np.asarray(picture(1)) / np.float32(255)
    floats = torch.from_numpy(array).permute(2, 0, 1) if as_tensor else array
    with pytest.raises(ValueError, match=r"do_rescale=False was given with pictures of floats.*leave it out"):
        processor.image_processor([[floats]], do_rescale=False)
    with pytest.raises(ValueError, match="do_rescale=False"):
        processor(text="<video>", videos=[[floats]], do_rescale=False)
    expected = processor.image_processor(picture(1), return_tensors="pt")["pixel_values"]
    assert torch.equal(processor.image_processor(floats, return_tensors="pt")["pixel_values"], expected)
