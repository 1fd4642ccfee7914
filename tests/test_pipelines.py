"""The three pipelines say what `generate` says, one by one and in batches."""

from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset
from transformers import pipeline

from tests.tiny import encode, other_words, picture, tiny_model, user
from unirs import PromptAugmenter

INPUTS = {
    "rs-visual-question-answering": [
        {"image": picture(1), "question": "Is there a road?"},
        {"image": picture(2, 40, 30), "question": "How many buildings are there in this image?"},
        {"image": picture(3), "question": "Rural or urban?"},
    ],
    "change-captioning": [
        {"before": picture(1), "after": picture(2)},
        {"before": picture(3, 40, 30), "after": picture(4, 40, 30), "instruction": "Has anything changed?"},
        {"before": picture(2), "after": picture(1)},
    ],
    "video-scene-classification": [
        {"video": [picture(seed) for seed in range(4)], "instruction": "Which event?"},
        {"video": [picture(seed) for seed in range(2)]},
        {"video": [picture(seed) for seed in range(9, 1, -1)], "instruction": "What is this?"},
    ],
}
TASKS = list(INPUTS)


@pytest.fixture(scope="module")
def pipes(processor):
    model = tiny_model(processor)
    return {task: pipeline(task, model=model, processor=processor, device="cpu") for task in TASKS}


def content(inputs):
    """An input of any pipeline as the items of a chat message."""
    visual = [inputs[name] for name in ("image", "before", "after", "video") if name in inputs]
    if "video" in inputs and len(inputs["video"]) > 2:  # dated pictures
        visual = inputs["video"]
    return [*visual, inputs.get("question") or inputs.get("instruction") or ""]


def ask_directly(pipe, inputs, **kwargs):
    encoded = encode(pipe.processor, user(*content(inputs)))
    output = pipe.model.generate(**encoded, max_new_tokens=8, **kwargs)[0, encoded["input_ids"].shape[1] :]
    return pipe.processor.tokenizer.decode(output, skip_special_tokens=True).strip()


@pytest.mark.parametrize("task", TASKS)
def test_answers_are_those_of_generate(pipes, task):
    found = [pipes[task](inputs, max_new_tokens=8) for inputs in INPUTS[task]]
    assert found == [{"answer": ask_directly(pipes[task], inputs)} for inputs in INPUTS[task]]
    assert len({one["answer"] for one in found}) > 1


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_batches_answer_as_single_inputs_do(pipes, task, batch_size):
    pipe = pipes[task]
    expected = [pipe(inputs, max_new_tokens=8) for inputs in INPUTS[task]]
    assert pipe(INPUTS[task], max_new_tokens=8, batch_size=batch_size) == expected
    assert list(pipe((one for one in INPUTS[task]), max_new_tokens=8, batch_size=batch_size)) == expected


class Rows(Dataset):
    """A map-style data set that, as one of files by number, never raises IndexError."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index % len(self.rows)]


@pytest.mark.parametrize("task", TASKS)
def test_a_data_set_ends_at_its_length(pipes, task):
    """It was asked for row after row without an end, and by the video pipeline refused."""
    expected = pipes[task](INPUTS[task], max_new_tokens=3, batch_size=2)
    found = pipes[task](Rows(INPUTS[task]), max_new_tokens=3, batch_size=2)
    assert list(islice(found, 5)) == expected


@pytest.mark.parametrize("task", TASKS)
def test_beams_reach_generate(pipes, task):
    inputs = INPUTS[task][0]
    expected = ask_directly(pipes[task], inputs, num_beams=3)
    assert pipes[task](inputs, max_new_tokens=8, num_beams=3)["answer"] == expected


def test_positional_forms_are_the_dict_forms(pipes):
    ask, change, video = (pipes[task] for task in TASKS)
    one, two, three = (INPUTS[task][0] for task in TASKS)
    assert ask(one["image"], one["question"], max_new_tokens=5) == ask(one, max_new_tokens=5)
    expected = change(two, max_new_tokens=5)
    assert change(two["before"], two["after"], max_new_tokens=5) == expected
    assert change((two["before"], two["after"]), max_new_tokens=5) == expected
    assert video(three["video"], three["instruction"], max_new_tokens=5) == video(three, max_new_tokens=5)


def test_clue_enters_the_prompt_and_that_of_an_input_goes_first(pipes):
    for task in TASKS:
        pipe, inputs = pipes[task], INPUTS[task][0]

        def prompt(given, pipe=pipe, **kwargs):
            return pipe.processor.tokenizer.decode(pipe.preprocess(given, **kwargs)["input_ids"][0])

        assert "Clue:" not in prompt(inputs)
        assert "Clue: a river ASSISTANT:" in prompt(inputs, clue="a river")
        assert "Clue: a lake ASSISTANT:" in prompt({**inputs, "clue": "a lake"}, clue="a river")
        assert "Clue: a river ASSISTANT:" in prompt({**inputs, "clue": None}, clue="a river")  # a table's gap


def both_by_hand(pipe, base, inputs):
    """The base model's clue, then the answer with it, each by a full pass."""
    conversation = {"role": "user", "content": user(*content(inputs))[0]["content"]}
    augmenter = PromptAugmenter(base, pipe.processor)
    (clue,) = augmenter.clues([[conversation]])
    (augmented,) = augmenter([[conversation]])
    encoded = encode(pipe.processor, augmented)
    output = pipe.model.generate(**encoded, max_new_tokens=8)[0, encoded["input_ids"].shape[1] :]
    said = pipe.processor.tokenizer.decode(output, skip_special_tokens=True).strip()
    return {"answer": said, "clue": clue.text}


@pytest.fixture(scope="module")
def base(processor):
    return other_words(tiny_model(processor))


@pytest.mark.parametrize("task", TASKS)
def test_clue_of_the_base_model_enters_each_prompt(pipes, base, task):
    pipe, inputs = pipes[task], INPUTS[task]
    expected = [both_by_hand(pipe, base, one) for one in inputs]
    assert all(one["clue"] for one in expected)
    assert [pipe(one, clue=True, base=base, max_new_tokens=8) for one in inputs] == expected
    assert pipe(inputs, clue=True, base=base, max_new_tokens=8, batch_size=3) == expected
    of_its_own = [both_by_hand(pipe, pipe.model, one) for one in inputs]
    assert pipe(inputs, clue=True, max_new_tokens=8, batch_size=2) == of_its_own


def test_kinds_mix_in_one_call(pipes, base):
    pipe = pipes["rs-visual-question-answering"]
    given = [INPUTS[task][number] for number in (0, 1) for task in TASKS]
    expected = [both_by_hand(pipe, base, one) for one in given]
    chats = [{"messages": user(*content(one))} for one in given]
    assert pipe(chats, clue=True, base=base, max_new_tokens=8, batch_size=4) == expected
    assert pipe(chats, max_new_tokens=8, batch_size=4) == [{"answer": ask_directly(pipe, one)} for one in given]


def test_clue_is_set_for_the_pipeline_or_for_a_call(pipes, base, processor):
    inputs = INPUTS["change-captioning"][0]
    model = pipes["change-captioning"].model
    with_clues = pipeline("change-captioning", model=model, processor=processor, clue=True, base=base)
    expected = both_by_hand(with_clues, base, inputs)
    assert with_clues(inputs, max_new_tokens=8) == expected
    assert with_clues(inputs, max_new_tokens=8, clue=False).keys() == {"answer"}
    assert with_clues({**inputs, "clue": "a lake"}, max_new_tokens=8)["clue"] == "a lake"  # what is there, stays
    chat = {"messages": user(*content(inputs))}
    by_words = with_clues({**inputs, "clue": "a lake"}, max_new_tokens=8)
    assert with_clues({**chat, "clue": "a lake"}, max_new_tokens=8) == by_words
    assert with_clues(chat, clue="a lake", max_new_tokens=8) == {"answer": by_words["answer"]}
    short = PromptAugmenter(base, processor, max_new_tokens=20, prompts={"pair": "Is it the same place?"})
    clue = pipes["change-captioning"](inputs, clue=short, max_new_tokens=8)["clue"]
    assert clue == short.clues([user(*content(inputs)[:2])])[0].text != expected["clue"]


def test_several_answers_of_an_input_have_its_clue_and_its_map(pipes, base):
    pipe, inputs = pipes["change-captioning"], INPUTS["change-captioning"]
    several = {"num_return_sequences": 2, "num_beams": 2}
    found = pipe(
        inputs, clue=True, base=base, change_map=True, max_new_tokens=4, batch_size=3, generate_kwargs=several
    )
    one_by_one = [pipe(one, clue=True, base=base, change_map=True, max_new_tokens=4) for one in inputs]
    assert [[one["clue"] for one in several] for several in found] == [[one["clue"]] * 2 for one in one_by_one]
    for (first, second), one in zip(found, one_by_one, strict=True):
        np.testing.assert_allclose(first["change_map"], one["change_map"], atol=1e-5)
        np.testing.assert_allclose(second["change_map"], one["change_map"], atol=1e-5)


def test_several_answers_of_an_input_are_a_list(pipes):
    """One input gave the first of them alone, two inputs gave four answers in a row."""
    pipe, inputs = pipes["rs-visual-question-answering"], INPUTS["rs-visual-question-answering"][:2]
    several = {"num_return_sequences": 2, "num_beams": 2}
    expected = []
    for one in inputs:
        encoded = encode(pipe.processor, user(*content(one)))
        output = pipe.model.generate(**encoded, max_new_tokens=4, **several)[:, encoded["input_ids"].shape[1] :]
        said = pipe.processor.tokenizer.batch_decode(output, skip_special_tokens=True)
        expected.append([{"answer": answer.strip()} for answer in said])
    assert all(len(both) == 2 for both in expected)
    assert pipe(inputs, max_new_tokens=4, generate_kwargs=several, batch_size=2) == expected
    assert pipe(inputs[0], max_new_tokens=4, generate_kwargs=several) == expected[0]


def test_what_generate_returns_beside_the_tokens_does_not_hide_them(pipes):
    """The stock pipeline asks for plain tokens too; here it was "tuple indices must be integers"."""
    pipe, inputs = pipes["rs-visual-question-answering"], INPUTS["rs-visual-question-answering"][0]
    expected = pipe(inputs, max_new_tokens=4)
    assert pipe(inputs, max_new_tokens=4, generate_kwargs={"return_dict_in_generate": True}) == expected


def test_a_saved_pipeline_loads_again_and_says_the_same(pipes, tmp_path):
    """Its processor was not saved, so that pictures got another number of tokens."""
    pipe, inputs = pipes["change-captioning"], INPUTS["change-captioning"][0]
    pipe.save_pretrained(tmp_path)
    again = pipeline("change-captioning", model=str(tmp_path), device="cpu")
    assert again(inputs, max_new_tokens=8) == pipe(inputs, max_new_tokens=8)
    assert not (tmp_path / "preprocessor_config.json").exists()  # for it transformers would ask to trust the code


def test_missing_clue_is_told_beside_the_plain_answer(pipes, base, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("no memory left")

    monkeypatch.setattr(base, "generate", fail)
    inputs = INPUTS["rs-visual-question-answering"][0]
    pipe = pipes["rs-visual-question-answering"]
    found = pipe(inputs, clue=True, base=base, max_new_tokens=8)
    assert found == {"answer": ask_directly(pipe, inputs), "clue": None, "no_clue": "no memory left"}


def test_change_maps_belong_to_the_pairs_among_mixed_inputs(pipes, base):
    pipe = pipes["change-captioning"]
    one, two = INPUTS["change-captioning"][:2]
    mixed = [{"messages": user(*content(one))}, {"messages": user(picture(5), "?")}, {"messages": user(*content(two))}]
    maps = [pipe(given, change_map=True, max_new_tokens=2)["change_map"] for given in (one, two)]
    for options in ({}, {"clue": True, "base": base}):
        found = pipe(mixed, change_map=True, max_new_tokens=2, batch_size=3, **options)
        np.testing.assert_allclose(found[0]["change_map"], maps[0], atol=1e-5)
        assert "change_map" not in found[1]
        np.testing.assert_allclose(found[2]["change_map"], maps[1], atol=1e-5)


def test_change_map_comes_with_each_answer(pipes):
    pipe, inputs = pipes["change-captioning"], INPUTS["change-captioning"]
    batch = pipe(inputs, change_map=True, max_new_tokens=2, batch_size=3)
    for one, found in zip(inputs, batch, strict=True):
        pixels = encode(pipe.processor, user(*content(one)))["pixel_values_pairs"]
        expected = pipe.model.get_change_map(pixels)[0].detach().numpy()
        assert expected.ndim == 2
        np.testing.assert_allclose(found["change_map"], expected, atol=1e-5)
    same = pipe(picture(1), picture(1), change_map=True, max_new_tokens=2)["change_map"]
    np.testing.assert_allclose(same, 0, atol=1e-5)


def test_options_of_one_pipeline_are_refused_by_the_others(pipes):
    with pytest.raises(TypeError, match="change_map"):
        pipes["rs-visual-question-answering"](INPUTS["rs-visual-question-answering"][0], change_map=True)
    with pytest.raises(TypeError, match="num_frames"):
        pipes["change-captioning"](INPUTS["change-captioning"][0], num_frames=3)


def test_num_frames_sets_the_frames_of_a_clip(pipes):
    pipe, clip = pipes["video-scene-classification"], {"video": [picture(seed) for seed in range(9)]}
    assert pipe.preprocess(clip)["pixel_values_videos"].shape[0] == 4  # the processor's own number
    assert pipe.preprocess(clip, num_frames=7)["pixel_values_videos"].shape[0] == 7
    assert pipe(clip, num_frames=7, max_new_tokens=2).keys() == {"answer"}


def test_the_first_and_the_last_of_dated_pictures_are_shown(pipes):
    """The rule of clips would leave out the newest date of each list, and no error would tell."""
    pipe, dates = pipes["video-scene-classification"], [picture(seed) for seed in range(9)]
    shown = pipe.preprocess({"video": dates})["pixel_values_videos"]
    each = [pipe.processor.image_processor(date, return_tensors="pt")["pixel_values"] for date in dates]
    assert [k for k in range(9) for one in shown if torch.equal(one, each[k][0])] == [0, 3, 5, 8]


def test_settings_of_the_pipeline_hold_for_every_call(pipes, processor):
    """`pipeline(..., max_new_tokens=3)` was once dropped in silence."""
    inputs = INPUTS["rs-visual-question-answering"][0]
    short = pipeline(
        "rs-visual-question-answering", model=pipes["change-captioning"].model, processor=processor, max_new_tokens=3
    )
    expected = pipes["rs-visual-question-answering"](inputs, max_new_tokens=3)
    assert short(inputs) == expected


def test_answer_without_a_limit_ends_after_64_tokens(pipes, monkeypatch):
    pipe = pipes["rs-visual-question-answering"]
    seen = {}

    def generate(input_ids, max_new_tokens=None, generation_config=None, **kwargs):
        seen["limit"] = max_new_tokens or generation_config.max_new_tokens  # the second in transformers 5.17
        return torch.cat([input_ids, input_ids[:, :1]], 1)

    monkeypatch.setattr(pipe.model, "generate", generate)
    pipe(INPUTS["rs-visual-question-answering"][0])
    assert seen == {"limit": 64}


@pytest.mark.parametrize("task", TASKS)
def test_words_beside_dicts_are_refused(pipes, task):
    """They were dropped, and the default instruction was asked."""
    words = pipes[task].words_field
    given = [{**inputs, words: "Why?"} for inputs in INPUTS[task]]
    for ready in (given[0], given, iter(given)):
        with pytest.raises(ValueError, match=f"write it into each of them as '{words}'"):
            pipes[task](ready, **{words: "Is there a road?"})


def test_a_chat_that_ends_with_an_answer_is_refused(pipes):
    """A second answer was asked for behind the end of the first."""
    chat = [*user(picture(1), "What?"), {"role": "assistant", "content": "It is"}]
    with pytest.raises(ValueError, match="whose last message is the user's"):
        pipes["rs-visual-question-answering"]({"messages": chat})


@pytest.mark.parametrize(
    ("task", "given", "message"),
    [
        ("rs-visual-question-answering", {"image": picture(1)}, "needs image, question; this one has image"),
        ("rs-visual-question-answering", picture(1), "needs image, question; this one has Image"),
        ("change-captioning", {"before": picture(1)}, "needs before, after; this one has before"),
        ("video-scene-classification", {}, "needs video; this one has nothing"),
        ("rs-visual-question-answering", {"image": picture(1), "question": " "}, "question of this one is empty"),
        ("rs-visual-question-answering", {"image": picture(1), "question": "road " * 3000}, "shorten the text"),
    ],
)
def test_incomplete_input_names_what_is_missing(pipes, task, given, message):
    with pytest.raises(ValueError, match=message):
        pipes[task](given)
