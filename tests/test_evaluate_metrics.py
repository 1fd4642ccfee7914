"""Our scores through `evaluate.load` of a local path, without a network and without a model."""

import math

import pytest
from unirs.evaluation.metrics import FOLDER

evaluate = pytest.importorskip("evaluate")


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """Loads one of our metrics; `evaluate` copies it into a fresh folder first."""
    folder = tmp_path_factory.mktemp("evaluate")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evaluate.config.HF_EVALUATE_OFFLINE", True)
        patch.setattr("evaluate.config.HF_MODULES_CACHE", str(folder))
        patch.syspath_prepend(str(folder))
        yield lambda name: evaluate.load(str(FOLDER / name), cache_dir=str(folder / "rows"))


def test_vqa_metric_gives_micro_and_macro(load):
    found = load("vqa_accuracy").compute(
        predictions=["Yes.", "no", "no", "10"],
        references=[["yes"], ["no"], ["yes"], ["ten", "10"]],
        kinds=["presence", "presence", "presence", "count"],
    )
    assert (found["micro"], found["macro"]) == (pytest.approx(3 / 4), pytest.approx((2 / 3 + 1) / 2))
    assert found["per_type"]["count"]["accuracy"] == 1


def test_caption_metric_gives_the_change_flag(load):
    found = load("change_captions").compute(
        predictions=["a road is built", "a house appears"],
        references=[["a road is built", "a new road"], ["no change has occurred", "there is no difference"]],
        kinds=["change", "no_change"],
    )
    assert found["change_flag_accuracy"] == 0.5
    # Four words of seven are right, and seven instead of eight were said.
    assert found["bleu_1"] == pytest.approx(100 * 4 / 7 * math.exp(1 - 8 / 7))
    assert found["change_only"]["n"] == 1


def test_class_metric_knows_the_classes_of_era_and_takes_others(load):
    metric = load("class_accuracy")
    assert metric.compute(predictions=["ParadeProtest"], references=["Parade/protest"])["overall_accuracy"] == 1
    found = metric.compute(predictions=["a", "b"], references=["a", "a"], classes=["a", "b"])
    assert found["per_class"]["a"]["recall"] == 0.5
