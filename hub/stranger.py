"""The check that a stranger's machine would make: the folder alone, transformers, no `unirs`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

import torch
from safetensors.torch import load_file

from .weight_files import WeightError

SCRIPT = Path(__file__).with_name("stranger_reads.py")
SAME = 1e-5  # of the norm; copies are equal to the last bit on most machines
MERGED = 2e-2  # bfloat16 rounds every merged matrix once more


def check(folder: Path, original: Path, processor: Path | None = None, merged: bool = False) -> float:
    """Loads `folder` without the package by every Auto class and pipeline, and `original` with it, and compares.

    Args:
        processor: Of the original, where that has none of its own.
        merged: The original is an adapter and `folder` holds the sum.

    Returns:
        The largest relative difference of the logits.

    Raises:
        WeightError: The folder does not load there, or gives other logits or answers.
    """
    with tempfile.TemporaryDirectory() as work:
        ours, theirs = Path(work) / "ours", Path(work) / "theirs"
        stranger = stranger_python(Path(work) / "venv")
        own = str((processor or original).absolute())
        _read([sys.executable, str(SCRIPT), str(original.absolute()), str(ours), own], work, os.environ)
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment["HF_MODULES_CACHE"] = str(Path(work) / "modules")  # no code that was there before
        _read([str(stranger), str(SCRIPT), str(folder.absolute()), str(theirs)], work, environment)
        expected, found = (load_file(out / "tensors.safetensors") for out in (ours, theirs))
        answers, answered = (json.loads((out / "answers.json").read_text()) for out in (ours, theirs))
    difference = largest_difference(expected, found)
    if not difference <= (MERGED if merged else SAME):  # NaN is no agreement
        raise WeightError(f"without the package the logits differ by {difference:.2g} of their size; nothing was made")
    if not merged and answers != answered:
        other = sorted(name for name in answers if answers[name] != answered.get(name))
        raise WeightError(f"without the package {', '.join(other)} answers otherwise; nothing was made")
    return difference


def largest_difference(expected: dict[str, torch.Tensor], found: dict[str, torch.Tensor]) -> float:
    """Of tensors with the same name, relative to their size; NaN where one holds NaN."""
    common = expected.keys() & found.keys()
    away = [(expected[name] - found[name]).norm() / expected[name].norm() for name in common]
    return float(torch.stack(away).max())


def stranger_python(folder: Path) -> Path:
    """A virtual environment with all that this one has installed but UniRS; its packages are links."""
    venv.create(folder, symlinks=os.name != "nt")
    scheme = {"base": str(folder), "platbase": str(folder), "installed_base": str(folder)}
    packages = Path(sysconfig.get_path("purelib", "venv", scheme))
    linked: set[str] = set()
    for place in map(Path, sys.path):  # what comes first wins, its metadata too
        if not place.is_dir() or not any(place.glob("*.dist-info")):
            continue  # the standard library, or somebody's working folder
        for entry in place.iterdir():
            is_metadata = entry.suffix == ".dist-info"
            name = entry.name.partition("-")[0].lower() + entry.suffix if is_metadata else entry.name
            ours = name.startswith(("unirs", "__editable__"))
            if not ours and entry.suffix != ".pth" and name not in linked:
                (packages / entry.name).symlink_to(entry.absolute())
                linked.add(name)
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _read(command: list[str], work: str, environment) -> None:
    Path(command[3]).mkdir()
    settings = {**environment, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    done = subprocess.run(
        command, cwd=work, env=settings, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise WeightError(
            f"{command[2]} does not load {'with' if len(command) > 4 else 'without'} the package: {lines[-1]}"
        )
