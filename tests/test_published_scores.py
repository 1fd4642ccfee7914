"""The published averages come out of their own per-type figures, by the average that each is marked with."""

import pytest
from unirs.evaluation.published import PUBLISHED, RSVQA_HR, RSVQA_LR
from unirs.evaluation.questions import question_scores

# Questions of each type; of RSVQA-HR's test set 2 the shares.
LR = {"presence": 2955, "comp": 4002, "rural_urban": 100}
HR = {"presence": 0.4402, "comp": 0.5598}


def averages(row, weights):
    micro = sum(weights[kind] * value for kind, value in row.per_type) / sum(weights.values())
    return {"micro": micro, "macro": sum(value for _, value in row.per_type) / len(row.per_type)}


@pytest.mark.parametrize(
    ("row", "weights"),
    [(row, LR) for row in RSVQA_LR] + [(row, HR) for row in RSVQA_HR],
    ids=lambda one: getattr(one, "method", ""),
)
def test_printed_average_is_the_one_it_is_marked_with(row, weights):
    fits = {name for name, value in averages(row, weights).items() if value == pytest.approx(row.score, abs=0.025)}
    assert fits == ({row.average} - {"unknown"})


def test_our_scores_average_the_papers_answers_as_the_paper_does():
    """UniRS on RSVQA-LR, right as often as is printed for each type: 92.21 micro, and 91.44 macro (not printed)."""
    row = next(row for row in RSVQA_LR if row.method == "UniRS")
    answers, kinds = [], []
    for kind, accuracy in row.per_type:
        right = round(accuracy * LR[kind] / 100)
        answers += ["yes"] * right + ["no"] * (LR[kind] - right)
        kinds += [kind] * LR[kind]
    scores = question_scores(answers, [["yes"]] * len(answers), kinds)
    assert 100 * scores["micro"] == pytest.approx(92.21, abs=0.01)
    assert 100 * scores["macro"] == pytest.approx(91.44, abs=0.01)


def test_every_row_says_where_it_was_read():
    rows = [row for some in PUBLISHED.values() for row in some]
    assert all(row.source and row.average in ("micro", "macro", "unknown") for row in rows)
