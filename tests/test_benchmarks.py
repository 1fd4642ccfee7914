"""Benchmarks from miniatures in the true form of their files: what is asked, what is right, what is told."""

import json
from collections import Counter

import pytest
from datasets import Dataset, DatasetDict
from unirs.evaluation.benchmarks import BENCHMARKS, load_benchmark
from unirs.evaluation.scoring import score
from unirs.processing.prompts_unirs import DEFAULT_INSTRUCTIONS, ERA_CLASSES
from unirs.trainers.data_sets import DataError

from tests.conftest import DATA
from tests.test_data_sets import CAPTIONS, crsvqa, image, karpathy, rsvqa, text, write
from tests.tiny import picture

SHORT = "\nAnswer the question using a single word or phrase."


def jsonl(file, *rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def one_turn(*items):
    return [{"role": "user", "content": list(items)}]


@pytest.mark.parametrize(
    ("name", "prefix", "folder", "split"),
    [
        ("rsvqa-lr", "LR_split_test", "Images_LR", "test"),
        ("rsvqa-hr", "USGS_split_test_phili", "Data", "test2"),
    ],
)
def test_rsvqa_is_asked_for_short_answers_and_leaves_numbers_out_as_the_paper_does(
    name, prefix, folder, split, tmp_path
):
    rsvqa(
        tmp_path, prefix, ("count", 7, "How many roads?", "3"), ("area", 7, "How large?", "9m2"),
        ("count", 8, "How many lakes?", 0),
    )  # fmt: skip
    found = load_benchmark(name, tmp_path)
    assert (found.split, found.scoring, found.problems) == (split, "vqa", [])
    assert found.subset == "without 1 area, 2 count questions, as in the paper"
    assert [(one.id, one.kind, one.references) for one in found.samples] == [
        ("1", "presence", ("yes",)),
        ("2", "comp", ("no",)),
    ]
    assert found.samples[0].messages == one_turn(
        image(tmp_path / folder / "7.tif"), text("Is a road present?" + SHORT)
    )
    assert [file.name for file in found.files] == [f"{prefix}_questions.json", f"{prefix}_answers.json"]
    whole = load_benchmark(name, tmp_path, all_types=True)
    assert [one.references[0] for one in whole.samples] == ["yes", "no", "3", "9m2", "0"]
    assert whole.subset == ""


def test_levir_cc_needs_its_captions_file_alone(tmp_path):
    images = [
        karpathy("test", "test_000004.png", CAPTIONS, True),
        karpathy("test", "test_000009.png", ["the scene is the same as before"] * 5, False),
        karpathy("train", "train_000001.png", CAPTIONS, True),
    ]
    write(tmp_path / "LevirCCcaptions.json", {"images": images})
    found = load_benchmark("levir-cc", tmp_path)
    assert [(one.id, one.kind) for one in found.samples] == [("test_000004", "change"), ("test_000009", "no_change")]
    assert found.samples[0].references == tuple(CAPTIONS)
    dates = [image(tmp_path / "images" / "test" / date / "test_000004.png") for date in "AB"]
    assert found.samples[0].messages == one_turn(*dates, text(DEFAULT_INSTRUCTIONS["pair"]))
    assert found.files == (tmp_path / "LevirCCcaptions.json",)
    assert [one.id for one in load_benchmark("levir-cc", tmp_path, "train").samples] == ["train_000001"]


@pytest.mark.data
def test_the_whole_test_set_of_levir_cc_is_there_half_of_it_without_change(tmp_path):
    """1,929 pairs, 965 without a change (../shared/data/MANIFEST.md)."""
    known = json.loads((DATA / "levir_cc" / "levir_cc_captions.json").read_text())["test"]
    same = Counter(tuple(captions) for captions in known.values()).most_common(1)[0][0]
    images = [karpathy("test", f"{name}.png", said, tuple(said) != same) for name, said in known.items()]
    write(tmp_path / "LevirCCcaptions.json", {"images": images})
    found = load_benchmark("levir-cc", tmp_path)
    assert Counter(one.kind for one in found.samples) == {"change": 964, "no_change": 965}
    assert {one.id: list(one.references) for one in found.samples} == known


def test_era_has_25_classes_and_each_clip_its_folder_s(tmp_path):
    for name in ("Test/Baseball/Baseball_008 .mp4", "Test/PostEarthquake/e.mp4", "Train/Fire/f.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = load_benchmark("era", tmp_path)
    assert (found.scoring, found.classes, len(found.classes)) == ("classes", ERA_CLASSES, 25)
    assert [(one.id, one.references, one.kind) for one in found.samples] == [
        ("Baseball_008 ", ("Baseball",), "Baseball"),
        ("e", ("Post-earthquake",), "Post-earthquake"),
    ]
    clip = {"type": "video", "video": str(tmp_path / "Test/Baseball/Baseball_008 .mp4")}
    assert found.samples[0].messages == one_turn(clip, text(DEFAULT_INSTRUCTIONS["video"]))


def test_crsvqa_asks_the_pictures_of_the_test_part(tmp_path):
    crsvqa(tmp_path, **{f"p{number}": ["What\uff1f", "Airport"] for number in range(30)})
    tested = {one.id.rpartition("-")[0] for one in load_benchmark("crsvqa", tmp_path).samples}
    trained = {one.id.rpartition("-")[0] for one in load_benchmark("crsvqa", tmp_path, "train").samples}
    assert tested
    assert tested | trained == {f"p{number}" for number in range(30)}
    assert not tested & trained
    first = load_benchmark("crsvqa", tmp_path).samples[0]
    assert first.messages[0]["content"][1] == text("What?" + SHORT)
    assert first.references == ("airport",)


def test_lrben_is_asked_in_its_own_words_and_answered_by_rsvqa(tmp_path):
    rsvqa(tmp_path, "LR_split_test", ("count", 7, "How many roads?", "3"))
    (tmp_path / "images" / "Images_LR").mkdir(parents=True)
    picture(0).save(tmp_path / "images" / "Images_LR" / "7.tif")

    def row(number, name, words, category):
        return {"question_id": number, "image": name, "text": words + SHORT, "category": category}

    file = jsonl(
        tmp_path / "lrben.jsonl",
        row(1, "7.tif", "Is a road present?", "presence"),
        row(2, "8.tif", "Is a lake present?", "comp"),  # the question of number 2 is another one
        row(4, "7.tif", "How many roads?", "count"),
        row(99, "7.tif", "Is a lake present?", "presence"),
    )
    found = load_benchmark("lrben", tmp_path)
    assert [(one.id, one.kind, one.references) for one in found.samples] == [("1", "presence", ("yes",))]
    assert found.samples[0].messages == one_turn(
        image(tmp_path / "images" / "Images_LR" / "7.tif"), text("Is a road present?" + SHORT)
    )
    assert found.problems == [
        "1 questions left out: RSVQA has no answer to them in LR_split_test_questions.json: 99",
        "1 questions left out: in LR_split_test_questions.json another question has their number: 2",
    ]
    assert found.subset == "without 1 count questions, as in the paper"
    assert found.files[0] == file
    assert len(found.files) == 3


def test_hrben_has_philadelphia_s_answers(tmp_path):
    rsvqa(tmp_path, "USGS_split_test_phili")
    jsonl(tmp_path / "hrben.jsonl", {"question_id": 1, "image": "7.tif", "text": "Is a road present?" + SHORT})
    assert load_benchmark("hrben", tmp_path).samples[0].references == ("yes",)


def scene(name, words, truth):
    return {"question_id": name, "image": name.rpartition("/")[2], "text": words, "ground_truth": truth}


def test_aid_finds_its_pictures_under_another_suffix_and_its_classes_however_they_are_written(tmp_path):
    """The public file: a stray "gt" behind the truth, suffixes that the pictures do not have."""
    (tmp_path / "AID" / "BaseballField").mkdir(parents=True)
    picture(0).save(tmp_path / "AID" / "BaseballField" / "baseballfield_3.jpg")
    words = "Classify the image. Classes: Airport, baseball field, medium residential\nAnswer in one word."
    file = jsonl(
        tmp_path / "aid.jsonl",
        scene("BaseballField/baseballfield_3.png", words, "BaseballFieldgt"),
        {**scene("x", words, "MediumResidentialgt"), "question_id": 7},
        scene("Moon/m.png", words, "Moon"),
    )
    found = load_benchmark("aid", tmp_path)
    assert found.classes == ("Airport", "baseball field", "medium residential")
    assert [(one.id, one.references[0]) for one in found.samples] == [
        ("BaseballField/baseballfield_3.png", "baseball field"),
        ("7", "medium residential"),
        ("Moon/m.png", "Moon"),
    ]
    assert found.samples[0].messages == one_turn(
        image(tmp_path / "AID" / "BaseballField" / "baseballfield_3.jpg"), text(words)
    )
    assert found.problems == [
        "1 samples have a class that their question does not name; they are not scored: Moon/m.png (Moon)"
    ]
    assert found.files == (file,)
    scores = score(found, [{"id": one.id, "prediction": one.references[0]} for one in found.samples])
    assert (scores["n"], scores["overall_accuracy"]) == (2, 1.0)
    assert scores["problems"]["unknown class in the data, not scored"]["named"] == ["Moon/m.png: Moon"]


def test_the_list_of_classes_ends_before_the_next_sentence(tmp_path):
    """On one line, as GeoChat's paper has it, the last class was "school. Answer with ...", and no sample had it."""
    words = (
        "Classify the image within one of the given classes: Airport, school. Answer with one word or short phrase."
    )
    jsonl(tmp_path / "aid.jsonl", scene("School/a.png", words, "School"), scene("Airport/b.png", words, "Airport"))
    found = load_benchmark("aid", tmp_path)
    assert found.classes == ("Airport", "school")
    assert ([one.references[0] for one in found.samples], found.problems) == (["school", "Airport"], [])


def test_scenes_without_a_class_in_any_question_are_refused(tmp_path):
    """They ended in a traceback when they were scored."""
    jsonl(tmp_path / "aid.jsonl", scene("Airport/a.png", "Classify the image.", "Airport"))
    with pytest.raises(DataError, match=r"aid\.jsonl: no question names classes"):
        load_benchmark("aid", tmp_path)


def test_scenes_of_which_none_has_a_class_of_its_question_are_refused_before_they_are_asked(tmp_path):
    words = "Classify the image. Classes: Airport, Beach"
    jsonl(tmp_path / "aid.jsonl", scene("Moon/a.png", words, "Moon"), scene("Mars/b.png", words, "Mars"))
    with pytest.raises(DataError, match=r"aid\.jsonl: no sample has a class .* the first is Moon/a\.png \(Moon\)"):
        load_benchmark("aid", tmp_path)


def test_ucmerced_lies_in_its_archive_s_folders(tmp_path):
    folder = tmp_path / "images" / "UCMerced_LandUse" / "Images" / "agricultural"
    folder.mkdir(parents=True)
    picture(0).save(folder / "agricultural00.tif")
    row = scene("agricultural/agricultural00.tif", "Classes: agricultural, airplane.\nAnswer.", "agricultural")
    jsonl(tmp_path / "UCmerced.jsonl", {**row, "image": row["question_id"]})
    found = load_benchmark("ucmerced", tmp_path)
    assert found.classes == ("agricultural", "airplane")
    assert found.samples[0].messages[0]["content"][0] == image(folder / "agricultural00.tif")


def said(*turns, **fields):
    roles = ("user", "assistant") * len(turns)
    return {"messages": [{"role": role, "content": one} for role, one in zip(roles, turns, strict=False)], **fields}


def test_own_rows_are_asked_up_to_their_last_answer(tmp_path):
    file = jsonl(
        tmp_path / "own.jsonl",
        said("How many?", "two", images=["a.png"], id="a"),
        said("See?", "yes", "What changed?", "a house", images=["a.png", "b.png"], references=["a roof", "a house"]),
        said("Which?", "fire", kind="night", clue="smoke"),
    )
    found = load_benchmark("own", file, metric="captions")
    assert [(one.id, one.kind, one.references) for one in found.samples] == [
        ("a", "single", ("two",)),
        ("1", "pair", ("a house", "a roof")),
        ("2", "night", ("fire",)),
    ]
    assert [message["role"] for message in found.samples[1].messages] == ["user", "assistant", "user"]
    assert found.samples[2].messages == one_turn(text("Which?"), {"type": "clue", "text": "smoke"})
    assert found.files == (file,)
    assert load_benchmark("own", file, metric="classes").classes == ("a house", "fire", "two")


def test_own_rows_may_come_as_parquet(tmp_path):
    rows = [{**said("What?", "a", images=["a.png"]), "references": refs, "kind": "k"} for refs in (["b"], None)]
    Dataset.from_list(rows).to_parquet(tmp_path / "own.parquet")
    found = load_benchmark("own", tmp_path / "own.parquet", metric="captions")
    assert [(one.references, one.kind) for one in found.samples] == [(("a", "b"), "k"), (("a",), "k")]
    assert found.samples[0].messages == one_turn(image(tmp_path / "a.png"), text("What?"))


@pytest.mark.parametrize("splits", [False, True])
def test_only_what_datasets_wrote_is_hashed_of_a_folder(splits, tmp_path):
    """A run's own output in the folder was hashed as data: the run could never be resumed."""
    rows = Dataset.from_list([said("What?", "a", images=["a.png"])])
    (DatasetDict(test=rows) if splits else rows).save_to_disk(tmp_path)
    saved = {file for file in tmp_path.rglob("*") if file.is_file()}
    arrow = next(file for file in saved if file.suffix == ".arrow")
    (tmp_path / "out").mkdir()
    for name in ("out/predictions.jsonl", "out/scores.json", "a.png", "out/predictions.settings.json"):
        (tmp_path / name).write_text("{}")
    arrow.with_name("cache-0123.arrow").write_bytes(arrow.read_bytes())
    found = load_benchmark("own", tmp_path, "test" if splits else None, metric="vqa")
    assert set(found.files) == saved


def test_rows_without_a_caption_in_words_are_left_out_or_refused(tmp_path):
    """Where all were so, the scores ended in a ValueError after all had been asked."""
    bare = said("What?", "...", references=["?"])
    jsonl(tmp_path / "own.jsonl", bare, bare)
    with pytest.raises(DataError, match=r"none of its 2 rows .* row 1: '\.\.\.' is no caption; write one in words"):
        load_benchmark("own", tmp_path / "own.jsonl", metric="captions")
    jsonl(tmp_path / "own.jsonl", bare, said("What?", "...", references=["a house"]))
    found = load_benchmark("own", tmp_path / "own.jsonl", metric="captions")
    assert ([one.id for one in found.samples], len(found.problems)) == (["1"], 1)


def test_own_rows_that_cannot_be_asked_are_named(tmp_path):
    file = jsonl(tmp_path / "own.jsonl", said("What?", "a", id="x"), said("What?"), said("What?", "b", references="b"))
    found = load_benchmark("own", file, metric="vqa")
    assert [one.id for one in found.samples] == ["x"]
    assert len(found.problems) == 2
    assert f"{file}, row 2: turns must be user and assistant" in found.problems[0]
    assert f"{file}, row 3: references must be a list" in found.problems[1]
    jsonl(file, said("What?"))
    with pytest.raises(DataError, match=r"none of its 1 rows can be asked; .*row 1: turns must be"):
        load_benchmark("own", file, metric="vqa")


def test_a_second_sample_of_an_id_is_kept_under_another(tmp_path):
    file = jsonl(tmp_path / "own.jsonl", *(said("What?", answer, id="x") for answer in "abc"))
    found = load_benchmark("own", file, metric="vqa")
    assert [(one.id, one.references) for one in found.samples] == [("x", ("a",)), ("x#2", ("b",)), ("x#3", ("c",))]
    assert found.problems == ["2 samples have the id of another: x first, now x#2"]


def test_a_limit_takes_all_kinds_in_proportion_from_everywhere(tmp_path):
    """Every tenth row is of another kind: each tenth of them would be of that kind alone."""
    kinds = ["comp" if number % 10 == 0 else "presence" for number in range(1, 201)]
    file = jsonl(tmp_path / "own.jsonl", *(said("What?", "a", kind=kind) for kind in kinds))
    found = load_benchmark("own", file, metric="vqa", limit=20)
    assert Counter(one.kind for one in found.samples) == {"presence": 18, "comp": 2}
    places = [int(one.id) for one in found.samples]
    assert places == sorted(places)
    assert max(b - a for a, b in zip([-1, *places], [*places, 200], strict=True)) < 20
    assert found.subset == "20 of 200 samples, evenly spread over kinds and places"
    assert load_benchmark("own", file, metric="vqa", limit=20).samples == found.samples
    whole = load_benchmark("own", file, metric="vqa", limit=200)
    assert (len(whole.samples), whole.subset) == (200, "")


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("rsvqa", {}, "the benchmarks are rsvqa-lr, .*, own, not 'rsvqa'"),
        ("own", {}, "own data need a metric: vqa, captions, classes"),
        ("era", {"metric": "vqa"}, "era has a metric of its own"),
        ("aid", {"split": "val"}, "aid: the splits are test, not 'val'"),
        ("aid", {}, r"aid\.jsonl is not there; the data come from https://huggingface.co/datasets/MBZUAI"),
        ("hrben", {}, r"hrben\.jsonl is not there"),
        ("own", {"metric": "vqa", "limit": 0}, "the limit is 0; give 1 or more"),
    ],
)
def test_what_is_wrong_with_the_data_is_told_in_one_line(name, options, reason, tmp_path):
    file = jsonl(tmp_path / "own.jsonl", said("What?", "a")) if name == "own" else tmp_path
    with pytest.raises(DataError, match=reason):
        load_benchmark(name, file, **options)


def test_rows_of_geochat_bench_without_a_question_are_named(tmp_path):
    jsonl(tmp_path / "aid.jsonl", {"question_id": 1, "image": "a.jpg"})
    with pytest.raises(DataError, match=r"aid\.jsonl, row 1: lacks question_id, image or text"):
        load_benchmark("aid", tmp_path)


def test_every_benchmark_of_the_paper_is_there():
    assert set(BENCHMARKS) == {
        "rsvqa-lr", "rsvqa-hr", "crsvqa", "levir-cc", "era", "lrben", "hrben", "aid", "ucmerced", "own",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"changeflag": "0"}, "the changeflag '0', not 0 or 1"),
        ({"changeflag": None}, "the changeflag None"),
        ({"sentences": []}, "no sentences"),
        ({"sentences": [{"raw": 3}]}, "no sentences, or an empty one"),
        ({"sentences": [{"raw": " "}]}, "no sentences, or an empty one"),
        ({"filename": 5}, "no filename"),
    ],
)
def test_damaged_pair_of_levir_cc_is_named(tmp_path, change, message):
    """A flag in quotes once counted as a change, whatever it said."""
    pair = {"filename": "a.png", "split": "test", "changeflag": 0, "sentences": [{"raw": "a road"}], **change}
    (tmp_path / "LevirCCcaptions.json").write_text(json.dumps({"images": [pair]}))
    with pytest.raises(DataError, match=message):
        load_benchmark("levir-cc", tmp_path)


def test_class_that_era_does_not_have_is_named_and_the_others_are_asked(tmp_path):
    for folder in ("Fire", "Volcano"):
        (tmp_path / "Test" / folder).mkdir(parents=True)
        (tmp_path / "Test" / folder / f"{folder}_001.mp4").write_bytes(b"")
    benchmark = load_benchmark("era", tmp_path)
    assert [sample.id for sample in benchmark.samples] == ["Fire_001"]
    assert benchmark.problems == [
        f"{tmp_path / 'Test' / 'Volcano'}: is none of ERA's 25 classes; its clips are not asked"
    ]
