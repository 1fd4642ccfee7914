"""The arms by which claims are tested: each differs from the full one in one thing."""

from __future__ import annotations

import pytest
import torch
from unirs.evaluation.claims import scene_scores, score
from unirs.trainers import claims


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


def test_without_clues_every_comparison_but_theirs_is_made_and_no_arm_has_one(split):
    arms = claims.arms(clues=False)
    assert [arm.name for arm in arms] == [arm.name for arm in claims.arms(clues=True) if arm.name != "no clues"]
    for arm in arms:
        for task in arm.tasks:
            assert items(split.talk(task, 0, [("What?", "a road")], arm), "clue") == []
    for arm, full in zip(arms, claims.arms(clues=True), strict=False):
        assert (arm.tasks, arm.change_extraction, arm.longer) == (full.tasks, full.change_extraction, full.longer)


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


def test_every_arm_warms_up_for_the_same_share_of_its_training():
    from unirs.evaluation.reproduce import Plan

    assert [Plan().warmup(steps) for steps in (600, 240, 120)] == [30, 12, 6]


def test_the_base_warms_up_as_in_the_committed_run_and_small_ones_for_the_same_share():
    from unirs.evaluation.reproduce import Plan

    plan = Plan()
    assert (plan.base_steps(), plan.base_warmup(plan.base_steps())) == (1875, 156)
    assert plan.base_warmup(15) < 15
