"""Overall accuracy, precision, recall and F1 of answers that name a class, as a metric of `evaluate`."""

import datasets
import evaluate
from unirs.evaluation.classes import class_scores
from unirs.processing.prompts_unirs import ERA_CLASSES

INPUTS = """
Args:
    predictions: Answers.
    references: The class of each sample.
    classes: All class names. [default: the 25 of ERA]
Returns:
    overall_accuracy, per_class, confusion and more, in 0..1; see `unirs.evaluation.classes.class_scores`.
"""


class ClassAccuracy(evaluate.Metric):
    def _info(self):
        features = {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
        return evaluate.MetricInfo(
            description=__doc__, citation="", inputs_description=INPUTS, features=datasets.Features(features)
        )

    def _compute(self, predictions, references, classes=ERA_CLASSES):
        return class_scores(predictions, references, classes)
