"""VQA scores against hand counts and a second implementation."""

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unirs.evaluation.questions import is_right, is_right_by_geochat, question_scores


@pytest.mark.parametrize(
    ("answer", "truth", "ours", "geochat"),
    [
        ("Yes.", "yes", True, True),
        ("yes", "Yes", True, True),
        ("more than 1000", "more than 1000", True, False),  # the truth keeps its spaces under GeoChat's rule
        ("More than 1000.", "more than 1000", True, False),
        ("yes!", "yes", True, False),
        ("yes", "yes.", True, False),
        ("yes, there is", "yes", False, False),
        ("1.5", "15", False, True),  # GeoChat drops every point
        ("1,000", "1000", False, False),
        ("0m2.", "0m2", True, True),
        ("", "", False, True),
        (" . ", "no", False, False),
        (".5", "5", False, True),  # by GeoChat's rule 5
        ("about .5", "about 5", False, False),
        ("Yes.2", "yes2", True, True),
    ],
)
def test_both_rules_judge_as_documented(answer, truth, ours, geochat):
    assert (is_right(answer, truth), is_right_by_geochat(answer, truth)) == (ours, geochat)


def test_scores_equal_those_counted_by_hand():
    scores = question_scores(
        ["Yes.", "no", "no", "yes", "Rural", "between 0 and 10"],
        [["yes"], ["no"], ["yes"], ["yes"], ["urban"], ["between 0 and 10"]],
        ["presence", "presence", "presence", "presence", "rural_urban", "count"],
    )
    assert scores["n"] == 6
    assert scores["micro"] == pytest.approx(4 / 6)
    assert scores["macro"] == pytest.approx((3 / 4 + 0 + 1) / 3)
    assert scores["geochat_rule"] == {"micro": pytest.approx(3 / 6), "macro": pytest.approx((3 / 4 + 0 + 0) / 3)}
    assert scores["majority"] == {"answer": "yes", "accuracy": pytest.approx(3 / 6), "per_type": pytest.approx(5 / 6)}
    presence = scores["per_type"]["presence"]
    assert (presence["n"], presence["accuracy"]) == (4, 0.75)
    assert presence["majority"] == {"answer": "yes", "accuracy": 0.75}
    assert presence["interval_95"] == (pytest.approx(0.3006, abs=5e-5), pytest.approx(0.9544, abs=5e-5))
    assert scores["per_type"]["count"]["geochat_rule"] == 0


ROWS = st.lists(
    st.tuples(*(st.sampled_from(words) for words in (["yes", "No.", "2"], ["yes", "no", "2"], "abc"))), min_size=1
)


@given(ROWS)
def test_micro_and_macro_equal_a_second_count(rows):
    answers, truths, kinds = zip(*rows, strict=True)
    scores = question_scores(answers, [[truth] for truth in truths], kinds)
    hits = defaultdict(list)
    for answer, truth, kind in rows:
        hits[kind].append(answer.lower().strip(".") == truth)
    assert scores["micro"] == pytest.approx(sum(sum(one) for one in hits.values()) / len(rows))
    assert scores["macro"] == pytest.approx(sum(sum(one) / len(one) for one in hits.values()) / len(hits))
    assert scores["majority"]["accuracy"] == max(truths.count(one) for one in truths) / len(rows)


def test_any_of_several_true_answers_is_right():
    assert question_scores(["ten"], [["10", "Ten"]], ["count"])["micro"] == 1


def test_the_majority_answer_is_right_where_it_is_any_of_the_true_ones():
    """Only the first of each was counted, so that a guess was worth more than the majority beside it."""
    scores = question_scores(["Yes"] * 3, [["sure", "yes"], ["ok", "Yes."], ["no", "NO", "!"]], ["a", "a", "b"])
    assert scores["micro"] == scores["majority"]["accuracy"] == 2 / 3
    assert (scores["majority"]["answer"], scores["majority"]["per_type"]) == ("yes", 1.0)
    assert scores["per_type"]["b"]["majority"] == {"answer": "no", "accuracy": 1.0}
    assert question_scores(["?"], [["?"]], ["a"])["majority"]["accuracy"] == 0  # as the answer itself


def test_answers_that_do_not_fit_the_questions_are_refused():
    with pytest.raises(ValueError, match="1 answers do not fit 2 truths"):
        question_scores(["yes"], [["yes"], ["no"]], ["a", "a"])
    with pytest.raises(ValueError, match="question 0 has no true answer"):
        question_scores(["yes"], [[]], ["a"])
