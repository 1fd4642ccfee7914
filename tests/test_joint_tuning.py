"""Stage 2 in this process: what is tuned and what is not, adapters, kept features, and every recipe of the package."""

import json
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor
from unirs.trainers.collator import TRAINER_KEYS, Collator
from unirs.trainers.data_sets import DataError
from unirs.trainers.feature_cache import FeatureCache
from unirs.trainers.frozen_parts import Seer
from unirs.trainers.joint_tuning import load, tune
from unirs.trainers.recipe import as_yaml, load_recipe, shipped
from unirs.trainers.recipe_data import data_record, make_data_set
from unirs.trainers.rows import Visual, conversation, image_items, visuals_of
from unirs.trainers.run_folder import RunFolder

from tests.tiny import encode, picture, tiny_model, user
from tests.training import FEW, log_of, recipe, settings
from unirs import default_checkpoint

TINY = default_checkpoint()
LORA = "{method: lora, r: 4, lora_alpha: 8, lora_dropout: 0.0, target_modules: null}"
FROZEN = ("vision_tower", "change_extraction", "multi_modal_projector")


def run(name, output, **changes):
    said = []
    tune(recipe(name, output, **changes), TINY, False, said.append)
    return said


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A full run, with what it said."""
    folder = tmp_path_factory.mktemp("tuned") / "run"
    return folder, run("joint_tuning", folder, **{"training.max_steps": 3})


def test_a_run_that_is_over_is_not_gone_on_with(tmp_path):
    """In the midst of an epoch the Trainer made a step more at each `--resume`."""
    changes = {"training.max_steps": 3, "training.save_strategy": "steps", "training.save_steps": 3}
    given = recipe("lora", tmp_path / "run", **changes)
    first = tune(given, TINY, False, print)
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    said = []
    again = tune(given, TINY, True, said.append)
    assert said[-1] == f"it is done already, 3 steps; the model is in {tmp_path / 'run'}"
    assert {**again, "minutes": first["minutes"]} == first
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


def test_a_run_that_is_over_needs_no_checkpoint_to_be_known(tmp_path):
    """It was begun anew, over its model; so was one that had been trained by another number of processes."""
    given = recipe("lora", tmp_path / "run", **{"training.max_steps": 1})
    first = tune(given, TINY, False, print)
    said = []
    assert {**tune(given, TINY, True, said.append), "minutes": first["minutes"]} == first
    assert said[-1] == f"it is done already, 1 steps; the model is in {tmp_path / 'run'}"


def checkpoint(folder, step, *generators, state="{}"):
    path = folder.checkpoints / f"checkpoint-{step}"
    path.mkdir(parents=True)
    for name in generators:
        (path / f"rng_state{name}.pth").touch()
    (path / "trainer_state.json").write_text(state)
    return path


def test_checkpoints_that_cannot_be_gone_on_from_are_told_and_not_trained_over(tmp_path):
    """`--resume` said "no whole checkpoint yet" and wrote over them."""
    alone = RunFolder(recipe("lora", tmp_path / "alone"))
    kept = checkpoint(alone, 5, "")
    checkpoint(alone, 7, "", state='{"epoch":')  # cut by a kill
    assert alone.last_checkpoint(1) == kept
    with pytest.raises(DataError, match=r"checkpoint-5: was written by a run of 1 process, and this one has 2; go on"):
        alone.last_checkpoint(2)
    two = RunFolder(recipe("lora", tmp_path / "two"))
    checkpoint(two, 5, "_0", "_1")
    with pytest.raises(DataError, match=r"checkpoint-5: was written by a run of 2 processes, and this one has 1"):
        two.last_checkpoint(1)
    model = RunFolder(recipe("lora", tmp_path / "model"))
    checkpoint(model, 5)
    with pytest.raises(DataError, match=r"checkpoint-5: holds the model alone \(training\.save_only_model\)"):
        model.last_checkpoint(1)
    begun = RunFolder(recipe("lora", tmp_path / "begun"))
    checkpoint(begun, 5, "_0")  # the second of two processes was killed before its own
    checkpoint(begun, 9, state='{"epoch":')
    assert begun.last_checkpoint(2) is None


def test_a_run_is_not_resumed_on_other_data(tmp_path):
    """The recipe names the file alone: rows that were never trained on became those of `training.json`."""
    picture(0).save(tmp_path / "good.png")
    file = tmp_path / "d.jsonl"

    def write(count, answer="a"):
        row = {"prompt": "q", "completion": answer, "images": ["good.png"]}
        file.write_text(f"{json.dumps(row)}\n" * count)

    changes = {"data": f"{{own: {{source: own, path: {file}}}}}", "training.max_steps": 1}
    write(4)
    run_only("joint_tuning", tmp_path / "run", changes)
    write(2)
    with pytest.raises(DataError, match=r"data\.json: .*other data for data\.own \(4 samples, now 2\); put the old"):
        run_only("joint_tuning", tmp_path / "run", changes, resume=True)
    write(4, "b")
    with pytest.raises(DataError, match=r"data\.own \(other labels\)"):
        run_only("joint_tuning", tmp_path / "run", changes, resume=True)
    write(4)
    assert "done already" in run_only("joint_tuning", tmp_path / "run", changes, resume=True)[-1]
    write(2)
    (tmp_path / "run" / "data.json").unlink()  # as of a run that an older version began
    assert "done already" in run_only("joint_tuning", tmp_path / "run", changes, resume=True)[-1]


def test_labels_of_every_kind_of_data_set_are_told_from_others(tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": "q", "completion": "a", "id": "0"}) + "\n")
    (tmp_path / "clues.jsonl").write_text('{"id": "0", "clue": "c"}\n')
    Dataset.from_list([{"prompt": "q", "completion": "a"}]).save_to_disk(str(tmp_path / "table"))
    sentences = [{"raw": "a house"}]
    pair = {"filename": "0.png", "split": "train", "changeflag": 1, "sentences": sentences}
    (tmp_path / "LevirCCcaptions.json").write_text(json.dumps({"images": [pair]}))
    entries = {
        "clued": ({"source": "own", "path": str(rows), "clues": str(tmp_path / "clues.jsonl")}, "clues.jsonl"),
        "table": ({"source": "own", "path": str(tmp_path / "table")}, "table/data-00000-of-00001.arrow"),
        "pairs": ({"source": "levir_cc", "path": str(tmp_path)}, "LevirCCcaptions.json"),
    }
    for name, (entry, changed) in entries.items():
        data = make_data_set(name, entry)
        before = data_record("data", {name: entry, "off": None}, [data])
        assert data_record("data", {name: entry}, [data]) == before
        with (tmp_path / changed).open("a") as file:
            file.write(" ")
        assert data_record("data", {name: entry}, [data]) != before, name
    drawn = make_data_set("drawn", {"source": "generated", "kind": "pair", "count": 2})
    assert data_record("data", {"drawn": {}}, [drawn])["data.drawn"]["samples"] == 2


def test_a_run_killed_while_its_model_is_saved_is_not_over(tmp_path, monkeypatch):
    """Weights that were there in part counted as the model."""
    changes = {"training.max_steps": 3, "training.save_strategy": "steps", "training.save_steps": 3}
    run("lora", tmp_path / "whole", **changes)
    with monkeypatch.context() as patched:
        patched.setattr("unirs.trainers.joint_tuning.draw_curve", killed)
        with pytest.raises(KeyboardInterrupt):
            run("lora", tmp_path / "killed", **changes)
    weights = tmp_path / "killed" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    said = []
    tune(recipe("lora", tmp_path / "killed", **changes), TINY, True, said.append)
    assert not any("done already" in line for line in said)
    expected, found = load_file(tmp_path / "whole" / weights.name), load_file(weights)
    assert expected.keys() == found.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name])


def killed(*args):
    raise KeyboardInterrupt


def test_tower_change_extraction_with_its_statistics_and_projector_stay_bit_equal(tuned):
    before, after = load_file(f"{TINY}/model.safetensors"), load_file(tuned[0] / "model.safetensors")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    frozen = {name for name in before if any(f".{part}." in name for part in FROZEN)}
    assert sum("running_mean" in name for name in frozen) == 3
    assert changed
    assert not changed & frozen
    assert changed <= {name for name in before if ".language_model." in name}


def test_change_extraction_is_in_eval_mode_while_the_language_model_trains(tmp_path):
    loaded = load(recipe("joint_tuning", tmp_path), TINY)
    loaded.network.train()
    base = loaded.network.model
    norms = [one for one in base.change_extraction.modules() if isinstance(one, torch.nn.BatchNorm2d)]
    assert len(norms) == 3
    assert not any(norm.training for norm in norms)
    assert base.language_model.training


def test_the_log_tells_tasks_throughput_padding_and_memory(tuned):
    lines = log_of(tuned[0])
    assert [line["step"] for line in lines] == [1, 2, 3]
    for line in lines:
        tasks = {name: line[name] for name in line if name.startswith("loss_")}
        assert set(tasks) <= {"loss_single", "loss_pair", "loss_video"}
        assert min(tasks.values()) - 1e-6 <= line["loss"] <= max(tasks.values()) + 1e-6
        assert line["tokens_per_second"] > line["samples_per_second"] > 0
        assert 0 <= line["padding"] < 0.5
        assert 0.05 < line["memory_gb"] < 24
        assert line["skipped"] == 0
    assert any(len([name for name in line if name.startswith("loss_")]) > 1 for line in lines)


def test_a_run_says_what_it_trains_on_and_leaves_recipe_curve_and_model(tuned):
    folder, said = tuned
    assert said[:3] == [
        "data: generated_single, 10 samples x1",
        "data: generated_pair, 2 samples x5",
        "data: generated_video, 2 samples x2",
    ]
    assert any(line.startswith("padding: ") and "at random" in line for line in said)
    assert said[-1].endswith(f"the model is in {folder}")
    names = {path.name for path in folder.iterdir()}
    assert {
        "recipe.yaml",
        "loss.png",
        "log.jsonl",
        "training.json",
        "model.safetensors",
        "processor_config.json",
    } <= names
    again = load_recipe(str(folder / "recipe.yaml"), [])
    assert as_yaml(again) == (folder / "recipe.yaml").read_text()
    assert not list(folder.glob("*.bin"))  # no pickle


def test_the_tuned_folder_answers(tuned):
    model = AutoModelForImageTextToText.from_pretrained(tuned[0])
    processor = AutoProcessor.from_pretrained(tuned[0])
    assert model.dtype == torch.bfloat16
    inputs = encode(processor, [user(picture(0), "Is there a road?")])
    answer = model.generate(**inputs, max_new_tokens=5)
    assert processor.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def test_an_adapter_is_on_the_language_model_alone_and_merges(tmp_path):
    run("lora", tmp_path / "a", **{"training.learning_rate": 1e-2})
    run("lora", tmp_path / "b", **{"training.learning_rate": 1e-2, "seed": 3, "adapter.method": "dora"})
    names = load_file(tmp_path / "a" / "adapter_model.safetensors")
    assert names
    assert all(".language_model." in name for name in names)
    assert any("magnitude" in name for name in load_file(tmp_path / "b" / "adapter_model.safetensors"))

    # both on one frozen base, switched; then merged
    base = AutoModelForImageTextToText.from_pretrained(TINY, dtype=torch.float32).eval()
    inputs = encode(AutoProcessor.from_pretrained(TINY), [user(picture(0), "Is there a road?")])

    @torch.no_grad()
    def logits(model):
        return model(**inputs).logits

    plain = logits(base)
    stacked = PeftModel.from_pretrained(base, tmp_path / "a", adapter_name="a").eval()
    stacked.load_adapter(tmp_path / "b", "b")
    found = {}
    for name in ("a", "b"):
        stacked.set_adapter(name)
        found[name] = logits(stacked)
        fresh = AutoModelForImageTextToText.from_pretrained(TINY, dtype=torch.float32)
        alone = PeftModel.from_pretrained(fresh, tmp_path / name).eval()
        torch.testing.assert_close(found[name], logits(alone))
        torch.testing.assert_close(found[name], logits(alone.merge_and_unload()), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(found["a"], found["b"], atol=1e-3)
    assert not torch.allclose(found["a"], plain, atol=1e-3)
    with stacked.disable_adapter():
        torch.testing.assert_close(logits(stacked), plain)


def test_an_adapter_is_trained_further_from_where_it_was(tmp_path):
    run("lora", tmp_path / "first", **{"training.learning_rate": 1e-2})
    second = recipe("lora", tmp_path / "second", adapter="null", **{"training.learning_rate": 1e-9})
    tune(second, str(tmp_path / "first"), False, print)
    first, again = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("first", "second"))
    assert first.keys() == again.keys()
    for name in first:
        torch.testing.assert_close(again[name].float(), first[name].float(), atol=1e-5, rtol=1e-2)
    with pytest.raises(DataError, match="is an adapter"):
        tune(recipe("lora", tmp_path / "third"), str(tmp_path / "first"), False, print)


def test_kept_features_give_the_losses_of_looking_and_no_picture_is_opened_again(tmp_path, monkeypatch):
    run("joint_tuning", tmp_path / "looked")
    cache = tmp_path / "cache"
    said = run("joint_tuning", tmp_path / "kept", feature_cache=cache)
    assert any(line.startswith("features: 14 looked at") for line in said)  # 10 + 2 + 2, once each
    expected, found = log_of(tmp_path / "looked"), log_of(tmp_path / "kept")
    assert [line["loss"] for line in found] == pytest.approx([line["loss"] for line in expected], abs=1e-5)
    assert len(list(cache.rglob("*.safetensors"))) == 14

    said = run("joint_tuning", tmp_path / "again", feature_cache=cache)
    assert any(line.startswith("features: 0 looked at") for line in said)


def test_an_adapter_in_a_part_whose_features_are_kept_is_refused(tmp_path):
    """Its matrices never changed, and nobody was told."""
    changes = {"feature_cache": tmp_path / "cache", "adapter.target_modules": r"'.*multi_modal_projector\.linear_\d'"}
    with pytest.raises(DataError, match="feature_cache keeps what multi_modal_projector sees, and the adapter has"):
        run("lora", tmp_path / "run", **changes)


def test_kept_features_of_other_weights_are_not_taken(tmp_path, processor):
    model = tiny_model(processor)

    def file(number, kind="image"):
        seer = Seer(model, processor)
        return FeatureCache(tmp_path, seer.origin(), seer.look).file(Visual(kind, (picture(number),)))

    first = file(0)
    assert file(0) == first
    assert first not in (file(1), file(0, "video"))
    with torch.no_grad():
        model.model.change_extraction.bottleneck[1].running_mean += 1e-3
    assert file(0) != first


def test_kept_features_of_a_dated_sequence_are_of_the_dates_that_are_shown_without_them(tmp_path, processor):
    """They were of the dates that the rule for clips takes, which leaves the newest out."""
    model = tiny_model(processor)
    messages = conversation(image_items([picture(number) for number in range(6)]), [("What changed?", "a house")])
    row = {"id": "dates", "task": "video", "messages": messages}
    seer = Seer(model, processor)
    cache = FeatureCache(tmp_path, seer.origin(), seer.look)
    cache.fill(visuals_of(messages))
    kept = Collator(processor, features=cache.read)([row])
    fresh = Collator(processor)([row])
    with torch.no_grad():
        expected = model.model.get_video_features(fresh["pixel_values_videos"])
        dates = processor(images=[picture(number) for number in (0, 2, 3, 5)])["pixel_values"]
        torch.testing.assert_close(kept["video_features"], expected)
        torch.testing.assert_close(kept["video_features"], model.model.get_image_features(dates))
    assert kept["input_ids"].equal(fresh["input_ids"])
    frames = Visual("video", visuals_of(messages)[0].sources)
    assert cache.file(frames) != cache.file(visuals_of(messages)[0])


@pytest.mark.parametrize("name", sorted(set(shipped()) - {"change_pretraining", "joint_tuning", "lora", "qlora"}))
def test_every_recipe_runs(name, tmp_path):
    found = load_recipe(name, [])
    changes = {key: "null" for key in FEW if key.startswith("data.") and key.removeprefix("data.") not in found.data}
    if name == "own_data":
        changes |= dict.fromkeys(("data", "validation"), "{own: {source: generated, kind: pair, count: 4, size: 72}}")
        changes = {"data": changes["data"], "validation": changes["validation"]}
        said = run_only(name, tmp_path / "run", changes)
        assert any("validation loss" in line for line in said)
    else:
        said = run(name, tmp_path / "run", **changes)
    assert any(line.startswith("step 2/2 | loss ") for line in said)


def run_only(name, output, changes, resume=False):
    """Without FEW's data sets."""
    values = {key: value for key, value in FEW.items() if not key.startswith("data.")}
    said = []
    values |= {"training.max_steps": 2, "output": output, **changes}
    tune(load_recipe(name, [f"{key}={value}" for key, value in values.items()]), TINY, resume, said.append)
    return said


def test_qlora_keeps_the_seeing_parts_whole(tmp_path):
    pytest.importorskip("bitsandbytes")
    loaded = load(recipe("qlora", tmp_path), TINY)
    kinds = {name: type(module).__name__ for name, module in loaded.network.named_modules()}
    four_bits = {name for name, kind in kinds.items() if kind == "Linear4bit"}
    assert four_bits
    assert all(".language_model." in name for name in four_bits)
    said = run("qlora", tmp_path / "run")
    assert any(line.startswith("step 2/2 | loss ") for line in said)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data.single.source": "levir"}, r"data\.single: source is 'levir'; the sources are generated"),
        ({"data.single.cuont": 3}, r"data\.single: generated has no cuont \(did you mean count\?\)"),
        ({"training.learning_rte": 3}, r"training\.learning_rte: .*did you mean learning_rate"),
        ({"training.output_dir": "x"}, r"training\.output_dir: is set by UniRS"),
        ({"training.max_grad_norm": 1, "training.lr_scheduler_type": "wavy"}, r"training: .*wavy"),
        ({"adapter": "{method: lora}"}, r"adapter: r, lora_alpha"),
        ({"training.bf16": "maybe"}, r"training\.bf16 is 'maybe'; it can be true or false"),
        ({"training.learning_rate": "abc"}, r"training\.learning_rate is 'abc'; it must be a number"),
        ({"training.per_device_train_batch_size": 0}, r"batch_size is 0; give 1 or more"),
        ({"training.per_device_train_batch_size": 2.5}, r"batch_size is 2\.5; it must be a whole number"),
        ({"training.dataloader_num_workers": -1}, "num_workers is -1; give 0 or more"),
        ({"training.learning_rate": -1}, "learning_rate is -1; give 0 or more"),
        ({"training.max_steps": -1, "training.num_train_epochs": 0}, "num_train_epochs is 0; give more than 0"),
        ({"seed": -1}, "seed is -1; give 0 to"),
        ({"data.single.count": "many"}, r"data\.single: generated cannot be made of .*many"),
        ({"data.single.repeat": "x"}, r"data\.single: repeat is 'x'"),
        ({"data.single": "{source: own, path: 5}"}, r"data\.single: own cannot be made of"),
        ({"trainable": "[]"}, "trainable is empty; name one or more of vision_tower, "),
        (
            {"trainable": "[multi_modal_projector]", "adapter": LORA},
            "trainable names multi_modal_projector, but with an adapter it alone is trained",
        ),
    ],
)
def test_a_recipe_that_cannot_run_is_told_before_anything_is_made(changes, reason, tmp_path):
    with pytest.raises(DataError, match=reason):
        run("joint_tuning", tmp_path / "run", **changes)


def validated(folder, readable, unreadable, batch):
    """What a run that changes nothing logs and says of its validation on rows with answers of all lengths."""
    (folder / "cut.png").write_bytes(b"\x89PNG")
    picture(0).save(folder / "good.png")
    names = ["good.png"] * readable + ["cut.png"] * unreadable
    rows = [{"prompt": "q", "completion": "road " * (1 + 4 * k), "images": [name]} for k, name in enumerate(names)]
    (folder / "v.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = {
        "data": "{own: {source: generated, kind: pair, count: 2, size: 72}}",
        "validation": f"{{own: {{source: own, path: {folder / 'v.jsonl'}}}}}",
        "bad_rows": "skip", "training.max_steps": 1, "training.learning_rate": 1e-12,
        "training.eval_strategy": "steps", "training.eval_steps": 1, "training.per_device_eval_batch_size": batch,
    }  # fmt: skip
    said = run_only("joint_tuning", folder / f"by{batch}", changes)
    lines = map(json.loads, (folder / f"by{batch}" / "log.jsonl").read_text().splitlines())
    return next(line for line in lines if "eval_loss" in line), said


@pytest.mark.parametrize("batch", [1, 2])
def test_validation_loss_is_that_of_an_answer_token_whatever_the_batches(batch, tmp_path):
    """A batch of bad rows counted as loss 0, and the rest as a mean of the batches' means."""
    found, said = validated(tmp_path, 3, 2, batch)
    model = AutoModelForImageTextToText.from_pretrained(TINY, dtype=torch.float32).eval()
    data = make_data_set("own", {"source": "own", "path": str(tmp_path / "v.jsonl")})
    whole = Collator(AutoProcessor.from_pretrained(TINY))([data.row(place) for place in range(3)])
    with torch.no_grad():
        expected = model(**{name: value for name, value in whole.items() if name not in TRAINER_KEYS}).loss
    assert found["eval_loss"] == pytest.approx(float(expected), abs=1e-4)
    assert found["eval_skipped"] == 2
    assert any(line.endswith("validation rows skipped: 2") for line in said)


def test_a_validation_set_that_cannot_be_read_is_told(tmp_path):
    with pytest.raises(DataError, match="none of the 2 validation rows can be read; mend them"):
        validated(tmp_path, 0, 2, 2)


def test_a_bad_picture_met_by_a_loaders_process_is_told_in_one_line(unirs, tmp_path):
    """torch sends the whole traceback of its worker along."""
    (tmp_path / "cut.png").write_bytes(b"\x89PNG")
    row = {"prompt": "q", "completion": "a", "images": ["cut.png"], "id": "seven"}
    (tmp_path / "d.jsonl").write_text(json.dumps(row) + "\n")
    values = {**FEW, "data": f"{{own: {{source: own, path: {tmp_path / 'd.jsonl'}}}}}", "output": tmp_path / "run"}
    values = {key: value for key, value in values.items() if not key.startswith("data.")}
    values |= {"training.dataloader_num_workers": 1, "training.max_steps": 1}
    code, _, err = unirs("train", "joint_tuning", *settings(values))
    assert code == 2
    assert err.startswith("unirs: row with the id seven: ")
    assert "cut.png" in err
    assert len(err.strip().splitlines()) == 1


def full(*args):
    Path("/dev/full").write_text("x")


def full_for_torch(*args):
    torch.save(torch.zeros(1000), "/dev/full")


def full_for_safetensors(*args):
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs /dev/full")
@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (full, "No space left on device"),
        (full_for_torch, "a checkpoint was not written to its end"),
        (full_for_safetensors, "No space left on device"),
    ],
)
def test_a_full_disk_is_told_in_one_line(write, reason, unirs, monkeypatch):
    monkeypatch.setattr("unirs.trainers.joint_tuning.tune", write)
    code, _, err = unirs("train", "lora", "--set", "output=runs/mine")
    expected = f"unirs: runs/mine: the run could not be saved ({reason}); make room and run again with --resume\n"
    assert (code, err) == (2, expected)


def test_other_errors_of_a_run_are_not_taken_for_a_full_disk(unirs, monkeypatch, tmp_path):
    torch.save(torch.zeros(1000), tmp_path / "cut.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "cut.pt").read_bytes()[:2000])
    for fail in (lambda *args: torch.zeros(2) @ torch.zeros(3), lambda *args: torch.load(tmp_path / "cut.pt")):
        monkeypatch.setattr("unirs.trainers.joint_tuning.tune", fail)
        with pytest.raises((RuntimeError, OSError)):
            unirs("train", "lora")


def test_skipped_rows_are_counted_and_listed(tmp_path):
    (tmp_path / "cut.png").write_bytes(b"\x89PNG")
    picture(0).save(tmp_path / "good.png")
    rows = [{"prompt": "q", "completion": "a", "images": [name], "id": name} for name in ("good.png", "cut.png")]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = {"data": f"{{own: {{source: own, path: {tmp_path / 'd.jsonl'}}}}}", "bad_rows": "skip"}
    said = run_only("joint_tuning", tmp_path / "run", {**changes, "training.per_device_train_batch_size": 2})
    assert f"rows skipped: 1, listed in {tmp_path / 'run' / 'bad_rows.jsonl'}" in said
    assert log_of(tmp_path / "run")[-1]["skipped"] == 2  # in two epochs


def test_a_folder_that_is_taken_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="is there already; give another folder"):
        run("joint_tuning", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_run_that_stopped_before_its_first_step_is_begun_anew_with_what_was_mended(tmp_path):
    (tmp_path / "cut.png").write_bytes(b"\x89PNG")
    picture(0).save(tmp_path / "good.png")
    rows = [{"prompt": "q", "completion": "a", "images": [name]} for name in ("good.png", "cut.png")]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = {"data": f"{{own: {{source: own, path: {tmp_path / 'd.jsonl'}}}}}", "training.max_steps": 1}
    with pytest.raises(DataError, match=r"row with the id 1: .*cut\.png"):
        run_only("joint_tuning", tmp_path / "run", changes)
    run_only("joint_tuning", tmp_path / "run", {**changes, "bad_rows": "skip"})
    kept = log_of(tmp_path / "run")
    with pytest.raises(DataError, match="is there already; go on with --resume"):  # now there is something to lose
        run_only("joint_tuning", tmp_path / "run", changes)
    assert log_of(tmp_path / "run") == kept


def test_no_steps_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"training\.max_steps is 0; give 1 or more"):
        run_only("joint_tuning", tmp_path / "run", {"training.max_steps": 0})


def test_a_data_set_needs_its_arguments():
    with pytest.raises(DataError, match="generated needs kind"):
        make_data_set("x", {"source": "generated"})
