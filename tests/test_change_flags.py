"""Does a caption say that anything changed? Against all captions of LEVIR-CC, whose flags are known."""

import json
import time

import pytest
from unirs.evaluation.change_flags import NO_CHANGE_SENTENCES, says_change

from tests.conftest import DATA


@pytest.mark.data
def test_all_captions_of_levir_cc_are_told_apart():
    captions = json.loads((DATA / "levir_cc" / "levir_cc_captions.json").read_text())
    pairs = [some for split in captions.values() for some in split.values()]
    assert len(pairs) == 10077
    wrong = [
        caption
        for some in pairs
        for caption in some
        if says_change(caption) != (set(some) != set(NO_CHANGE_SENTENCES))
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "caption",
    [
        "No change has occurred.",
        "no",
        "There are no obvious remote sensing image changes.",
        "No, there are no obvious changes between the two images.",
        "Nothing has changed.",
        "No changes can be observed.",
        "no significant changes have been detected between the two images",
        "The two images are almost identical.",
        "the area remains unchanged",
        "there is no difference between the two scenes",
        "Almost no changes are visible",
        "There are not any changes.",
        "The scene has not changed.",
        "the two images haven't changed",
    ],
)
def test_other_words_for_no_change_are_understood(caption):
    assert says_change(caption) is False


@pytest.mark.parametrize(
    "caption",
    [
        "no change except a new road",
        "there is no change in the houses but trees disappear",
        "there is no change. a road is built",
        "no houses are left",
        "the two scenes seem different",
        "the scene is the same as before but with a road",
        "not much has changed",
        "the scene has changed",
        "the houses have not changed",
        "yes",
        "a road is no longer there",
    ],
)
def test_whoever_says_more_than_no_change_says_a_change(caption):
    assert says_change(caption) is True


@pytest.mark.parametrize("caption", ["", " . ", "?!"])
def test_silence_says_neither(caption):
    assert says_change(caption) is None


@pytest.mark.parametrize(
    "words", ["there is no change " + "in the images " * 3000 + "x", "no obvious " * 3000, "in " * 9000]
)
def test_long_answers_do_not_hold_it_up(words):
    started = time.process_time()
    assert says_change(words) is True
    assert time.process_time() - started < 1
