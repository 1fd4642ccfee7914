"""One call scores a benchmark of any kind, beside blind and majority answers, and counts what was wrong."""

import json
from dataclasses import replace

import pytest
from unirs.evaluation.samples import Benchmark, Sample
from unirs.evaluation.scoring import score
from unirs.trainers.data_sets import DataError

from tests.evaluation_samples import classes_benchmark, pairs_benchmark, questions_benchmark, rows


def test_scores_of_questions_with_blind_ones_and_published_rows():
    benchmark = questions_benchmark()
    scores = score(benchmark, rows(benchmark, "Yes.", "no", "no", "12"), blind=rows(benchmark, "no", "no", "no", "no"))
    assert (scores["n"], scores["micro"], scores["macro"]) == (4, 0.75, 0.5)
    assert scores["per_type"]["presence"]["accuracy"] == 1
    assert scores["blind"]["micro"] == 0.5
    assert scores["majority"]["accuracy"] == 0.5
    assert scores["problems"] == scores["blind"]["problems"] == {}
    assert [row["score"] for row in scores["published"] if row["method"] == "UniRS"] == [92.21]


def test_scores_of_captions():
    benchmark = pairs_benchmark()
    said = ("a road is built", "no change has occurred", "no change has occurred", "there is no difference")
    scores = score(benchmark, rows(benchmark, *said), meteor=False)
    assert scores["change_flag_accuracy"] == 0.75
    assert {"n", "bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider_d"} <= set(scores)
    assert {"n", "bleu_4", "rouge_l", "cider_d"} <= set(scores["change_only"])


def test_scores_of_classes():
    benchmark = classes_benchmark()
    scores = score(benchmark, rows(benchmark, "fire", "It is a flood.", "a non event", "what?"))
    assert (scores["overall_accuracy"], scores["overall_accuracy_exact"]) == (0.5, 0.25)
    assert scores["per_class"]["Fire"]["recall"] == pytest.approx(1 / 3)
    assert scores["confusion"]["columns"][-1] == "no class named"


def test_missing_and_failed_answers_are_wrong_and_named():
    """Whoever leaves out hard questions must not score better than who answers all."""
    benchmark = questions_benchmark()
    given = [{"id": "q1", "prediction": "yes"}, {"id": "q2", "prediction": "no", "error": "no memory"}]
    scores = score(benchmark, given, problems={"half-written line": ["line 3 ends early"]})
    assert (scores["n"], scores["micro"]) == (4, 0.25)
    assert scores["problems"] == {
        "half-written line": {"count": 1, "named": ["line 3 ends early"]},
        "missing prediction": {"count": 2, "named": ["q0", "q3"]},
        "error instead of a prediction": {"count": 1, "named": ["q2: no memory"]},
    }


def test_a_class_that_the_benchmark_does_not_know_is_named_and_not_scored():
    known = classes_benchmark()
    stranger = Sample("c9", known.samples[0].messages, ("Volcano",), "Volcano")
    benchmark = replace(known, samples=[*known.samples, stranger], problems=["Volcano.mp4: is in no folder"])
    scores = score(benchmark, rows(benchmark, "fire", "flood", "fire", "fire", "volcano"))
    assert (scores["n"], scores["overall_accuracy"]) == (4, 1)
    assert scores["problems"] == {
        "unknown class in the data, not scored": {"count": 1, "named": ["c9: Volcano"]},
        "problem of the data": {"count": 1, "named": ["Volcano.mp4: is in no folder"]},
    }


def test_a_benchmark_without_a_sample_of_a_known_class_is_refused():
    """It ended in a ValueError of 0 answers."""
    benchmark = replace(classes_benchmark(), classes=("Volcano",))
    with pytest.raises(DataError, match=r"era: no sample has a class that the benchmark knows, c0 has 'Fire'"):
        score(benchmark, rows(benchmark, "fire", "flood", "fire", "fire"))


@pytest.mark.parametrize("make", [questions_benchmark, pairs_benchmark, classes_benchmark])
def test_scores_are_json_and_do_not_depend_on_the_order_of_predictions(make):
    benchmark = make()
    given = rows(benchmark, "fire", "no", "a road", "")
    scores = score(benchmark, given, meteor=False)
    assert json.loads(json.dumps(scores, allow_nan=False))["n"] == 4
    assert score(benchmark, given[::-1], meteor=False) == scores


def test_predictions_of_another_benchmark_and_empty_benchmarks_are_refused():
    with pytest.raises(DataError, match="none of the predictions' ids is known, the first is 'x'"):
        score(questions_benchmark(), [{"id": "x", "prediction": "yes"}])
    with pytest.raises(DataError, match="era: has no samples in test"):
        score(Benchmark("era", "test", "classes", []), [{"id": "x", "prediction": "yes"}])
