"""Stage 2 where something is wrong: weights, rows, settings, a folder that two runs write."""

import json
import math
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
from trl import SFTConfig
from unirs.trainers.data_sets import DataError
from unirs.trainers.joint_tuning import Loaded, load, make_collator, training_arguments, tune
from unirs.trainers.mixture import EpochSampler
from unirs.trainers.recipe import load_recipe
from unirs.trainers.run_folder import RunFolder

from tests.tiny import picture, tiny_model
from tests.training import FEW, log_of, recipe

SMALL = {"data": "{own: {source: generated, kind: single, count: 4, size: 32}}"}


def run_small(output, checkpoint, resume=False, **changes):
    """On a network of a few thousand weights."""
    given = {key: value for key, value in FEW.items() if not key.startswith("data.")}
    values = {**given, **SMALL, "training.max_steps": 2, "output": output, **changes}
    found = load_recipe("joint_tuning", [f"{key}={value}" for key, value in values.items()])
    return tune(found, str(checkpoint), resume, lambda line: None)


def test_a_run_whose_weights_are_no_numbers_ends_and_says_so(tmp_path, checkpoint):
    """It logged "loss 0.0000", saved the weights and said that it was done."""
    changes = {"training.max_steps": 9, "training.learning_rate": 1e30, "training.warmup_steps": 0}
    with pytest.raises(DataError, match=r"the weights are no numbers after step \d .*lower training\.learning_rate"):
        run_small(tmp_path / "run", checkpoint, **changes)
    assert math.isnan(log_of(tmp_path / "run")[-1]["loss"])
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_packing_is_refused_where_samples_would_see_each_other(tmp_path, processor):
    text = {"model_type": "opt", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4,
            "vocab_size": 512, "word_embed_proj_dim": 32, "ffn_dim": 48}  # fmt: skip
    loaded = Loaded(tiny_model(processor, text_config=text), processor, None)
    for batching, refused in (("packed", True), ("grouped", False)):
        given = recipe("joint_tuning", tmp_path / "run", batching=batching)
        with pytest.raises(DataError, match=r"\(opt\).*set batching=grouped") if refused else nullcontext():
            make_collator(given, loaded, training_arguments(given), RunFolder(given), None)


def test_a_run_that_a_bad_row_stopped_goes_on_without_it(tmp_path, checkpoint, monkeypatch):
    """Its steps were lost: a recipe with bad_rows=skip was another one, and a row in no form stopped that one too."""
    (tmp_path / "cut.png").write_bytes(b"\x89PNG")
    picture(0).save(tmp_path / "good.png")
    rows = [{"prompt": "q", "completion": "a", "images": ["good.png"], "id": str(k)} for k in range(4)]
    rows += [{"prompt": "q", "completion": "", "images": ["good.png"]}, {**rows[0], "images": ["cut.png"]}]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = {"data": f"{{own: {{source: own, path: {tmp_path / 'd.jsonl'}}}}}", "training.max_steps": 6,
               "training.per_device_train_batch_size": 1, "training.save_strategy": "steps",
               "training.save_steps": 1}  # fmt: skip
    changes["seed"] = next(seed for seed in range(99) if list(EpochSampler(6, 1, seed))[-2:] == [4, 5])
    folder = tmp_path / "run"
    monkeypatch.setattr("unirs.trainers.joint_tuning.SAMPLED_ROWS", 1)  # are read before the first step
    with pytest.raises(DataError, match="; mend it, or go on with bad_rows=skip"):
        run_small(folder, checkpoint, **changes)
    monkeypatch.undo()
    before = log_of(folder)
    assert len(before) > 1
    run_small(folder, checkpoint, resume=True, **changes, bad_rows="skip")
    assert log_of(folder)[: len(before)] == before
    assert log_of(folder)[-1]["skipped"] == 2
    told = [json.loads(line)["error"] for line in (folder / "bad_rows.jsonl").read_text().splitlines()]
    assert any("row 5: turn 2 is an empty answer" in one for one in told)
    assert any("cut.png" in one for one in told)
    with pytest.raises(DataError, match="other values for seed"):
        run_small(folder, checkpoint, resume=True, **{**changes, "seed": 100}, bad_rows="skip")


def test_rows_that_were_left_out_before_a_resume_still_count(tmp_path, checkpoint):
    (tmp_path / "cut.png").write_bytes(b"\x89PNG")
    picture(0).save(tmp_path / "good.png")
    rows = [{"prompt": "q", "completion": "a", "images": [name]} for name in ("good.png", "cut.png")]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = {"data": f"{{own: {{source: own, path: {tmp_path / 'd.jsonl'}}}}}", "bad_rows": "skip",
               "training.save_strategy": "steps", "training.save_steps": 1}  # fmt: skip
    folder = tmp_path / "run"
    run_small(folder, checkpoint, **changes)
    (folder / "training.json").unlink()
    shutil.rmtree(folder / "checkpoints" / "checkpoint-2")
    run_small(folder, checkpoint, resume=True, **changes)
    assert [line["skipped"] for line in log_of(folder)] == [1, 2]


def test_an_adapter_notes_where_its_base_lies_not_how_it_was_called(tmp_path, checkpoint, monkeypatch):
    """From another folder the base was not found, or another one of that name was taken."""
    monkeypatch.chdir(Path(checkpoint).parent)
    assert load(recipe("lora", tmp_path / "run"), Path(checkpoint).name).network.name_or_path == checkpoint


def test_several_gpus_are_not_dealt_to_by_one_process(tmp_path, monkeypatch):
    """TRL ended with a traceback about nn.DataParallel."""
    monkeypatch.setattr(SFTConfig, "n_gpu", property(lambda self: 4))
    assert training_arguments(recipe("joint_tuning", tmp_path / "run"))._n_gpu == 1


@pytest.mark.parametrize(("modules", "unused"), [("null", False), ("'.*fuse'", True)])
def test_an_adapter_in_a_part_that_not_every_step_uses_is_told_to_ddp(modules, unused, tmp_path):
    given = recipe("lora", tmp_path / "run", **{"adapter.target_modules": modules})
    assert training_arguments(given).ddp_find_unused_parameters is unused


def test_texts_need_not_be_cut(tmp_path):
    given = recipe("joint_tuning", tmp_path / "run", **{"training.max_length": "null"})
    assert training_arguments(given).max_length is None


def test_rows_that_make_no_whole_batch_are_told(tmp_path, checkpoint):
    changes = {"training.per_device_train_batch_size": 16, "training.max_steps": -1}
    with pytest.raises(DataError, match=r"rows make no whole batch of 16; .*dataloader_drop_last=false"):
        run_small(tmp_path / "run", checkpoint, **changes, **{"training.dataloader_drop_last": "true"})


def test_two_runs_do_not_write_one_folder(tmp_path, monkeypatch):
    """The second one replaced the first one's log and checkpoints."""
    monkeypatch.setattr("unirs.trainers.run_folder.PATIENCE", 0.2)
    folder = RunFolder(recipe("joint_tuning", tmp_path / "run"))
    with folder.held(True), pytest.raises(DataError, match="another run is writing there"), folder.held(True):
        pass
    with folder.held(False), folder.held(True):  # of several processes the first one's
        pass


def test_a_run_is_not_resumed_with_values_exchanged_between_two_data_sets(tmp_path):
    """The lines of both recipes were compared as sets."""
    two = "{{a: {{source: generated, kind: single, count: 4, size: 32, repeat: {}}}, b: {{source: generated, "
    two += "kind: pair, count: 4, size: 32, repeat: {}}}}}"
    first = RunFolder(recipe("joint_tuning", tmp_path / "run", data=two.format(1, 2)))
    first.path.mkdir()
    first.prepare(False, {})
    first.log.write_text('{"step": 1}\n')
    RunFolder(recipe("joint_tuning", tmp_path / "run", data=two.format(1, 2))).prepare(True, {})
    with pytest.raises(DataError, match="the run to resume has"):
        RunFolder(recipe("joint_tuning", tmp_path / "run", data=two.format(2, 1))).prepare(True, {})


def test_an_output_that_is_a_file_is_told(tmp_path, checkpoint):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(DataError, match="run: is a file; give a folder"):
        run_small(tmp_path / "run", checkpoint)
