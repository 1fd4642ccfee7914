"""Small runs of `unirs train` for tests: the embedded checkpoint on a few generated scenes."""

import json
import os
import subprocess
import sys
from pathlib import Path

from unirs.trainers.recipe import JointTuning, load_recipe

ROOT = Path(__file__).parents[1]
FEW = {
    "data.single": "{source: generated, kind: single, count: 10, size: 72, repeat: 1}",
    "data.pair": "{source: generated, kind: pair, count: 2, size: 72, repeat: 5}",
    "data.video": "{source: generated, kind: video, count: 2, size: 72, frames: 2, repeat: 2}",
    "training.per_device_train_batch_size": 4,
    "training.gradient_accumulation_steps": 1,
    "training.dataloader_num_workers": 0,
    "training.bf16": "false",
    "training.save_strategy": "no",
}


def settings(values):
    return [part for key, value in values.items() for part in ("--set", f"{key}={value}")]


def launch(arguments, processes=1, script=None, **kwargs):
    """Starts `unirs ARGUMENTS`, by torchrun if there are several processes."""
    target = [str(script)] if script else ["-m", "unirs.cli"]
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--standalone"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*start, *target, *arguments], cwd=ROOT, env=environment, text=True, **kwargs)


def finish(process, seconds=300):
    out, _ = process.communicate(timeout=seconds)
    assert process.returncode == 0, out
    return out


def losses(folder):
    lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def recipe(name, output, **changes) -> JointTuning:
    """One of the package's recipes of stage 2, for a few steps on generated samples."""
    values = {**FEW, "training.max_steps": 2, "training.learning_rate": 1e-3, "output": output, **changes}
    found = load_recipe(name, [f"{key}={value}" for key, value in values.items()])
    assert isinstance(found, JointTuning)
    return found


def log_of(folder) -> list[dict]:
    """The lines of a run's log that tell of a step."""
    return [line for line in map(json.loads, (folder / "log.jsonl").read_text().splitlines()) if "loss" in line]
