"""`unirs reproduce`: stopped runs go on, damaged folders are told, other people's are left alone."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from unirs.trainers import claims

SMALL = {"single": 4, "pair": 4, "video": 2, "test": 3, "seeds": 1, "base_epochs": 1, "epochs": 1, "batch": 4}

GIVEN = ("--scenes", "50", "--test", "10", "--seeds", "1", "--epochs", "0.1")


def run(folder: Path, **sizes) -> tuple[dict, list[str]]:
    from unirs.evaluation.reproduce import Plan, reproduce

    from unirs.model_source import find_model

    told: list[str] = []
    return reproduce(folder, Plan(**SMALL | sizes), find_model(None), told.append), told


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """A run of one seed, as small as can be, with the embedded checkpoint; it prints nothing of its own."""
    folder = tmp_path_factory.mktemp("reproduce") / "run"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        _, told = run(folder)
    assert printed.getvalue() == ""
    assert told[0].startswith("9 trainings, together 15 steps,")
    assert [line for line in told if " of 9 trainings are left, about " in line] != []
    first, after = (next(k for k, line in enumerate(told) if part in line) for part in ("seed 0, full: ", "commonest"))
    assert after == first + 1
    return folder


@pytest.fixture
def copied(whole_run, tmp_path):
    return shutil.copytree(whole_run, tmp_path / "run")


def trained_arms(monkeypatch) -> list[str]:
    trained: list[str] = []
    train = claims.train_arm
    monkeypatch.setattr(claims, "train_arm", lambda *given: trained.append(given[3].name) or train(*given))
    return trained


def test_a_killed_run_goes_on_with_the_arm_it_was_at(whole_run, copied, monkeypatch):
    shutil.rmtree(copied / "seed-0")
    begin = (
        "import sys; from pathlib import Path; from unirs.model_source import find_model\n"
        "from unirs.evaluation.reproduce import Plan, reproduce\n"
        f"reproduce(Path(sys.argv[1]), Plan(**{SMALL}), find_model(None), print)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", begin, copied], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    while not (copied / "seed-0" / "full.json").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    kept = {path.stem.replace("-", " ") for path in (copied / "seed-0").glob("*.json")}
    trained = trained_arms(monkeypatch)
    result, _ = run(copied)
    assert trained == [arm.name for arm in claims.ARMS if arm.name not in kept]
    assert "full" not in trained
    assert "no clues" in trained
    assert result["claims"] == json.loads((whole_run / "claims.json").read_text())["claims"]


@pytest.mark.parametrize(("learnt", "better"), [(47.0, False), (47.5, False), (48.0, True)])
def test_an_arm_that_is_better_than_the_commonest_answer_at_nothing_is_told_to_be_short_of_steps(learnt, better):
    from unirs.evaluation.reproduce import beside_commonest

    measures, baseline = {"questions": learnt, "clips": 3.0}, {"questions": 47.5, "clips": 13.3, "captions": 9.0}
    answers = {"single": [{"said": "yes"}, {"said": " "}], "video": [{"said": ""}]}
    first, *warned = beside_commonest(measures, baseline, answers)
    assert first.endswith(": questions 47.5, clips 13.3")
    assert ["nothing to 2 of 3 questions" in line for line in warned] == [True] * (not better)


def test_json_is_all_that_the_command_prints(copied, unirs, monkeypatch):
    """The trainer printed dictionaries on the output, and one seed an infinite interval."""
    from unirs.evaluation import reproduce

    plan = reproduce.Plan(**SMALL)
    monkeypatch.setattr(reproduce, "Plan", lambda **_: plan)
    (copied / "seed-0" / "no-clues.json").unlink()
    trained = trained_arms(monkeypatch)
    code, out, err = unirs("reproduce", "--output", copied, *GIVEN, "--json")
    assert (code, trained) == (0, ["no clues"])
    found = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert [row["interval_95"] for row in found["claims"]] == [None] * 15
    assert "about " in err
    assert "gemm" not in err


def test_a_folder_of_another_plan_or_checkpoint_is_refused(whole_run, tmp_path):
    from unirs.evaluation.reproduce import Plan, PlanError, reproduce

    from unirs.model_source import find_model

    goes_on = r"`unirs reproduce --output \S+/run --scenes 4 --test 3 --epochs 1 --seeds 1` goes on"
    with pytest.raises(PlanError, match=rf"begun with --epochs 1, not 3.0; {goes_on}"):
        run(whole_run, epochs=3.0)
    with pytest.raises(PlanError, match=rf"begun with --scenes 4, not 60; {goes_on}"):
        run(whole_run, single=60, pair=60, video=30)
    other = shutil.copytree(find_model(None), tmp_path / "other")
    config = json.loads((other / "generation_config.json").read_text())
    (other / "generation_config.json").write_text(json.dumps(config | {"max_new_tokens": 5}))
    with pytest.raises(PlanError, match=r"begun with another checkpoint \(unirs-tiny\); give another --output"):
        reproduce(whole_run, Plan(**SMALL), str(other), print)


def test_without_clues_none_is_written_and_the_folder_stays_so(tmp_path):
    from unirs.evaluation.reproduce import PlanError

    result, told = run(tmp_path / "run", clues=False)
    assert told[0].startswith("8 trainings, together 13 steps,")
    assert not list((tmp_path / "run").glob("clues-*"))
    assert {row["table"] for row in result["claims"]} == {"VIII", "IX"}
    goes_on = "--epochs 1 --seeds 1 --no-clues` goes on"
    with pytest.raises(PlanError, match=rf"begun with --no-clues, not --clues; .* {goes_on}"):
        run(tmp_path / "run")
    with pytest.raises(PlanError, match=rf"begun with --epochs 1, not 3\.0; .* {goes_on}"):
        run(tmp_path / "run", clues=False, epochs=3.0)
    assert (tmp_path / "run" / "claims.md").read_text().startswith("Without clues: no arm of this run has any.")


def test_a_run_of_before_there_was_a_choice_of_clues_goes_on(copied):
    plan = json.loads((copied / "plan.json").read_text())
    del plan["clues"]
    (copied / "plan.json").write_text(json.dumps(plan))
    from unirs.evaluation.reproduce import PlanError

    run(copied)
    with pytest.raises(PlanError, match="begun with --clues, not --no-clues"):
        run(copied, clues=False)


def test_a_folder_that_is_no_run_is_left_alone(copied, tmp_path):
    from unirs.evaluation.reproduce import PlanError

    (copied / "plan.json").unlink()
    before = sorted(copied.rglob("*"))
    with pytest.raises(PlanError, match=r"run: is no run of reproduce; give an empty or new --output"):
        run(copied)
    assert sorted(copied.rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("seed-0/full.json", 0.5),
        ("seed-0/only-pair.json", 0.0),
        ("clues-test.json", 0.0),
        ("features-train.safetensors", 0.9),
        ("features-test.safetensors", 0.0),
        ("base.safetensors", 0.5),
        ("scenes/test/pair-*.json", 0.5),
    ],
)
def test_a_file_that_was_cut_is_told_by_name(copied, name, left):
    from unirs.evaluation.reproduce import PlanError

    (path,) = copied.glob(name)
    path.write_bytes(path.read_bytes()[: int(left * path.stat().st_size)])
    with pytest.raises(PlanError) as told:
        run(copied)
    assert str(told.value) == f"{path}: damaged; remove it and run again"


@pytest.mark.parametrize("text", ["[]", '{"single": 4', "", "{}"])
def test_a_damaged_plan_is_told(copied, text):
    from unirs.evaluation.reproduce import PlanError

    (copied / "plan.json").write_text(text)
    with pytest.raises(PlanError, match=r"plan.json: damaged; give an empty or new --output"):
        run(copied)


def test_clues_of_fewer_scenes_are_damaged(copied):
    from unirs.evaluation.reproduce import PlanError

    path = copied / "clues-train.json"
    kept = json.loads(path.read_text())
    path.write_text(json.dumps(kept | {"pair": kept["pair"][1:]}))
    with pytest.raises(PlanError, match=r"clues-train.json: damaged"):
        run(copied)


def test_scenes_that_were_removed_are_drawn_again_and_pictures_are_not_missed(whole_run, copied, monkeypatch):
    trained = trained_arms(monkeypatch)
    for path in (copied / "scenes").rglob("*.npz"):
        path.unlink()
    shutil.rmtree(copied / "scenes" / "base")
    result, _ = run(copied)
    assert trained == []
    assert result["claims"] == json.loads((whole_run / "claims.json").read_text())["claims"]
    name = "single-*.json"
    (drawn,), (before,) = ((one / "scenes" / "base").glob(name) for one in (copied, whole_run))
    assert drawn.read_bytes() == before.read_bytes()


def test_a_run_of_an_earlier_version_is_told_and_left_as_it_is(copied, monkeypatch):
    """Then the base had as many scenes as an arm, of other seeds. That no room is left is not what is wrong."""
    from unirs.evaluation.reproduce import PlanError

    plan = json.loads((copied / "plan.json").read_text())
    del plan["base"], plan["first_seeds"]
    (copied / "plan.json").write_text(json.dumps(plan))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    with pytest.raises(PlanError, match="another plan, that of another version of unirs; give another --output"):
        run(copied)
    assert json.loads((copied / "plan.json").read_text()) == plan


def test_no_scene_is_in_two_splits_however_many_are_asked_for():
    from unirs.evaluation.reproduce import FIRST_SEEDS, Plan
    from unirs.trainers.scene_tasks import HELD_OUT_SEED

    plan = Plan(single=100_000, pair=100_000, video=50_000)  # the most that the command takes
    last = {name: first + max(plan.counts(name).values()) for name, first in FIRST_SEEDS.items()}
    assert last["base"] <= FIRST_SEEDS["train"]
    assert last["train"] <= HELD_OUT_SEED < FIRST_SEEDS["test"]


def test_room_is_looked_for_before_anything_is_written(tmp_path, monkeypatch):
    """100,000 scenes: two million pictures of 62 kB and of 55 kB of features."""
    from unirs.evaluation.reproduce import Plan, PlanError

    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100e9))
    with pytest.raises(PlanError, match=r"still writes about 25\d\.\d GB, and 100\.0 GB are free; give fewer"):
        run(tmp_path, single=100_000, pair=100_000, video=50_000, test=300)
    assert list(tmp_path.iterdir()) == []
    assert Plan().bytes() == pytest.approx(2.67e9, rel=0.1)  # of the run in docs/ablations.md, by `du`


def test_ctrl_c_says_that_the_same_command_goes_on(tmp_path):
    """To the whole group, as a terminal sends it: the processes that draw must be silent."""
    command = [sys.executable, "-m", "unirs", "reproduce", "--output", "run", *GIVEN]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not (tmp_path / "run" / "scenes").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    err = process.communicate()[1].splitlines()
    assert (process.returncode, err[-1]) == (130, "unirs: stopped; run the same command again to go on")
    assert [line for line in err[:-1] if not line.startswith(("9 trainings", "base split", "the tower"))] == []


@pytest.mark.parametrize("folder", ["/sys/unirs", "file/run"])
def test_an_output_that_cannot_be_made_is_told_before_anything_is_loaded(unirs, tmp_path, monkeypatch, folder):
    (tmp_path / "file").write_text("")
    monkeypatch.setitem(sys.modules, "unirs.evaluation.reproduce", None)  # importing it would fail
    code, out, err = unirs("reproduce", "--output", folder)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith(f"unirs: --output {folder}: cannot be made (")
