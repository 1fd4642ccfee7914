"""What the README tells a newcomer to type works."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rasters import scene, write
from tests.tiny import picture

README = (Path(__file__).parents[1] / "README.md").read_text()
PICTURES = ("2019.png", "2020.png", "2021.png")


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with the files that the README speaks of: what `make demo` leaves, and dated pictures."""
    for seed, name in enumerate(PICTURES):
        picture(seed, 40, 40).save(tmp_path / name)
    for seed, name in enumerate(("before.tif", "after.tif")):
        write(tmp_path / name, scene(seed))
    rows = [{"prompt": "What?", "completion": "a house", "images": list(PICTURES[:count])} for count in (1, 2)]
    for name in ("train.jsonl", "test.jsonl"):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    run_unirs("unirs demo --max-new-tokens 1", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# hours otherwise; and test_publish.py has the check of what is published
SHORTER = {"reproduce": " --scenes 50 --test 10 --seeds 1 --epochs 0.1", "publish": " --no-check"}


def run_unirs(command, folder):
    done = subprocess.run([sys.executable, "-m", *shlex.split(command)], capture_output=True, text=True, cwd=folder)
    assert (done.returncode, bool(done.stdout.strip())) == (0, True), done.stderr


def test_python_blocks_run_in_order(workplace, capsys):
    run_unirs("unirs publish unirs-tiny unirs --no-check", workplace)
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 4
    names: dict = {}
    for block in blocks:
        exec(block, names)  # our own README
    assert len(capsys.readouterr().out.splitlines()) == 5  # one line for each print


def test_commands_run(workplace):
    commands = re.findall(r"^unirs .*$", README, re.MULTILINE)
    names = "ask change video ask map publish data train evaluate reproduce predict"
    assert [command.split()[1] for command in commands] == names.split()
    for command in commands:
        run_unirs(command + SHORTER.get(command.split()[1], ""), workplace)
    assert "Clues help" in (workplace / "runs/reproduce/claims.md").read_text()
    assert (workplace / "change.png").stat().st_size > 0
    run_unirs("unirs ask 2019.png What? --model runs/own --max-new-tokens 1", workplace)


def test_linked_files_and_the_files_of_the_tree_are_there():
    root = Path(__file__).parents[1]
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert [link for link in links if not (root / link).exists()] == []
    named = re.findall(r"^  (\w+\.py)", README, re.MULTILINE)
    assert len(named) > 15
    assert set(named) <= {path.name for path in root.glob("*/*.py")}
    folders = ("modeling_unirs", "processing", "hub")
    assert {path.name for folder in folders for path in (root / folder).glob("*.py")} - set(named) == {"__init__.py"}
