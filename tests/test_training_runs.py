"""Whole runs of `unirs train`, each in processes of its own: killed and resumed, and on several processes."""

import signal
import subprocess
import time

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

import unirs  # noqa: F401 - registers UniRS
from tests.training import FEW, ROOT, finish, launch, losses, settings

OUT = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}


def test_a_killed_run_resumes_with_the_same_data_and_losses(tmp_path):
    """With dropout, over an epoch's end, killed between two checkpoints: as if nothing had happened."""
    values = {**FEW, "training.num_train_epochs": 2, "training.save_strategy": "steps", "training.save_steps": 5,
              "training.learning_rate": 1e-2, "adapter.lora_dropout": 0.3}  # fmt: skip

    def start(name, *more):
        return launch(["train", "lora", *settings({**values, "output": tmp_path / name}), *more], **OUT)

    whole = finish(start("whole"))
    assert "step 12/12" in whole
    killed = start("killed")
    while not (tmp_path / "killed/checkpoints/checkpoint-5").is_dir() or 8 not in losses(tmp_path / "killed"):
        assert killed.poll() is None, killed.communicate()[0]
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    # what a kill in the middle of saving leaves
    (tmp_path / "killed/checkpoints/checkpoint-9").mkdir()
    (tmp_path / "killed/checkpoints/checkpoint-9/trainer_state.json").write_text('{"epoch":')
    out = finish(start("killed", "--resume"))
    assert f"resuming from {tmp_path}/killed/checkpoints/checkpoint-5" in out
    expected, found = losses(tmp_path / "whole"), losses(tmp_path / "killed")
    assert len(set(expected.values())) == 12  # the losses do tell the steps apart
    assert found == pytest.approx(expected, abs=1e-5)
    weights = [load_file(tmp_path / name / "adapter_model.safetensors") for name in ("whole", "killed")]
    torch.testing.assert_close(weights[1], weights[0])


@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_two_processes_train_as_one(kind, tmp_path):
    values = {**FEW, "training.max_steps": 3, "training.learning_rate": 1e-3}
    script = ROOT / "tests" / "fsdp2_on_cpu.py" if kind == "fsdp2" else None
    arguments = settings({**values, "output": tmp_path / "two", "training.per_device_train_batch_size": 2})
    finish(launch(["train", "joint_tuning", *arguments], 2, script, **OUT))
    finish(launch(["train", "joint_tuning", *settings({**values, "output": tmp_path / "one"})], **OUT))
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == 3
    assert two == pytest.approx(one, abs=1e-4)
    networks = []
    for name in ("one", "two"):  # loads in one process, whole, with its code beside it
        network, info = AutoModelForImageTextToText.from_pretrained(tmp_path / name, output_loading_info=True)
        assert not info["missing_keys"]
        assert not info["unexpected_keys"]
        assert (tmp_path / name / "modeling_unirs.py").is_file()
        networks.append(network.state_dict())
    difference = max(float((networks[0][key] - value).abs().max()) for key, value in networks[1].items())
    assert difference < 2e-3  # bfloat16 on disk: one step of a weight near 0.25
