"""The paper's claims in the small: statistics against closed forms, arms that differ in one thing, resumption."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from unirs.evaluation.claims import STUDENT, arm_scores, interval, judge, table, verdict
from unirs.trainers import claims


def below(point: float, freedom: int) -> float:
    """Student's distribution function at `point` > 0, by adding up its density."""
    x = np.linspace(0, point, 200_001)
    scale = math.gamma((freedom + 1) / 2) / (math.sqrt(freedom * math.pi) * math.gamma(freedom / 2))
    return 0.5 + float(np.trapezoid(scale * (1 + x**2 / freedom) ** (-(freedom + 1) / 2), x))


def test_points_of_students_t_leave_the_outer_twentieth():
    for freedom, point in enumerate(STUDENT, 1):
        assert below(point, freedom) == pytest.approx(0.975, abs=5e-5)


def test_interval_by_hand():
    """Mean 2, deviation 1, three seeds: 2 +- 4.303 / sqrt(3)."""
    assert interval([1.0, 2.0, 3.0]) == pytest.approx((2 - 2.4843, 2 + 2.4843), abs=1e-3)


def test_one_seed_decides_nothing():
    assert verdict(*interval([7.0])) == "not decided"


@pytest.mark.parametrize(
    ("low", "high", "says"), [(0.1, 2, "yes"), (-2, -0.1, "no, it hurts"), (-1, 1, "not decided")]
)
def test_verdict_follows_the_interval(low, high, says):
    assert verdict(low, high) == says


def made_scores(full: float, without: float) -> dict[str, dict[str, float]]:
    measures = ("vqa", "cider_d", "change_only_cider_d", "change_flag", "clip")
    return {arm.name: dict.fromkeys(measures, full if arm is claims.FULL else without) for arm in claims.ARMS}


def test_differences_are_paired_by_seed():
    """Seeds that differ much from each other, but always by the same step between arms, decide."""
    rows = judge({seed: made_scores(50 + 10 * seed, 48 + 10 * seed) for seed in range(5)})
    assert {row["verdict"] for row in rows} == {"yes"}
    assert {row["difference"] for row in rows} == {2.0}
    text = table(rows)
    assert text.count("+2.0") == 3 * len(rows)
    assert all(f"table {number};" in text for number in ("VIII", "IX", "X"))


def test_a_mean_gain_within_the_noise_of_seeds_is_not_decided():
    scores = {seed: made_scores(50 + gain, 50) for seed, gain in enumerate((3, -2, 4, -3, 1))}
    assert {row["verdict"] for row in judge(scores)} == {"not decided"}


def test_arm_scores_by_hand():
    answers = {
        "single": [{"said": "Yes.", "references": ["yes"]}, {"said": "no", "references": ["yes"]}],
        "video": [{"said": "car racing", "references": ["Car racing"]}, {"said": "Fire", "references": ["Flood"]}],
        "pair": [
            {"said": "a road is built", "references": ["a road is built"] * 5, "changed": True},
            {"said": "a house is built", "references": ["no change has occurred"] * 5, "changed": False},
        ],
    }
    scores = arm_scores(answers)
    assert (scores["vqa"], scores["clip"], scores["change_flag"]) == (50, 50, 50)
    assert scores["cider_d"] > 0


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


def test_a_folder_of_another_plan_is_refused(tmp_path):
    from unirs.evaluation.reproduce import Plan, PlanError, reproduce

    (tmp_path / "plan.json").write_text(json.dumps({**Plan().__dict__, "epochs": 3.0}))
    with pytest.raises(PlanError, match=r"epochs=3.0, not 2.0"):
        reproduce(tmp_path, Plan(), "no model", print)


def test_unknown_interval_is_infinite():
    assert interval([1.0]) == (-math.inf, math.inf)
