"""Stage 1: what is trained and what is not, what comes out of it, and going on after a stop."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText
from unirs.hub.convert import convert
from unirs.modeling_unirs import UniRSForConditionalGeneration
from unirs.trainers.change_pretraining import pretrain, save_change_extraction
from unirs.trainers.data_sets import DataError
from unirs.trainers.pair_data import EpochOrder
from unirs.trainers.recipe import ChangePretraining, load_recipe

import unirs
from tests.test_training_runs import OUT
from tests.tiny import picture
from tests.training import finish, launch, losses, settings

TINY = unirs.default_checkpoint()
FEW = {
    "data.pair": "{source: generated, kind: pair, count: 12, size: 72}",
    "validation.pair": "{source: generated, kind: pair, count: 4, size: 72, split: validation}",
    "training.epochs": 3,
    "training.batch_size": 4,
    "training.min_word_count": 1,
    "training.workers": 0,
}


def run(output, model=TINY, resume=False, **changes):
    recipe = load_recipe("change_pretraining", [f"{k}={v}" for k, v in {**FEW, "output": output, **changes}.items()])
    assert isinstance(recipe, ChangePretraining)
    said = []
    found = pretrain(recipe, model, resume, said.append)
    return found, said


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stage1") / "run"
    return folder, *run(folder, **{"training.epochs": 40, "training.learning_rate": 1e-3})


def test_the_captioner_learns_the_captions_of_its_pairs(trained):
    """Twelve pairs, forty epochs; one of five captions is drawn at a time, so some doubt must stay."""
    folder, found, said = trained
    first, last = (losses(folder)[step] for step in (3, 120))
    assert last < first / 3
    assert found["best"]["bleu_4"] == max(epoch["bleu_4"] for epoch in found["epochs"])
    assert [epoch["epoch"] for epoch in found["epochs"]] == list(range(1, 41))
    assert json.loads((folder / "scores.json").read_text())["validation_pairs"] == 4
    assert any(line.startswith("best epoch ") for line in said)


def test_only_change_extraction_is_saved_trained_with_its_statistics(trained):
    before = {
        name: tensor
        for name, tensor in load_file(f"{TINY}/model.safetensors").items()
        if ".change_extraction." in name
    }
    after = load_file(trained[0] / "change_extraction.safetensors")
    assert before.keys() == after.keys()
    same = {name for name in before if torch.equal(before[name].float(), after[name].float())}
    assert same <= {name for name in before if name.endswith("num_batches_tracked")}
    assert sum("running_var" in name for name in after) == 3


def test_the_step_schedule_halves_the_rate_every_five_epochs(trained):
    lines = [json.loads(line) for line in (trained[0] / "log.jsonl").read_text().splitlines()]
    rates = [line["learning_rate"] for line in lines if "learning_rate" in line]
    assert rates == pytest.approx([1e-3 * 0.5 ** (epoch // 5) for epoch in range(40)])


def test_what_was_trained_is_grafted_and_sees_as_it_did(trained, tmp_path):
    convert(TINY, tmp_path / "grafted", change_extraction=trained[0] / "change_extraction.safetensors")
    grafted = AutoModelForImageTextToText.from_pretrained(tmp_path / "grafted", dtype=torch.float32).eval()
    plain = AutoModelForImageTextToText.from_pretrained(TINY, dtype=torch.float32).eval()
    weights = load_file(trained[0] / "change_extraction.safetensors")
    names = {name: value for name, value in grafted.state_dict().items() if ".change_extraction." in name}
    for name, value in weights.items():
        torch.testing.assert_close(names[name], value.to(names[name].dtype), atol=0, rtol=2**-8)  # bfloat16 on disk
    pixels = torch.randn(1, 2, 3, 144, 144)
    with torch.no_grad():
        assert not torch.allclose(grafted.get_change_features(pixels), plain.get_change_features(pixels), atol=0.05)
        singles = [model.get_image_features(pixels[0]) for model in (grafted, plain)]
    torch.testing.assert_close(*singles)  # tower and projector are as they were


def test_kept_features_train_as_pictures_do(tmp_path):
    _, _ = run(tmp_path / "looked")
    _, said = run(tmp_path / "kept", feature_cache=tmp_path / "cache")
    assert any(line.startswith("features: 16 pairs looked at") for line in said)
    # half precision on the disk
    assert losses(tmp_path / "kept") == pytest.approx(losses(tmp_path / "looked"), rel=2e-3)
    _, said = run(tmp_path / "again", feature_cache=tmp_path / "cache")
    assert any(line.startswith("features: 0 pairs looked at") for line in said)


def test_a_stopped_run_goes_on_as_if_it_had_not(tmp_path, monkeypatch):
    run(tmp_path / "whole")
    evaluated = []
    from unirs.trainers.change_pretraining import PretrainingTrainer

    evaluate = PretrainingTrainer.evaluate

    def stop_at_the_second(self, *args, **kwargs):
        evaluated.append(1)
        if len(evaluated) == 2:
            raise KeyboardInterrupt
        return evaluate(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(PretrainingTrainer, "evaluate", stop_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "stopped")
    _, said = run(tmp_path / "stopped", resume=True)
    assert any("resuming from" in line and "checkpoint-3" in line for line in said)
    assert losses(tmp_path / "stopped") == pytest.approx(losses(tmp_path / "whole"), abs=1e-5)
    weights = [load_file(tmp_path / name / "change_extraction.safetensors") for name in ("whole", "stopped")]
    torch.testing.assert_close(weights[1], weights[0])


def test_a_run_is_resumed_on_its_own_data_and_processes_alone(tmp_path):
    rows = tmp_path / "LevirCCcaptions.json"
    (tmp_path / "images" / "train" / "A").mkdir(parents=True)
    (tmp_path / "images" / "train" / "B").mkdir()
    for date in "AB":
        for k in range(4):
            picture(k, 40, 40).save(tmp_path / "images" / "train" / date / f"{k}.png")
    sentences = [{"raw": f"a house number {k} ."} for k in range(5)]
    images = [{"filename": f"{k}.png", "split": "train", "changeflag": 1, "sentences": sentences} for k in range(4)]
    rows.write_text(json.dumps({"images": images}))
    entry = f"{{source: levir_cc, path: {tmp_path}}}"
    changes = {"data.pair": entry, "validation.pair": entry, "training.epochs": 1}
    run(tmp_path / "run", **changes)
    rows.write_text(json.dumps({"images": images[:3]}))
    with pytest.raises(DataError, match=r"other data for data\.pair \(4 samples, now 3\)"):
        run(tmp_path / "run", resume=True, **changes)
    rows.write_text(json.dumps({"images": images}))
    kept = next((tmp_path / "run" / "checkpoints").glob("checkpoint-*"))
    for rank in range(2):
        (kept / f"rng_state_{rank}.pth").touch()
    (kept / "rng_state.pth").unlink()
    with pytest.raises(DataError, match="written by a run of 2 processes, and this one has 1"):
        run(tmp_path / "run", resume=True, **changes)


def test_two_processes_train_together(tmp_path):
    """BatchNorm sees each process's own pairs, so losses are near those of one process and not equal to them."""
    values = {**FEW, "training.epochs": 2, "training.dropout": 0, "training.batch_size": 6}
    finish(launch(["train", "change_pretraining", *settings({**values, "output": tmp_path / "two"})], 2, **OUT))
    run(tmp_path / "one", **{**values, "training.batch_size": 12})
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert one.keys() == two.keys() == {1, 2}
    assert two == pytest.approx(one, rel=0.1)
    assert load_file(tmp_path / "two" / "change_extraction.safetensors")


def test_a_last_batch_of_one_pair_is_left_out_another_one_each_epoch():
    """BatchNorm would take its statistics from that pair alone."""
    order = EpochOrder(count=9, batch_size=4, seed=0)
    left = set()
    for epoch in range(20):
        order.set_epoch(epoch)
        shown = list(order)
        assert len(shown) == len(order) == 8
        assert {number for number, _ in shown} == {epoch}
        left |= set(range(9)) - {index for _, index in shown}
    assert len(left) > 5
    assert len(EpochOrder(count=10, batch_size=4, seed=0)) == 10


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data.pair": "{source: generated, kind: single, count: 4}"}, "generated_single: has no before/after pairs"),
        ({"data.pair.repeat": 5}, "stage 1 shows each pair once an epoch; leave repeat out"),
        ({"training.batch_size": 1}, "at least 2 pairs in a batch"),
        ({"training.decay_epochs": 0}, "training.decay_epochs is 0; give 1 or more"),
        ({"training.epochs": 0}, "training.epochs is 0; give 1 or more"),
        ({"training.learning_rate": -1.0}, "training.learning_rate is -1.0; give 0 or more"),
        ({"training.heads": 7}, "training.heads is 7; give a number that divides the tower's 192 channels"),
        ({"training.heads": 0}, "training.heads is 0; give 1 or more"),
        ({"training.dropout": 2}, "training.dropout is 2; give 0 or more, below 1"),
        ({"training.workers": -1}, "training.workers is -1; give 0 or more"),
        ({"training.epoch": 1}, r"training: epoch is no value of it \(did you mean epochs\?\)"),
    ],
)
def test_what_cannot_be_trained_on_is_told_before_anything_is_made(changes, reason, tmp_path):
    with pytest.raises(DataError, match=reason):
        run(tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_pictures_on_disk_are_pairs_too(tmp_path):
    """LEVIR-CC's own form, four pairs."""
    sentences = [{"raw": f" a house number {k} ."} for k in range(5)]
    images = []
    for k in range(4):
        for date in "AB":
            (tmp_path / "images" / "train" / date).mkdir(parents=True, exist_ok=True)
            picture(k, 40, 40).save(tmp_path / "images" / "train" / date / f"{k}.png")
        images.append({"filename": f"{k}.png", "split": "train", "changeflag": 1, "sentences": sentences})
    (tmp_path / "LevirCCcaptions.json").write_text(json.dumps({"images": images}))
    entry = f"{{source: levir_cc, path: {tmp_path}}}"
    found, _ = run(tmp_path / "run", **{"data.pair": entry, "validation.pair": entry, "training.epochs": 1})
    assert found["training_pairs"] == 4
    assert UniRSForConditionalGeneration.from_pretrained(TINY)  # the model it came from is whole


def test_weights_that_are_no_numbers_are_not_handed_on(tmp_path):
    """They were saved as those of the best epoch, and the command told how to put them into a model."""
    weights = {"change_extraction.fuse.weight": torch.tensor([1.0, float("nan")])}
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match="the weights of the best epoch are no numbers"):
        save_change_extraction(tmp_path / "model.safetensors", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()
