"""Files of predictions: whatever is wrong is named, and nothing is dropped in silence."""

import json

import pytest
from accelerate import PartialState
from unirs.evaluation.benchmarks import load_benchmark
from unirs.evaluation.predictions import answers_to, read_predictions
from unirs.evaluation.predictions_file import PredictionsFile
from unirs.trainers.data_sets import DataError

from tests.evaluation_samples import pairs_benchmark, questions_benchmark


def test_every_bad_line_is_named_by_its_number(tmp_path):
    file = tmp_path / "p.jsonl"
    file.write_text(
        '{"id": "a", "prediction": "yes"}\n'
        "\n"
        '{"id": 7, "prediction": "no"}\r\n'
        "[1]\n"
        "{broken}\n"
        '{"prediction": "no id"}\n'
        '{"id": true, "prediction": "x"}\n'
        '{"id": "b", "prediction": 3}\n'
        '{"id": "c", "prediction": null}\n'
        '{"id": "d", "prediction": null, "error": "no memory"}\n'
        '{"id": "e", "predic'
    )
    rows, problems = read_predictions(file)
    assert [(row["id"], row["prediction"]) for row in rows] == [("a", "yes"), ("7", "no"), ("d", "")]
    assert problems == {
        "unusable row": [
            "line 4: is a list, not an object",
            "line 6: has no `id`, or one that is neither text nor a number",
            "line 7: has no `id`, or one that is neither text nor a number",
            "line 8: b has no `prediction`, or one that is not text",
            "line 9: c has no `prediction`, or one that is not text",
        ],
        "unreadable line": ["line 5 is no JSON"],
        "half-written line": ["line 11 ends early"],
    }


def test_a_whole_last_line_needs_no_line_feed(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"id": "a", "prediction": "yes"}')
    assert read_predictions(tmp_path / "p.jsonl") == ([{"id": "a", "prediction": "yes"}], {})


def test_bytes_that_are_no_text_are_one_bad_line(tmp_path):
    (tmp_path / "p.jsonl").write_bytes(b'{"id": "a", "prediction": "\xff\xfe"}\n{"id": "b", "prediction": "no"}\n')
    rows, problems = read_predictions(tmp_path / "p.jsonl")
    assert [row["id"] for row in rows] == ["b"]
    assert problems == {"unreadable line": ["line 1 is no JSON"]}


def test_half_characters_that_no_report_could_hold_are_replaced(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"id": "a", "prediction": "x\\ud800y"}')
    assert read_predictions(tmp_path / "p.jsonl")[0][0]["prediction"] == "x?y"


@pytest.mark.parametrize(
    ("text", "reason"), [("", "it is empty"), ("{}\n", "line 1: has no `id`"), ('{"id": "a"', "line 1 ends early")]
)
def test_a_file_without_predictions_is_refused_with_its_name(tmp_path, text, reason):
    (tmp_path / "p.jsonl").write_text(text)
    with pytest.raises(DataError, match=rf"p.jsonl: has no predictions.*{reason}"):
        read_predictions(tmp_path / "p.jsonl")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"p.jsonl: cannot be read \(No such file"):
        read_predictions(tmp_path / "p.jsonl")


def test_answers_stand_in_the_benchmarks_order_and_misfits_are_named():
    given = [
        {"id": "pair-2", "prediction": "second"},
        {"id": "stranger", "prediction": "?"},
        {"id": "pair-1", "prediction": "", "error": "no memory"},
        {"id": "pair-0", "prediction": "first"},
        {"id": "pair-0", "prediction": "again"},
    ]
    answers, problems = answers_to(pairs_benchmark(), given)
    assert answers == ["first", "", "second", ""]
    assert problems == {
        "unknown id": ["stranger"],
        "duplicate id": ["pair-0"],
        "error instead of a prediction": ["pair-1: no memory"],
        "missing prediction": ["pair-3"],
    }


def test_of_several_rows_the_first_without_an_error_counts():
    given = [
        {"id": "pair-0", "prediction": "guess", "error": "cut off"},
        {"id": "pair-0", "prediction": "first"},
        {"id": "pair-0", "prediction": "better, once the truth was known"},
    ]
    answers, problems = answers_to(pairs_benchmark(), given)
    assert answers[0] == "first"
    assert problems["duplicate id"] == ["pair-0", "pair-0"]


def test_file_names_stand_for_ids_where_they_are_one_samples_alone():
    """Both dates of a pair have the same name; `0.tif` is the picture of two questions, so it names neither."""
    given = [{"id": "test_1.png", "prediction": "b"}, {"id": "test_3", "prediction": "d"}]
    assert answers_to(pairs_benchmark(), given)[0] == ["", "b", "", "d"]
    with pytest.raises(DataError, match=r"the first is '0.tif'; the samples' ids are like 'q1'"):
        answers_to(questions_benchmark(), [{"id": "0.tif", "prediction": "yes"}])


def test_a_picture_named_like_another_rows_id_takes_no_answer_from_its_sample(tmp_path):
    """The picture of sample 3 is `4.png`, and row 4, which `limit` leaves out, stood for it."""
    rows = [
        {"id": str(n), "prompt": "Where?", "completion": f"answer {n}", "images": [f"{n + 1}.png"]}
        for n in range(1, 7)
    ]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    benchmark = load_benchmark("own", tmp_path / "own.jsonl", limit=3, metric="vqa")
    given = [{"id": row["id"], "prediction": row["completion"]} for row in reversed(rows)]
    answers, problems = answers_to(benchmark, given)
    assert answers == ["answer 1", "answer 3", "answer 5"]
    assert problems == {"unknown id": ["6", "4", "2"]}
    # without a row of its own a sample is still found by its picture
    named = [{"id": "1", "prediction": "a"}, {"id": "4.png", "prediction": "b"}]
    assert answers_to(benchmark, named)[0] == ["a", "b", ""]


def test_ids_that_may_as_well_name_other_samples_pictures_are_refused(tmp_path):
    """Rows without ids are 0, 1, 2: the answers to 1.png, 2.png, 3.png all went to wrong rows, for a score of 0."""
    rows = [{"prompt": "Where?", "completion": f"at {n}", "images": [f"{n}.png"]} for n in (1, 2, 3)]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    benchmark = load_benchmark("own", tmp_path / "own.jsonl", metric="vqa")

    def answers(*ids):
        return answers_to(benchmark, [{"id": one, "prediction": f"at {one}"} for one in ids])[0]

    told = (
        r"^own: all ids .* are names of pictures.*\('1' is, '3' is not\): write names with their suffix, '1.png', or"
    )
    with pytest.raises(DataError, match=told):
        answers("1", "2", "3")
    assert answers("1.png", "2.png", "3.png") == ["at 1.png", "at 2.png", "at 3.png"]
    assert answers("0", "1", "2") == ["at 0", "at 1", "at 2"]


def test_a_question_that_was_left_out_gives_no_answer_about_the_picture_of_its_number(tmp_path):
    """`--limit` left question 73 alone with 18.tif; its answer was lost, and that to question 18 stood for it."""
    rows = [{"id": str(n), "prompt": "?", "completion": "yes", "images": [f"{n // 4}.tif"]} for n in range(80)]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    benchmark = load_benchmark("own", tmp_path / "own.jsonl", limit=10, metric="vqa")
    lost = benchmark.samples[-1].id
    given = [{"id": row["id"], "prediction": f"to {row['id']}"} for row in rows if row["id"] != lost]
    answers, problems = answers_to(benchmark, given)
    assert (answers[-1], problems["missing prediction"], len(problems["unknown id"])) == ("", [lost], 70)
    picture = f"{int(lost) // 4}.tif"  # nothing else is called so
    assert answers_to(benchmark, [*given, {"id": picture, "prediction": "no"}])[0][-1] == "no"


def test_a_name_that_says_the_same_as_an_id_leaves_no_doubt(tmp_path):
    rows = [{"id": str(n), "prompt": "Where?", "completion": "here", "images": [f"{n}.png"]} for n in (1, 2)]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = [{"id": "1", "prediction": "a"}, {"id": "2.png", "prediction": "b"}]
    assert answers_to(load_benchmark("own", tmp_path / "own.jsonl", metric="vqa"), given)[0] == ["a", "b"]


def test_numbers_written_as_ids_are_found(tmp_path):
    (tmp_path / "p.jsonl").write_text(json.dumps({"id": 1, "prediction": "x"}))
    rows, _ = read_predictions(tmp_path / "p.jsonl")
    assert rows[0]["id"] == "1"


SETTINGS = {"model": "a", "batch_size": 1, "device": "cpu", "processes": 1}


@pytest.mark.parametrize(
    "known", [[], {**SETTINGS, "resumed": 3}, {**SETTINGS, "resumed": [3]}], ids=["list", "number", "numbers"]
)
def test_settings_that_no_run_wrote_are_named(known, tmp_path):
    """They ended in a traceback."""
    (tmp_path / "p.settings.json").write_text(json.dumps(known))
    with (
        PredictionsFile(tmp_path / "p.jsonl", PartialState(cpu=True)) as file,
        pytest.raises(DataError, match=r"p\.settings\.json: holds no settings of a run; give another output"),
    ):
        file.open(SETTINGS)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"id": "a"}', "has no id or prediction"),
        ('{"id": "a", "prediction": 3}', "has no id or prediction"),
        ("[" * 100_000, "is no JSON"),
    ],
    ids=["silent", "number", "deep"],
)
def test_a_line_that_no_run_wrote_is_named(line, reason, tmp_path):
    """Rows without words ended in a traceback when they were scored, a deep line when it was read."""
    (tmp_path / "p.settings.json").write_text(json.dumps(SETTINGS))
    (tmp_path / "p.jsonl").write_text(f'{{"id": "b", "prediction": ""}}\n{line}\n')
    with (
        PredictionsFile(tmp_path / "p.jsonl", PartialState(cpu=True)) as file,
        pytest.raises(DataError, match=rf"p\.jsonl, line 2: {reason}; remove the line"),
    ):
        file.open(SETTINGS)
