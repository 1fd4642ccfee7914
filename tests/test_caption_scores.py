"""Caption scores against figures measured with the field's own scorers on LEVIR-CC, and against closed forms."""

import json
import math

import pytest
from unirs.evaluation.captions import caption_scores, normalise

from tests.conftest import DATA

NO_CHANGE = {
    "there is no difference",
    "the two scenes seem identical",
    "the scene is the same as before",
    "no change has occurred",
    "almost nothing has changed",
}


@pytest.fixture(scope="module")
def levir_cc():
    """The five captions of all 1,929 test pairs."""
    return list(json.loads((DATA / "levir_cc" / "levir_cc_captions.json").read_text())["test"].values())


@pytest.mark.data
@pytest.mark.parametrize(
    ("caption", "name", "score"),
    [
        ("no change has occurred", "cider_d", 110.44),
        ("the scene is the same as before", "cider_d", 101.93),
        ("the scene is the same as before", "bleu_4", 51.49),
        ("The scene is the same as before .", "cider_d", 101.93),  # 16.81 and 18.92 where nothing is normalised
    ],
)
def test_one_sentence_for_all_of_levir_cc_scores_as_known(levir_cc, caption, name, score):
    assert caption_scores([caption] * len(levir_cc), levir_cc)[name] == pytest.approx(score, abs=0.005)


@pytest.mark.data
def test_first_caption_of_a_changed_pair_scores_as_known_against_its_other_four(levir_cc):
    changed = [captions for captions in levir_cc if set(captions) != NO_CHANGE]
    assert len(changed) == 964
    scores = caption_scores([first for first, *_ in changed], [rest for _, *rest in changed])
    assert scores["cider_d"] == pytest.approx(41.62, abs=0.005)
    assert scores["bleu_4"] == pytest.approx(19.13, abs=0.005)


def test_scores_equal_those_worked_out_by_hand():
    """Two pairs: 3 of 4 words right, then 2 of 2. BLEU's counts are summed over the set before they are divided."""
    scores = caption_scores(["a road was built", "no change"], [["a road is built"], ["no change"]])
    # Words 5 of 6, pairs of words 2 of 4, no longer ones; lengths are equal, so there is no penalty.
    assert scores["bleu_1"] == pytest.approx(100 * 5 / 6)
    assert scores["bleu_2"] == pytest.approx(100 * math.sqrt(5 / 6 * 2 / 4))
    assert scores["rouge_l"] == pytest.approx(100 * (3 / 4 + 1) / 2)
    # "no change" has 1- and 2-grams only, so half of CIDEr-D's 10. In the other, each of a word's weights is log 2:
    # 3 of 4 words, 1 of 3 pairs, nothing longer.
    assert scores["cider_d"] == pytest.approx(100 * 10 / 4 * ((3 / 4 + 1 / 3) + 2) / 2)


def test_capitals_and_full_stops_do_not_count_on_either_side():
    plain = caption_scores(["a road is built", "no change"], [["a road is there"], ["no change", "none"]])
    spoilt = caption_scores(["A road  is built .", "No change!"], [["a road is there."], ["no change", "None?"]])
    assert spoilt == plain
    assert normalise("  Two houses.  Are they new?\n") == "two houses are they new"


def test_silence_scores_nothing_and_does_not_stop_the_others():
    scores = caption_scores(["", "no change"], [["a road is built"], ["no change"]])
    assert scores["rouge_l"] == pytest.approx(50)


def test_silence_has_nothing_in_common_with_a_reference_without_words():
    """It had a ROUGE-L of 100."""
    assert caption_scores(["", "a road"], [["a road is built", "."], ["a road", "a house"]])["rouge_l"] == 50


def test_scorers_print_nothing(capsys):
    caption_scores(["a road"], [["a road"]])
    assert capsys.readouterr() == ("", "")


def test_captions_without_references_are_refused():
    with pytest.raises(ValueError, match="2 captions cannot be scored against 1"):
        caption_scores(["a road", "a road"], [["a road"]])
    with pytest.raises(ValueError, match="pair 1 has no reference"):
        caption_scores(["a road", "a road"], [["a road"], []])
