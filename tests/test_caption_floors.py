"""What is reported beside CIDEr-D, against pycocoevalcap's own numbers."""

import json
import random
import shutil

import numpy as np
import pytest
from pycocoevalcap.cider.cider import Cider
from unirs.evaluation import change_captions, meteor
from unirs.evaluation.caption_floors import caption_floors
from unirs.evaluation.captions import caption_scores
from unirs.evaluation.change_captions import change_caption_scores
from unirs.evaluation.change_flags import NO_CHANGE_SENTENCES
from unirs.evaluation.cider import CiderD

from tests.conftest import DATA

PAIRS = [
    ["a road is built", "a new road appears", "one road"],
    ["many houses are built", "houses appear along the road", "a few houses"],
    list(NO_CHANGE_SENTENCES[:3]),
    list(NO_CHANGE_SENTENCES[:3]),
]
KINDS = ["change", "change", "no_change", "no_change"]
SAID = ["a road appears", "no change has occurred", "There is no difference.", ""]


@pytest.fixture(scope="module")
def levir_cc():
    """The five captions of all 1,929 test pairs, and which changed."""
    pairs = list(json.loads((DATA / "levir_cc" / "levir_cc_captions.json").read_text())["test"].values())
    return pairs, np.array([set(some) != set(NO_CHANGE_SENTENCES) for some in pairs])


def said_of(pairs):
    """Right, borrowed and odd captions: unknown words, repeated words, none."""
    rng = random.Random(0)
    said = [rng.choice(rng.choice(pairs)) if n % 3 else some[n % 5] for n, some in enumerate(pairs)]
    said[5:9] = ["", "blah quux zz zz", "the the the the the", "road"]
    return said


def by_pycocoevalcap(said, pairs):
    _, scores = Cider().compute_score(dict(enumerate(pairs)), {place: [one] for place, one in enumerate(said)})
    return 100 * scores


@pytest.mark.data
def test_our_cider_d_is_pycocoevalcaps_for_every_pair_and_every_part(levir_cc):
    pairs, changed = levir_cc
    said, cider = said_of(pairs), CiderD(pairs)
    np.testing.assert_allclose(cider.scores(said), by_pycocoevalcap(said, pairs), atol=1e-9)
    places = np.flatnonzero(changed)
    part = [pairs[place] for place in places], [said[place] for place in places]
    np.testing.assert_allclose(cider.part(places).scores(part[1]), by_pycocoevalcap(part[1], part[0]), atol=1e-9)


def test_our_cider_d_is_pycocoevalcaps_with_uneven_references_and_few_pairs():
    pairs = [["a"], ["a b c d e", "b", ""], ["a b", "a b", "c"]]
    said = ["a b", "b c d e", ""]
    np.testing.assert_allclose(CiderD(pairs).scores(said), by_pycocoevalcap(said, pairs), atol=1e-12)


@pytest.mark.data
def test_one_caption_for_all_pairs_scores_as_when_it_is_written_out(levir_cc):
    pairs, _ = levir_cc
    cider = CiderD(pairs)
    for caption in ("no change has occurred", "a road and a road and the road", "quux a blah", "", "quux"):
        np.testing.assert_allclose(cider.scores_of_all(caption), cider.scores([caption] * len(pairs)), atol=1e-9)


def test_captions_without_any_known_words_score_nothing():
    assert CiderD([["a road"], ["a house"]]).scores(["", ""]).tolist() == [0, 0]
    with pytest.raises(ValueError, match="no reference caption has any words"):
        CiderD([[""], [""]])


@pytest.mark.data
def test_floors_are_what_pycocoevalcap_gives_for_these_captions(levir_cc):
    pairs, changed = levir_cc
    floors = caption_floors(CiderD(pairs), pairs, changed)
    always = {row["caption"]: row["cider_d"] for row in floors["always"]}
    assert set(always) == set(NO_CHANGE_SENTENCES)
    assert always["no change has occurred"] == pytest.approx(110.44, abs=0.005)
    assert always["the scene is the same as before"] == pytest.approx(101.93, abs=0.005)
    best = floors["perfect_flag"]
    said = [best["change_caption"] if one else best["no_change_caption"] for one in changed]
    assert best["cider_d"] == pytest.approx(caption_scores(said, pairs)["cider_d"], abs=1e-6)
    assert best["cider_d"] == pytest.approx(136.65, abs=0.005)  # above Chg2Cap's published 136.61


@pytest.mark.data
def test_scores_of_changed_pairs_are_those_of_a_set_of_changed_pairs(levir_cc):
    pairs, changed = levir_cc
    said = said_of(pairs)
    kinds = ["change" if one else "no_change" for one in changed]
    scores = change_caption_scores(said, pairs, kinds, with_meteor=False)
    places = np.flatnonzero(changed)
    alone = caption_scores([said[place] for place in places], [pairs[place] for place in places])
    assert {key: scores["change_only"][key] for key in alone} == pytest.approx(alone)
    assert {key: scores[key] for key in alone} == pytest.approx(caption_scores(said, pairs))
    low, high = scores["cider_d_interval_95"]
    half = 1.96 * by_pycocoevalcap(said, pairs).std() / np.sqrt(len(pairs))
    assert (high - low) / 2 == pytest.approx(half, rel=0.1)


def test_change_flag_counts_each_kind_and_silence_is_wrong():
    scores = change_caption_scores(SAID, PAIRS, KINDS, with_meteor=False)
    assert scores["change_flag_accuracy"] == 2 / 4
    assert scores["change_flag"]["change"] == {"n": 2, "right": 1}
    assert scores["change_flag"]["no_change"] == {"n": 2, "right": 1}
    assert (scores["change_flag"]["without_words"], scores["change_flag"]["majority"]) == (1, 0.5)


def test_captions_of_single_pictures_have_no_flag_and_no_floor_of_flags():
    scores = change_caption_scores(SAID, PAIRS, ["caption"] * 4, with_meteor=False)
    assert not {"change_only", "change_flag", "change_flag_accuracy"} & set(scores)
    assert set(scores["floors"]) == {"always"}


def test_without_any_changed_pair_its_scores_are_null():
    scores = change_caption_scores(SAID[2:], PAIRS[2:], KINDS[2:], with_meteor=False)
    assert scores["change_only"] == {
        "n": 0,
        **dict.fromkeys(("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider_d")),
    }


def test_without_java_everything_else_is_there_and_the_reason_is_said(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    scores = change_caption_scores(SAID, PAIRS, KINDS)
    assert scores["meteor"] is scores["s_m"] is None
    assert scores["meteor_missing"] == "METEOR needs Java, and no `java` was found"
    assert scores["bleu_1"] > 0


@pytest.mark.parametrize(
    ("script", "reason"),
    [("echo no memory >&2; exit 1", "failed: no memory"), ("exit 0", "failed"), ("exec sleep 60", "longer than 1 s")],
)
def test_a_java_that_fails_or_hangs_is_stopped_and_told(monkeypatch, tmp_path, script, reason):
    java = tmp_path / "java"
    java.write_text(f"#!/bin/sh\n{script}\n")
    java.chmod(0o755)
    monkeypatch.setattr(meteor, "TIMEOUT", 1)
    monkeypatch.setattr(shutil, "which", lambda name: str(java))
    with pytest.raises(meteor.MeteorError, match=reason):
        meteor.meteor(["a"], [["a"]])


def test_a_score_below_a_thousandth_is_read_as_java_prints_it(monkeypatch, tmp_path):
    """`4.2E-4` was read as 4.2: a METEOR of 420."""
    java = tmp_path / "java"
    java.write_text('#!/bin/sh\necho "Final score:            4.2E-4"\n')
    java.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(java))
    assert meteor.meteor(["a"], [["b"]]) == pytest.approx(0.042)


@pytest.mark.skipif(shutil.which("java") is None, reason="METEOR needs Java")
def test_meteor_is_pycocoevalcaps_and_s_m_the_mean_of_four():
    from pycocoevalcap.meteor.meteor import Meteor

    pairs = [some[: 1 + place % 3] for place, some in enumerate(PAIRS)]  # uneven numbers of references
    said = ["a road appears", "houses are built", "there is no difference", "no change"]
    scores = change_caption_scores(said, pairs, KINDS)
    judge = Meteor()
    theirs, _ = judge.compute_score(dict(enumerate(pairs)), {place: [one] for place, one in enumerate(said)})
    assert scores["meteor"] == pytest.approx(100 * theirs)
    four = (scores["bleu_4"], scores["meteor"], scores["rouge_l"], scores["cider_d"])
    assert scores["s_m"] == pytest.approx(sum(four) / 4)


def test_meteor_is_run_only_if_wanted(monkeypatch):
    monkeypatch.setattr(change_captions, "meteor", lambda *_: pytest.fail("was run"))
    assert change_caption_scores(SAID, PAIRS, KINDS, with_meteor=False)["meteor_missing"] == "not asked for"
