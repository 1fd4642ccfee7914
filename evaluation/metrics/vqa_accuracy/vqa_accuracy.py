"""Accuracy of short answers, micro and macro over types of questions, as a metric of `evaluate`."""

import datasets
import evaluate
from unirs.evaluation.questions import question_scores

INPUTS = """
Args:
    predictions: Answers.
    references: The right answers of each question; one is enough.
    kinds: The type of each question, for `per_type` and `macro`.
Returns:
    micro, macro, per_type and more, in 0..1; see `unirs.evaluation.questions.question_scores`.
"""


class VQAAccuracy(evaluate.Metric):
    def _info(self):
        features = {
            "predictions": datasets.Value("string"),
            "references": datasets.List(datasets.Value("string")),
            "kinds": datasets.Value("string"),
        }
        return evaluate.MetricInfo(
            description=__doc__, citation="", inputs_description=INPUTS, features=datasets.Features(features)
        )

    def _compute(self, predictions, references, kinds):
        return question_scores(predictions, references, kinds)
