"""The scores of the table in docs/unirs_tiny.md, by hand: what counts as right, and what would do without looking."""

import json
import re
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import numpy as np
import pytest
import unirs_tiny as scores
import unirs_tiny_cases as tiny_cases
from PIL import Image
from unirs.evaluation.captions import caption_scores, normalise
from unirs.evaluation.change_flags import says_change
from unirs.processing.prompts_unirs import ERA_CLASSES
from unirs.trainers.scene_tasks import pair_captions
from unirs.trainers.tiny_places import PLACES
from unirs.trainers.tiny_what_changed import ASKED, sentences
from unirs.trainers.tiny_where_changed import WHERE_CHANGED
from unirs.trainers.unanswerable import UNKNOWN_ANSWER, UNKNOWN_HELD_OUT, UNTOLD_HELD_OUT
from unirs.trainers.wordings import WORDINGS

from tests.conftest import DATA


def case(kind, scene, *references, question="?"):
    return tiny_cases.Case(kind, [], question, references, scene)


def test_sums_count_all_kinds_of_question_and_their_own_commonest_answers():
    cases = [
        case("presence", 0, "yes"), case("presence", 1, "yes"), case("presence", 2, "no"),
        case("count", 0, "two"), case("count", 1, "three"), case("change_flag", 0, "no"),
    ]  # fmt: skip
    said = ["Yes.", "no", "no", "two", "two", "yes"]
    blind = ["yes", "yes", "yes", "one", "three", "no"]
    found = scores.accuracies(cases, said, blind)
    shown = {
        kind: tuple(row[name] for name in ("count", "accuracy", "blind", "commonest_answer"))
        for kind, row in found.items()
    }
    assert shown == {
        "presence": (3, 0.6667, 0.6667, 0.6667),
        "count": (2, 0.5, 0.5, 0.5),
        "vqa_micro": (5, 0.6, 0.6, 0.6),  # "yes" of presence twice, any number once
        "change_flag": (1, 0.0, 1.0, 1.0),
    }


def test_the_commonest_answer_is_right_wherever_it_is_accepted_and_of_each_thing_another():
    cases = [
        case("other_cover", 0, "water", "forest"), case("other_cover", 1, "forest"), case("other_cover", 2, "water"),
        case("other_cover", 3, "forest"),
        *(case("other_presence", number, "yes", question="A?") for number in range(2)),
        *(case("other_presence", number, "no", question="B?") for number in range(2)),
    ]  # fmt: skip
    found = scores.accuracies(cases, ["forest"] * 8, ["water"] * 8)
    assert {kind: row["commonest_answer"] for kind, row in found.items()} == {"other_cover": 0.75, "other_presence": 1}
    assert (found["other_cover"]["accuracy"], found["other_cover"]["blind"]) == (0.75, 0.5)


def test_kinds_under_other_names_have_sums_of_their_own():
    cases = [
        case(f"{prefix}{kind}", 0, "yes") for prefix in ("familiar_", "reworded_") for kind in ("presence", "area")
    ]
    found = scores.accuracies(cases, ["yes", "no", "yes", "yes"], ["no"] * 4)
    assert {kind: row["accuracy"] for kind, row in found.items()} == {
        "familiar_vqa_micro": 0.5, "reworded_vqa_micro": 1.0,
    }  # fmt: skip


def test_a_caption_says_whether_anything_changed_whatever_its_words():
    cases = [case("change_caption", 0, "a house is built"), case("change_caption", 1, "nothing has changed")]
    found = scores.accuracies(cases, ["a road appears", "there is no difference"], ["no change"] * 2)
    assert found["change_caption"]["accuracy"] == 0
    assert (found["change_flag_of_caption"]["accuracy"], found["change_flag_of_caption"]["blind"]) == (1.0, 0.5)


def test_other_words_ask_the_same_and_what_nobody_knows_once_a_picture():
    cases = list(tiny_cases.generated(3_000_000, 3))
    others = list(tiny_cases.in_other_words(cases))
    by_kind = Counter(one.kind for one in others)
    assert by_kind["not_known"] == by_kind["unknown_thing"] == by_kind["same_or_not"] == 3
    assert by_kind["choice"] >= 3  # of each pair, and at times of rural or urban
    assert by_kind["yes_or_no"] >= 3  # of the land cover, and at times of rural or urban
    questions = [one for one in cases if one.kind in scores.QUESTIONS]
    again = [one for one in others if one.kind.removeprefix("reworded_") in scores.QUESTIONS]
    assert [one.references for one in again] == [one.references for one in questions]
    assert all(one.question != other.question for one, other in zip(questions, again, strict=True))
    for one in others:
        if one.kind == "not_known":
            assert (one.question in UNKNOWN_HELD_OUT, one.references) == (True, (UNKNOWN_ANSWER,))
        if one.kind == "unknown_thing":
            assert any(a in one.question or some in one.question for a, some in UNTOLD_HELD_OUT)
            assert one.references == (UNKNOWN_ANSWER,)
        if one.kind == "choice":
            assert one.references[0] in one.question.lower()
        if one.kind in {"yes_or_no", "same_or_not"}:
            assert one.references in (("yes",), ("no",))
            assert len(one.pictures) == 1 + (one.kind == "same_or_not")


def test_changed_pairs_are_asked_for_what_their_captions_tell_as_often_as_for_what_they_do_not():
    cases = [one for one in tiny_cases.changes_asked_for(3_000_000, 80) if one.kind == "what_changed"]
    answers = Counter(one.references[0] for one in cases)
    assert 0.35 < answers["yes"] / answers.total() < 0.65
    words = {"houses": "house", "road": "road", "parking lot": "parking", "sports field": "field|playground",
             "solar farm": "solar", "storage tanks": "tank", "trees planted": "wood|trees"}  # fmt: skip
    compared = set()
    for one in cases:
        changed, captions = pair_captions(one.scene)
        assert changed
        name = next(name for name, asked in ASKED.items() if one.question in sentences(asked, held_out=True))
        (answer,) = one.references
        if answer == "yes" and name in words:
            assert re.search(words[name], " ".join(captions)), (one.question, captions)
        if answer == "no" and name in ("road", "storage tanks", "solar farm"):
            assert not re.search(words[name], " ".join(captions)), (one.question, captions)
        compared.add((name, answer))
    assert len(compared) > 14


def test_changed_pairs_are_asked_where_in_words_kept_for_that_and_captions_agree():
    cases = [one for one in tiny_cases.changes_asked_for(3_000_000, 80) if one.kind == "where_changed"]
    kept = next(one.held_out for one in WORDINGS if re.fullmatch(one.pattern, WHERE_CHANGED))
    agreed = 0
    for one in cases:
        (place,) = one.references
        assert one.question in kept
        assert pair_captions(one.scene)[0]
        captions = " ".join(pair_captions(one.scene)[1])
        found = re.search(r"(?:at|in|on) the ((?:top|bottom|left|right) ?(?:left|right)?|middle of)", captions)
        if found and " and " not in captions and place in PLACES:
            opposite = {"top": "bottom", "bottom": "top", "left": "right", "right": "left"}
            assert not {opposite.get(word) for word in found[1].split()} & set(place.split()), (place, captions)
            agreed += bool(set(found[1].split()) & set(place.split()))
    assert agreed > 3


def test_crops_of_figures_are_those_of_no_test_pair_with_dates_in_order(tmp_path):
    folder = tmp_path / "levir_cc" / "figure_crops"
    for name, grey in (("A", 40), ("B", 200)):
        (folder / name).mkdir(parents=True)
        for stem in ("train_2", "test_1", "figure_3"):
            Image.new("RGB", (6, 6), (grey,) * 3).save(folder / name / f"{stem}.png")
    (folder / "mask").mkdir()
    colours = np.zeros((8, 8, 3), np.uint8)
    colours[:2] = (0, 200, 0)  # a house
    colours[2] = (50, 50, 50)  # a figure's blur
    colours[6:] = (0, 0, 255)  # a road
    for stem in ("train_2", "test_1", "figure_3"):
        Image.fromarray(colours).save(folder / "mask" / f"{stem}.png")
    found = list(tiny_cases.figure_crops(tmp_path))
    assert len(found) == 2
    for dates, mask in found:
        assert [date.getpixel((0, 0)) for date in dates] == [(40,) * 3, (200,) * 3]
        assert mask.any(1).tolist() == mask.all(1).tolist() == [True, True, False, False, False, False, True, True]


def test_rows_tell_their_data_set_where_it_is_another_and_what_was_to_be_reached():
    rows = scores.told(
        {
            "change_only_cider_d": {"cider_d": 190.0, "blind": 65.9},
            "vqa_micro": {"accuracy": 0.9},
            "levir_cd_change_map": {"auc": 0.7},
            "real_change_map": {"auc": 0.7},
            "real_cover": {"accuracy": 0.7},
        }
    )
    assert [*rows] == ["vqa_micro", "change_only_cider_d", "real_cover", "real_change_map", "levir_cd_change_map"]
    sets = ["", "", "RSSCN7", "LEVIR-CD and DSIFN-CD", "LEVIR-CD"]
    assert [row.get("dataset", "") for row in rows.values()] == sets
    assert [row.get("aim") for row in rows.values()] == [0.92, 131.8, None, 0.75, None]


def test_real_pictures_are_asked_only_for_what_their_class_tells(tmp_path):
    classes = ("grass", "field", "industry", "river-lake", "forest", "residential", "parking")
    for name in classes:
        (tmp_path / "rsscn7/test" / name).mkdir(parents=True)
        for number in range(20):
            Image.new("RGB", (8, 8)).save(tmp_path / "rsscn7/test" / name / f"{number:02}.jpg")
    for name in ("levir_cd", "dsifn"):
        (tmp_path / name / "label").mkdir(parents=True)
    asked = list(tiny_cases.real(tmp_path))
    counts = {"real_scene": 140, "real_presence": 140, "real_rural_urban": 120, "real_cover": 120}
    assert Counter(one.kind for one in asked) == counts
    of_class = [[one for one in asked if one.scene // 20 == number] for number in range(7)]
    answers = [{one.references for one in some if one.kind == "real_rural_urban"} for some in of_class]
    rural, urban = {("rural",)}, {("urban",)}
    assert answers == [rural, rural, urban, set(), rural, urban, urban]
    parking = {(one.question, one.references) for one in of_class[-1] if one.kind == "real_presence"}
    assert ("Is there a parking lot in the image?", ("yes",)) in parking
    assert ("Is there a boat in the image?", ("no",)) in parking
    assert {one.references for one in of_class[0] if one.kind == "real_presence"} == {
        ("no",)
    }  # nothing is sure of grass


def test_other_real_pictures_are_asked_for_what_was_seen_in_them(tmp_path, monkeypatch):
    labels = {
        "a.png": {
            "cover": ["cropland", "grassland"],
            "urban": False,
            "shown": ["a road"],
            "hidden": ["a boat", "a dam"],
        },
        "b.png": {"cover": [], "urban": None, "shown": [], "hidden": ["a road"]},
    }
    monkeypatch.setattr(tiny_cases, "OTHER_REAL", tmp_path / "labels.json")
    tiny_cases.OTHER_REAL.write_text(json.dumps(labels))
    for number, name in enumerate(labels):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / name)
    asked = [
        (one.kind, one.pictures[0].getpixel((0, 0))[0], one.references) for one in tiny_cases.other_real(tmp_path)
    ]
    no, yes = ("no",), ("yes",)
    assert asked == [
        ("other_cover", 0, ("cropland", "grassland")), ("other_rural_urban", 0, ("rural",)),
        ("other_presence", 0, yes), ("other_presence", 0, no), ("other_presence", 0, no), ("other_presence", 1, no),
    ]  # fmt: skip


def test_labels_of_other_real_pictures_are_answers_that_the_model_can_give():
    labels = json.loads(tiny_cases.OTHER_REAL.read_text())
    covers = {"grassland", "cropland", "forest", "water", "built-up area"}
    things = {
        "a building", "a road", "a water area", "a forest", "a crop field", "a vehicle", "a parking lot",
        "a sports field", "a storage tank",
    }  # fmt: skip
    assert len(labels) == 104
    for seen in labels.values():
        assert {*seen["cover"]} <= covers
        assert seen["urban"] in (True, False, None)
        assert {*seen["shown"], *seen["hidden"]} <= things
        assert not {*seen["shown"]} & {*seen["hidden"]}


@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data")
def test_real_clips_and_pairs_have_the_classes_and_captions_of_their_sources():
    clips, pairs = list(tiny_cases.real_clips(DATA)), list(tiny_cases.levir_pairs(DATA))
    assert Counter(one.kind for one in clips) == {"film_class": 14, "era_class": 21}
    assert all(one.clip and len(one.pictures) == 4 for one in clips)
    assert {one.references[0] for one in clips} <= set(ERA_CLASSES)
    assert len(pairs) == 14
    listed = json.loads((DATA / "levir_cc" / "levir_cc_captions.json").read_text())
    captions = {tuple(map(normalise, some)) for split in listed.values() for some in split.values()}
    assert {one.references for one in pairs} <= captions
    assert all(says_change(one.references[0]) for one in pairs)


def test_captions_of_few_pairs_are_scored_as_the_field_does_and_against_the_best_one_for_all():
    references = [("a house is built", "one house appears"), ("a road is built", "a new road"), ("trees are cut",) * 2]
    cases = [case("levir_caption", number, *some) for number, some in enumerate(references)]
    said = ["A house is built.", "a new road", "a road is built"]
    row = scores.levir_captions(cases, said, [])
    assert row["cider_d"] == round(caption_scores(said, references)["cider_d"], 2)
    every = [caption_scores([sentence] * 3, references)["cider_d"] for some in references for sentence in some]
    assert row["blind"] == round(max(every), 2)
    assert scores.levir_captions(cases, said, references) == row
    # what everybody says elsewhere counts less
    assert scores.levir_captions(cases, said, [("a house is built",)] * 50)["cider_d"] != row["cider_d"]
