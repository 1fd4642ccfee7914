"""`unirs evaluate --from-predictions`: files in, scores and reports out; bad input is one line and code 2."""

import json
import sys

import pytest

from tests.conftest import DATA
from tests.evaluation_samples import NO_CHANGE
from unirs.extras import install_command


def karpathy(folder, splits):
    """`LevirCCcaptions.json` of captions by split and id, in the form that LEVIR-CC is published in."""
    images = [
        {
            "filename": f"{name}.png",
            "split": split,
            "changeflag": int("no change has occurred" not in captions),
            "sentences": [{"raw": f" {caption.capitalize()} .", "tokens": caption.split()} for caption in captions],
        }
        for split, pairs in splits.items()
        for name, captions in pairs.items()
    ]
    (folder / "LevirCCcaptions.json").write_text(json.dumps({"images": images}))


def predictions(file, rows):
    file.write_text("".join(json.dumps({"id": name, "prediction": words}) + "\n" for name, words in rows.items()))
    return file


@pytest.fixture
def data(tmp_path):
    pairs = {"test_1": ["a road is built", "a new road"], "test_2": [*NO_CHANGE], "test_3": ["houses appear"]}
    karpathy(tmp_path, {"test": pairs, "val": {"val_1": ["one house"]}})
    return tmp_path


def test_scores_and_report_are_written(unirs, data):
    file = predictions(data / "p.jsonl", {"test_1": "A road is built.", "test_2.png": "a house", "test_3": "no"})
    words = ("evaluate", "levir-cc", "--data", data, "--from-predictions", file, "--no-meteor")
    code, out, err = unirs(*words, "--output", data / "out")
    assert (code, err) == (0, "")
    assert "CIDEr-D" in out
    assert str(data / "out" / "report.html") in out
    scores = json.loads((data / "out" / "scores.json").read_text())
    assert scores["change_flag_accuracy"] == pytest.approx(1 / 3)
    assert scores["settings"]["command"][:2] == ["evaluate", "levir-cc"]
    assert (data / "out" / "predictions.jsonl").read_text() == file.read_text()
    assert {file.name for file in (data / "out").iterdir()} == {
        *("predictions.jsonl", "scores.json", "report.md", "report.html", "scores.png", "lengths.png"),
    }
    assert unirs(*words, "--output", data / "out")[0] == 0  # the same once more


def test_json_split_limit_and_blind(unirs, data):
    file = predictions(data / "p.jsonl", {"val_1": "one house"})
    words = ("evaluate", "levir-cc", "--data", data, "--from-predictions", file, "--no-meteor", "--json")
    code, out, _ = unirs(*words, "--split", "val", "--blind-predictions", file)
    found = json.loads(out)
    assert (code, found["n"], found["split"], found["bleu_1"]) == (0, 1, "val", pytest.approx(100))
    assert found["blind"]["bleu_1"] == pytest.approx(100)
    file = predictions(data / "p.jsonl", {"test_1": "a road", "test_2": "x", "test_3": "y"})
    found = json.loads(unirs(*words, "--limit", 1)[1])
    assert (found["n"], found["problems"]["unknown id"]["count"]) == (1, 2)


def test_settings_of_others_predictions_say_what_part_of_the_data_was_scored(unirs, data):
    file = predictions(data / "p.jsonl", {"test_1": "a road", "test_2": "x", "test_3": "y"})
    words = ("evaluate", "levir-cc", "--data", data, "--from-predictions", file, "--no-meteor", "--limit", 2)
    assert unirs(*words, "--output", data / "out")[0] == 0
    settings = json.loads((data / "out" / "scores.json").read_text())["settings"]
    assert settings["subset"] == "2 of 3 samples, evenly spread over kinds and places"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"benchmark": "rsvqa"}, "rsvqa"),
        ({"--from-predictions": "gone.jsonl"}, "gone.jsonl: cannot be read (No such file or directory)"),
        ({"--data": "nowhere"}, "LevirCCcaptions.json is not there"),
        ({"--split": "all"}, "the splits are train, val, test, not 'all'"),
        ({"--from-predictions": "others.jsonl"}, "none of the predictions' ids is known, the first is 'q1'"),
        ({"--output": "taken"}, "holds other predictions; give another --output"),
    ],
)
def test_bad_input_is_one_line_and_code_2(unirs, data, change, reason):
    predictions(data / "p.jsonl", {"test_1": "a road"})
    predictions(data / "others.jsonl", {"q1": "yes"})
    (data / "taken").mkdir()
    predictions(data / "taken" / "predictions.jsonl", {"test_1": "another road"})
    given = {"benchmark": "levir-cc", "--data": data, "--from-predictions": data / "p.jsonl", **change}
    name = given.pop("benchmark")
    code, out, err = unirs("evaluate", name, "--no-meteor", *(word for pair in given.items() for word in pair))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert reason in err
    assert (data / "taken" / "predictions.jsonl").read_text().count("another") == 1


def test_faults_of_the_blind_file_are_told_too(unirs, data):
    file = predictions(data / "p.jsonl", {"test_1": "a road", "test_2": "x", "test_3": "y"})
    (data / "blind.jsonl").write_text(file.read_text() + '{"id": "te')
    words = ("evaluate", "levir-cc", "--data", data, "--from-predictions", file, "--no-meteor", "--json")
    found = json.loads(unirs(*words, "--blind-predictions", data / "blind.jsonl")[1])
    assert found["problems"] == {"blind: half-written line": {"count": 1, "named": ["line 4 ends early"]}}


@pytest.mark.parametrize("package", ["pycocoevalcap.rouge.rouge", "matplotlib.figure"])
def test_a_package_that_is_not_there_is_named_with_what_installs_it(unirs, data, monkeypatch, package):
    for name in [name for name in sys.modules if name.startswith(("unirs.evaluation", package))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    file = predictions(data / "p.jsonl", {"test_1": "a road"})
    code, out, err = unirs("evaluate", "levir-cc", "--data", data, "--from-predictions", file, "--no-meteor")
    assert (code, out) == (2, "")
    assert err == f"unirs: evaluation needs more packages ({package}): {install_command('evaluation')}\n"


@pytest.mark.data
def test_always_no_change_scores_as_known_on_all_of_levir_cc(unirs, tmp_path):
    splits = json.loads((DATA / "levir_cc" / "levir_cc_captions.json").read_text())
    karpathy(tmp_path, splits)
    file = predictions(tmp_path / "p.jsonl", dict.fromkeys(splits["test"], "No change has occurred."))
    words = ("evaluate", "levir-cc", "--data", tmp_path, "--from-predictions", file, "--no-meteor", "--json")
    found = json.loads(unirs(*words)[1])
    assert (found["n"], found["change_only"]["n"]) == (1929, 964)
    assert found["cider_d"] == pytest.approx(110.44, abs=0.005)
    assert found["change_flag_accuracy"] == pytest.approx(965 / 1929)
    assert found["problems"] == {}


def test_predictions_that_cannot_be_scored_leave_no_trace(unirs, data):
    wrong = predictions(data / "wrong.jsonl", {"nobody": "a road"})
    words = ("evaluate", "levir-cc", "--data", data, "--no-meteor", "--output", data / "out", "--from-predictions")
    assert unirs(*words, wrong)[0] == 2
    mended = predictions(data / "mended.jsonl", {"test_1": "a road is built"})
    assert unirs(*words, mended)[0] == 0


def test_empty_answer_names_no_class():
    from unirs.evaluation.classes import named_class

    assert named_class("", ["+", "field"]) == (None, "none")
