"""What `unirs evaluate` found stands on the model card."""

import json

import pytest
from unirs.evaluation.scoring import score
from unirs.hub.card import Provenance, render_card, score_rows
from unirs.hub.weight_files import WeightError

from tests.evaluation_samples import classes_benchmark, pairs_benchmark, questions_benchmark, rows

SAME = "no change has occurred"
BENCHMARKS = {
    "questions": (questions_benchmark(), ("yes", "no", "no", "12"), ("no", "no", "no", "no")),
    "captions": (
        pairs_benchmark(),
        ("a road is built", SAME, SAME, "there is no difference"),
        (SAME,) * 4,
    ),
    "classes": (classes_benchmark(), ("fire", "flood", "fire", "flood"), ("fire",) * 4),
}
# name: n, metric, value, blind, commonest: counted by hand
TOLD = {
    "questions": {
        "all questions": (4, "accuracy", 0.75, "0.500", "0.750"),
        "presence": (3, "accuracy", 1.0, "0.667", "0.667"),
        "count": (1, "accuracy", 0.0, "0.000", "1.000"),
    },
    "captions": {"caption says rightly whether anything changed": (4, "accuracy", 0.75, "0.500", "0.500")},
    "classes": {"class": (4, "accuracy", 0.75, "0.750", "0.750")},
}


@pytest.mark.parametrize("kind", TOLD)
def test_scores_of_evaluate_become_rows_of_the_card(kind, tmp_path):
    benchmark, said, blind = BENCHMARKS[kind]
    found = score(benchmark, rows(benchmark, *said), blind=rows(benchmark, *blind), meteor=False)
    found["settings"] = {"command": ["evaluate", benchmark.name, "--data", "/home/me/my data", "--model=/home/me"]}
    (tmp_path / "scores.json").write_text(json.dumps(found))
    provenance = Provenance.of_folder(tmp_path, tmp_path / "scores.json")
    told = {row["name"]: row for row in score_rows(provenance.evaluation)}
    for name, (count, metric, value, blind_value, commonest) in TOLD[kind].items():
        row = told[name]
        assert (row["count"], row["metric"], row["blind"], row["commonest"]) == (count, metric, blind_value, commonest)
        assert row["value"] == pytest.approx(value)
        assert row["dataset"] == benchmark.name
    if kind == "captions":
        assert told["captions, CIDEr-D"]["value"] == found["cider_d"]
        assert told["captions of changed pairs"]["count"] == 2
        assert "captions, METEOR" not in told  # it was not asked for
    card = render_card("x", "x", provenance, 1, "bfloat16", 144)
    assert f"Made by `unirs evaluate {benchmark.name} --data DATA --model=MODEL`." in card


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"n": 3}', "has no scores"),
        ('{"scores": [1]}', "has no scores"),
        ('{"benchmark": "own", "scoring": "other", "n": 1}', "is no whole scores.json"),
        ('{"benchmark": "own", "scoring": "vqa", "n": 1}', "is no whole scores.json"),
    ],
)
def test_a_file_without_scores_is_refused(content, told, tmp_path):
    (tmp_path / "other.json").write_text(content)
    with pytest.raises(WeightError, match=rf"other\.json: {told}"):
        Provenance.of_folder(tmp_path, tmp_path / "other.json")
