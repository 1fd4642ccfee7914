"""The paper's claims in the small: statistics against closed forms, arms that differ in one thing, resumption."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest
import torch
from unirs.evaluation.change_captions import change_caption_scores
from unirs.evaluation.claims import STUDENT, claim_verdict, interval, judge, scene_scores, score, table, verdict
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


def earned(full: float, without: float, scenes: int = 20) -> dict[str, dict[str, np.ndarray]]:
    measures = ("vqa", "cider_d", "change_only_cider_d", "change_flag", "clip")

    def points(value: float) -> np.ndarray:
        return np.stack([np.full(scenes, value), np.ones(scenes)], axis=1)

    return {arm.name: dict.fromkeys(measures, points(full if arm is claims.FULL else without)) for arm in claims.ARMS}


def test_differences_are_paired_by_seed():
    """Seeds that differ much from each other, but always by the same step between arms, decide."""
    rows = judge({seed: earned(50 + 10 * seed, 48 + 10 * seed) for seed in range(5)})
    assert {row["verdict"] for row in rows} == {"yes"}
    assert {row["difference"] for row in rows} == {2.0}
    text = table(rows)
    assert text.count("+2.0") == 3 * len(rows)
    assert all(f"table {number};" in text for number in ("VIII", "IX", "X"))
    assert "Verdict: yes: it helps by 4 of 4 measures" in text


def test_a_mean_gain_within_the_noise_of_seeds_is_not_decided():
    rows = judge({seed: earned(50 + gain, 50) for seed, gain in enumerate((3, -2, 4, -3, 1))})
    assert {row["verdict"] for row in rows} == {"not decided"}


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


def test_an_arm_of_one_task_sees_each_of_its_scenes_as_often_as_the_joint_one():
    from unirs.evaluation.reproduce import Plan

    plan = Plan(single=100, pair=100, video=50, batch=25, epochs=2)
    assert plan.steps(claims.TASKS, 2) == 20 == sum(plan.steps((task,), 2) for task in claims.TASKS)


def test_the_base_is_asked_as_prompt_augmentation_asks_it(split):
    """Two plain pictures, no task tag, the prompts of the paper's table II, and no clue."""
    talk = split.question("pair", 0)
    assert talk.template == {"change_extraction": False, "task_tag": False}
    assert [message["role"] for message in talk.messages] == ["user"]
    assert items(talk, "clue") == []


SMALL = {"single": 4, "pair": 4, "video": 2, "test": 3, "seeds": 1, "base_epochs": 1, "epochs": 1, "batch": 4}


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """A run of one seed, as small as can be, with the embedded checkpoint."""
    from unirs.evaluation.reproduce import Plan, reproduce

    from unirs.model_source import find_model

    folder = tmp_path_factory.mktemp("reproduce") / "run"
    reproduce(folder, Plan(**SMALL), find_model(None), lambda line: None)
    return folder


def test_a_killed_run_goes_on_with_the_arm_it_was_at(whole_run, tmp_path, monkeypatch):
    from unirs.evaluation.reproduce import Plan, reproduce

    from unirs.model_source import find_model

    expected = json.loads((whole_run / "claims.json").read_text())
    folder = shutil.copytree(whole_run, tmp_path / "run")
    (folder / "claims.json").unlink()
    (folder / "seed-0" / "no-clues.json").unlink()
    trained = []
    train = claims.train_arm
    monkeypatch.setattr(claims, "train_arm", lambda *given: trained.append(given[3].name) or train(*given))
    result = reproduce(folder, Plan(**SMALL), find_model(None), lambda line: None)
    assert trained == ["no clues"]
    assert result["claims"] == expected["claims"]


def test_a_folder_of_another_plan_or_checkpoint_is_refused(whole_run, tmp_path):
    from unirs.evaluation.reproduce import Plan, PlanError, reproduce

    from unirs.model_source import find_model

    with pytest.raises(PlanError, match=r"epochs=1, not 3.0"):
        reproduce(whole_run, Plan(**SMALL | {"epochs": 3.0}), find_model(None), print)
    other = shutil.copytree(find_model(None), tmp_path / "other")
    config = json.loads((other / "generation_config.json").read_text())
    (other / "generation_config.json").write_text(json.dumps(config | {"max_new_tokens": 5}))
    with pytest.raises(PlanError, match=r"checkpoint="):
        reproduce(whole_run, Plan(**SMALL), str(other), print)


def test_every_arm_warms_up_for_the_same_share_of_its_training():
    from unirs.evaluation.reproduce import Plan

    assert [Plan().warmup(steps) for steps in (600, 240, 120)] == [30, 12, 6]
