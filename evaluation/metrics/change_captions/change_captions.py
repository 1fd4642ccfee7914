"""Scores of change captions with their floors, as a metric of `evaluate`."""

import datasets
import evaluate
from unirs.evaluation.change_captions import change_caption_scores

INPUTS = """
Args:
    predictions: Captions.
    references: The captions that each pair has.
    kinds: "change" or "no_change" of each pair.
    meteor: Whether to run METEOR, which takes Java and ten seconds more.
Returns:
    bleu_1 to bleu_4, rouge_l, cider_d (times 100), change_only, change_flag_accuracy, floors and more; see
    `unirs.evaluation.change_captions.change_caption_scores`.
"""


class ChangeCaptions(evaluate.Metric):
    def _info(self):
        features = {
            "predictions": datasets.Value("string"),
            "references": datasets.List(datasets.Value("string")),
            "kinds": datasets.Value("string"),
        }
        return evaluate.MetricInfo(
            description=__doc__, citation="", inputs_description=INPUTS, features=datasets.Features(features)
        )

    def _compute(self, predictions, references, kinds, meteor=False):
        return change_caption_scores(predictions, references, kinds, meteor)
