"""The paper's claims in the small: statistics against closed forms, arms that differ in one thing, resumption."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from unirs.evaluation.change_captions import change_caption_scores
from unirs.evaluation.claims import (
    STUDENT,
    claim_verdict,
    commonest,
    interval,
    judge,
    scene_scores,
    score,
    table,
    verdict,
)
from unirs.trainers import claims


def below(point: float, freedom: int) -> float:
    """Student's distribution function at `point` > 0, by adding up its density."""
    x = np.linspace(0, point, 200_001)
    scale = math.gamma((freedom + 1) / 2) / (math.sqrt(freedom * math.pi) * math.gamma(freedom / 2))
    return 0.5 + float(np.trapezoid(scale * (1 + x**2 / freedom) ** (-(freedom + 1) / 2), x))


def test_points_of_students_t_leave_the_outer_twentieth():
    for freedom, point in enumerate(STUDENT, 1):
        assert below(point, freedom) == pytest.approx(0.975, abs=5e-5)


def same_on_every_scene(by_seed: list[float], scenes: int = 50) -> np.ndarray:
    return np.repeat(np.array(by_seed)[:, None], scenes, axis=1)


def test_interval_over_seeds_by_hand():
    """Mean 2, deviation 1, three seeds, the same on every scene: 2 +- 4.303 / sqrt(3)."""
    found = interval(same_on_every_scene([1.0, 2.0, 3.0]), np.ones(50))
    assert found == pytest.approx((2 - 2.4843, 2 + 2.4843), abs=1e-3)


def test_seeds_that_agree_are_still_unsure_of_other_scenes():
    """Two seeds that earn the same: what is left is 1.96 standard errors over the scenes."""
    earned = np.random.default_rng(0).normal(3, 10, 400)
    low, high = interval(np.stack([earned, earned]), np.ones(400))
    half = 1.96 * earned.std(ddof=1) / 20
    assert (low, high) == pytest.approx((earned.mean() - half, earned.mean() + half), rel=1e-3)


def test_scenes_with_several_questions_count_as_one_draw():
    """Five questions that are always right or wrong together tell no more than one."""
    earned = np.random.default_rng(1).choice([-1.0, 1.0], 300)
    together = interval(np.stack([5 * earned] * 2), np.full(300, 5.0))
    assert together == pytest.approx(interval(np.stack([earned] * 2), np.ones(300)))


def test_one_seed_decides_nothing():
    assert interval(np.ones((1, 40)), np.ones(40)) == (-math.inf, math.inf)
    assert verdict(-math.inf, math.inf) == "not decided"


@pytest.mark.parametrize(
    ("low", "high", "says"), [(0.1, 2, "yes"), (-2, -0.1, "no, it hurts"), (-1, 1, "not decided")]
)
def test_verdict_follows_the_interval(low, high, says):
    assert verdict(low, high) == says


BASELINE = dict.fromkeys(("vqa", "cider_d", "change_only_cider_d", "change_flag", "clip"), 45.0)


def earned(full: float, without: float, scenes: int = 20) -> dict[str, dict[str, np.ndarray]]:
    measures = ("vqa", "cider_d", "change_only_cider_d", "change_flag", "clip")

    def points(value: float) -> np.ndarray:
        return np.stack([np.full(scenes, value), np.ones(scenes)], axis=1)

    return {arm.name: dict.fromkeys(measures, points(full if arm is claims.FULL else without)) for arm in claims.ARMS}


def test_differences_are_paired_by_seed():
    """Seeds that differ much from each other, but always by the same step between arms, decide."""
    rows = judge({seed: earned(50 + 10 * seed, 48 + 10 * seed) for seed in range(5)}, BASELINE)
    assert {row["verdict"] for row in rows} == {"yes"}
    assert {row["difference"] for row in rows} == {2.0}
    text = table(rows)
    assert text.count("+2.0") == 3 * len(rows)
    assert all(f"table {number};" in text for number in ("VIII", "IX", "X"))
    assert "Verdict: yes: it helps by 4 of 4 measures" in text


def test_a_mean_gain_within_the_noise_of_seeds_is_not_decided():
    rows = judge({seed: earned(50 + gain, 50) for seed, gain in enumerate((3, -2, 4, -3, 1))}, BASELINE)
    assert {row["verdict"] for row in rows} == {"not decided"}


def test_arms_that_say_nothing_are_no_result():
    """A run that was too short earned 0 everywhere, and its table looked like a finding."""
    text = table(judge({seed: earned(0, 0) for seed in range(3)}, BASELINE))
    assert text.startswith("**Nothing was learned")
    assert text.count("| 45.0 | 0.0 |") == text.count("neither beats the commonest answer") == 15
    assert "neither beats" not in table(judge({seed: earned(50, 0) for seed in range(3)}, BASELINE))


def test_one_seed_is_written_as_json_and_told():
    rows = judge({0: earned(50, 40)}, BASELINE)
    assert all(row["interval_95"] is None for row in json.loads(json.dumps(rows, allow_nan=False)))
    assert table(rows).count("| one seed: no interval | not decided |") == len(rows)


def test_what_the_commonest_answers_earn_by_hand():
    """By kind of question "no" (2 of 3) and "two" (1 of 1); for pairs "same", of 2 of 3; for clips Fire, of 2 of 3."""
    single = [("presence", "no"), ("presence", "no"), ("presence", "yes"), ("count", "two")]
    pairs = [(["same"] * 3, False), (["same"] * 3, False), (["a road", "road built", "a road"], True)]
    answers = {
        "single": [
            {"kind": kind, "references": [right], "said": "", "row": row} for row, (kind, right) in enumerate(single)
        ],
        "pair": [
            {"kind": "change_caption", "references": right, "changed": changed, "said": "", "row": row}
            for row, (right, changed) in enumerate(pairs)
        ],
        "video": [
            {"kind": "clip_class", "references": [right], "said": "", "row": row}
            for row, right in enumerate(("Fire", "Flood", "Fire"))
        ],
    }
    found = commonest(answers)
    assert (found["vqa"], found["clip"]) == (75, pytest.approx(200 / 3))
    always = {
        said: scene_scores({"pair": [{**one, "said": said} for one in answers["pair"]]}) for said in ("same", "a road")
    }
    assert found["cider_d"] == score(always["same"]["cider_d"])
    assert found["change_only_cider_d"] == score(always["a road"]["change_only_cider_d"])


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (("yes", "not decided"), "yes: it helps by 1 of 2 measures, hurts by 0, 1 not decided"),
        (("yes", "no, it hurts"), "mixed: it helps by 1 of 2 measures, hurts by 1, 0 not decided"),
        (("no, it hurts",), "no: it helps by 0 of 1 measures, hurts by 1, 0 not decided"),
        (("not decided",) * 3, "not decided by any of 3 measures"),
    ],
)
def test_a_claim_is_judged_by_all_its_measures(said, says):
    assert claim_verdict([{"verdict": one} for one in said]) == says


def test_scores_by_hand():
    answers = {
        "single": [
            {"said": "Yes.", "references": ["yes"], "row": 0},
            {"said": "no", "references": ["yes"], "row": 0},
            {"said": "no", "references": ["no"], "row": 1},
        ],
        "video": [
            {"said": "car racing", "references": ["Car racing"], "row": 0},
            {"said": "Fire", "references": ["Flood"], "row": 1},
        ],
    }
    found = scene_scores(answers)
    assert found["vqa"].tolist() == [[100, 2], [100, 1]]
    assert (score(found["vqa"]), score(found["clip"])) == (pytest.approx(200 / 3), 50)


def test_captions_score_as_evaluate_scores_them():
    said = ["a road is built", "the scene is the same as before", "two houses appear", "a pond"]
    truths = [
        (["a road is built", "a new road appears"] * 2 + ["a road"], True),
        (["no change has occurred", "the scene is the same as before"] * 2 + ["no change"], False),
        (["two houses are built", "two houses appear on the bareland"] * 2 + ["houses"], True),
        (["nothing has changed"] * 5, False),
    ]
    pairs = [
        {"said": one, "references": references, "changed": changed, "row": row}
        for row, (one, (references, changed)) in enumerate(zip(said, truths, strict=True))
    ]
    found = scene_scores({"pair": pairs})
    kinds = ["change" if changed else "no_change" for _, changed in truths]
    expected = change_caption_scores(said, [references for references, _ in truths], kinds, with_meteor=False)
    assert score(found["cider_d"]) == pytest.approx(expected["cider_d"])
    assert score(found["change_only_cider_d"]) == pytest.approx(expected["change_only"]["cider_d"])
    assert score(found["change_flag"]) == pytest.approx(100 * expected["change_flag_accuracy"])
    assert found["change_only_cider_d"][:, 1].tolist() == [1, 0, 1, 0]


# -- arms ------------------------------------------------------------------------------------------------------------
@pytest.fixture
def split() -> claims.Split:
    words = {
        "single": [{"clue": "a wood", "label": "forest", "questions": [
            {"question": "Is there water?", "answer": "no", "kind": "presence", "references": ["no"]}]}],
        "pair": [{"clue": "a house", "label": "road", "questions": [
            {"question": "Changes?", "answer": "a road", "kind": "change_caption", "references": ["a road"] * 5}]}],
        "video": [{"clue": "smoke", "label": "fire", "questions": [
            {"question": "Class?", "answer": "fire", "kind": "clip_class", "references": ["fire"]}]}],
    }  # fmt: skip
    features = {
        task: torch.zeros(1, pictures, 1, 4, 8) for task, pictures in (("single", 1), ("pair", 2), ("video", 4))
    }
    return claims.Split(words, features, {task: [f"clue of {task}"] for task in words})


def items(talk, kind: str) -> list[dict]:
    return [item for item in talk.messages[0]["content"] if item["type"] == kind]


def test_arms_differ_in_one_thing_from_the_full_one(split):
    turns = [("What changed?", "a road")]
    talks = {arm.name: split.talk("pair", 0, turns, arm) for arm in claims.ARMS}
    assert talks["full"].pixels == "pixel_values_pairs"
    assert talks["two plain pictures"].pixels == "pixel_values"
    assert talks["two plain pictures"].template == {"change_extraction": False}
    assert items(talks["full"], "clue") == [{"type": "clue", "text": "clue of pair"}]
    assert items(talks["no clues"], "clue") == []
    assert talks["no clues"].pixels == "pixel_values_pairs"
    assert {arm.tasks for arm in claims.ARMS if arm.name.startswith("only")} == {("single",), ("pair",), ("video",)}


def test_an_arm_of_one_task_sees_each_scene_as_often_as_the_joint_one_or_takes_as_many_steps():
    from unirs.evaluation.reproduce import Plan

    plan = Plan(single=100, pair=100, video=50, batch=25, epochs=2)
    steps = {arm.name: plan.steps(arm.paced_by, 2) for arm in claims.ARMS}
    assert steps["full"] == 20 == sum(steps[f"only {task}"] for task in claims.TASKS)
    assert {steps[f"only {task} longer"] for task in claims.TASKS} == {20}


def test_every_accepted_answer_is_learned_and_counts(split):
    split.words["single"][0]["questions"][0]["references"] = ["no", "none"]
    assert claims.asked("single", split.words["single"][0]) == [("Is there water?", ["no", "none"])]
    said = [{"said": "None.", "references": ["no", "none"], "row": 0}]
    assert score(scene_scores({"single": said})["vqa"]) == 100


def test_the_base_is_asked_as_prompt_augmentation_asks_it(split):
    """Two plain pictures, no task tag, the prompts of the paper's table II, and no clue."""
    talk = split.question("pair", 0)
    assert talk.template == {"change_extraction": False, "task_tag": False}
    assert [message["role"] for message in talk.messages] == ["user"]
    assert items(talk, "clue") == []


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


def test_room_is_looked_for_before_anything_is_written(tmp_path, monkeypatch):
    """100,000 scenes: a million pictures of 62 kB and of 55 kB of features."""
    from unirs.evaluation.reproduce import Plan, PlanError

    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100e9))
    with pytest.raises(PlanError, match=r"still writes about 12\d\.\d GB, and 100\.0 GB are free; give fewer"):
        run(tmp_path, single=100_000, pair=100_000, video=50_000, test=300)
    assert list(tmp_path.iterdir()) == []
    assert Plan().bytes() == pytest.approx(1.47e9, rel=0.1)  # of the run in docs/ablations.md, by `du`


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
    assert (process.returncode, err[-1]) == (130, "unirs: stopped; the same command goes on")
    assert [line for line in err[:-1] if not line.startswith(("9 trainings", "base split", "the tower"))] == []


@pytest.mark.parametrize("folder", ["/sys/unirs", "file/run"])
def test_an_output_that_cannot_be_made_is_told_before_anything_is_loaded(unirs, tmp_path, monkeypatch, folder):
    (tmp_path / "file").write_text("")
    monkeypatch.setitem(sys.modules, "unirs.evaluation.reproduce", None)  # importing it would fail
    code, out, err = unirs("reproduce", "--output", folder)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith(f"unirs: --output {folder}: cannot be made (")


def test_every_arm_warms_up_for_the_same_share_of_its_training():
    from unirs.evaluation.reproduce import Plan

    assert [Plan().warmup(steps) for steps in (600, 240, 120)] == [30, 12, 6]


def test_the_base_warms_up_as_in_the_committed_run_and_small_ones_for_the_same_share():
    from unirs.evaluation.reproduce import Plan

    plan = Plan()
    assert plan.base_warmup(plan.steps(claims.TASKS, plan.base_epochs)) == 50
    assert plan.base_warmup(15) < 15
