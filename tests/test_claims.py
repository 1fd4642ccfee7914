"""The paper's claims in the small: intervals, verdicts and scores against closed forms and by hand."""

from __future__ import annotations

import json
import math

import matplotlib
import numpy as np
import pytest
from PIL import Image
from unirs.evaluation.change_captions import change_caption_scores
from unirs.evaluation.claims import (
    STUDENT,
    claim_verdict,
    commonest,
    figure,
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


def test_a_run_without_clues_asks_whatever_else_there_is(tmp_path):
    arms = {name: points for name, points in earned(50, 48).items() if name != "no clues"}
    rows = judge(dict.fromkeys(range(5), arms), BASELINE)
    whole = judge({seed: earned(50, 48) for seed in range(5)}, BASELINE)
    assert rows == [row for row in whole if row["table"] != "X"]
    assert "(table IX;" in table(rows)
    assert "(table X;" not in table(rows)
    figure(tmp_path / "claims.png", rows)
    figure(tmp_path / "whole.png", whole)
    with Image.open(tmp_path / "claims.png") as drawn, Image.open(tmp_path / "whole.png") as of_all:
        assert drawn.height < of_all.height  # one panel less


def test_a_mean_gain_within_the_noise_of_seeds_is_not_decided():
    rows = judge({seed: earned(50 + gain, 50) for seed, gain in enumerate((3, -2, 4, -3, 1))}, BASELINE)
    assert {row["verdict"] for row in rows} == {"not decided"}


def test_arms_that_say_nothing_are_no_result(tmp_path):
    """A run that was too short earned 0 everywhere, and its table and its figure looked like a finding."""
    rows = judge({seed: earned(0, 0) for seed in range(3)}, BASELINE)
    text = table(rows)
    assert text.startswith("**Nothing was learned")
    assert text.count("| 45.0 | 0.0 |") == text.count("neither beats the commonest answer") == 15
    learned = judge({seed: earned(50, 0) for seed in range(3)}, BASELINE)
    assert "neither beats" not in table(learned)
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        for name, shown in (("nothing", rows), ("learned", learned), ("one", judge({0: earned(50, 0)}, BASELINE))):
            figure(tmp_path / f"{name}.svg", shown)
    drawn = {one.stem: one.read_text() for one in tmp_path.glob("*.svg")}
    assert [name for name in sorted(drawn) if "Nothing was learned" in drawn[name]] == ["nothing"]
    assert [name for name in sorted(drawn) if "one seed, so no bars" in drawn[name]] == ["one"]


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
