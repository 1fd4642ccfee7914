"""Synthetic pairs and sequences: masks, captions and dates that say where and when the land changed."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from unirs.trainers import scene_tasks
from unirs.trainers.scene_changes import CHANGE_KINDS, NO_CHANGE_SENTENCES, draw_change
from unirs.trainers.scene_shapes import Layout
from unirs.trainers.scene_tasks import CHANGE_INSTRUCTION, SceneSample, pair_captions, pair_sample, sequence_sample
from unirs.trainers.scenes import land_map, render

from tests.scene_samples import SIZE, pixels


@pytest.fixture(scope="module")
def pairs() -> list[SceneSample]:
    return [pair_sample(seed, SIZE) for seed in range(60)]


def test_half_of_the_pairs_show_no_change(pairs):
    flags = [pair_captions(seed)[0] for seed in range(400)]
    assert [p.label != "no change" for p in pairs] == flags[: len(pairs)]
    assert abs(np.mean(flags) - 0.5) < 0.075


def test_change_captions_have_five_distinct_lower_case_references(pairs):
    for pair in pairs:
        caption, flag = pair.questions
        assert caption.question == CHANGE_INSTRUCTION
        assert len(set(caption.references)) == 5
        assert caption.answer in caption.references
        for text in caption.references:
            assert text == text.lower().strip().rstrip(".")
            assert "{" not in text
            assert "  " not in text
        assert flag.answer == ("no" if pair.label == "no change" else "yes")


def test_unchanged_pairs_keep_the_five_sentences_and_an_empty_mask(pairs):
    still = [p for p in pairs if p.label == "no change"]
    assert still
    for pair in still:
        assert pair.questions[0].references == NO_CHANGE_SENTENCES
        assert pair.change_mask is not None
        assert not pair.change_mask.any()


def test_unchanged_pairs_still_differ_in_light_and_season(pairs):
    for pair in pairs:
        before, after = pixels(pair)
        assert np.abs(before - after).mean() > 3


def test_real_changes_differ_inside_the_mask_more_than_outside(pairs):
    """Light and season shift everything alike: what is left after removing the mean shift lies in the mask."""
    ratios = []
    for pair in pairs:
        if pair.label == "no change":
            continue
        assert pair.change_mask is not None
        assert 0.004 < pair.change_mask.mean() < 0.8, pair.label
        before, after = pixels(pair)
        difference = after - before
        residue = np.abs(difference - np.median(difference[~pair.change_mask], axis=0)).mean(axis=2)
        ratios.append(residue[pair.change_mask].mean() / residue[~pair.change_mask].mean())
    assert np.median(ratios) > 1.5
    assert np.mean(np.array(ratios) > 1.1) > 0.85


def test_all_kinds_of_change_occur_and_position_words_are_true():
    kinds = Counter()
    for seed in range(150):
        change = draw_change(np.random.default_rng(seed), changed=True)
        kinds[change.kind] += 1
        if change.kind == "houses removed":
            assert len(change.before.buildings) > len(change.after.buildings)
        if change.kind in ("few houses", "many houses"):
            old = {id(b) for b in change.before.buildings}
            new = np.array([b.parts[0].mean(axis=0) for b in change.after.buildings if id(b) not in old])
            assert len(new) >= 1
            for text in change.captions:
                if "left" in text and change.kind == "few houses" and "is left" not in text:
                    assert new[:, 0].mean() < 0.4
                if "at the top" in text and change.kind == "few houses":
                    assert new[:, 1].mean() < 0.4
    assert set(kinds) == set(CHANGE_KINDS)
    assert len(kinds) == 12


def test_captions_without_painting_are_those_of_the_painted_pair(pairs):
    for seed, pair in enumerate(pairs):
        assert pair_captions(seed) == (pair.label != "no change", pair.questions[0].references)


def test_second_date_lies_at_most_two_pixels_and_a_degree_beside_the_first(monkeypatch):
    """Two bright spots in place of a scene: where they go to is the shift and the turn."""
    size, spots = 96, np.array([[14.0, 48.0], [82.0, 48.0]])

    def two_spots(layout, look, wide):
        y, x = np.mgrid[0:wide, 0:wide] + 0.5 - scene_tasks.BORDER
        light = sum(np.exp(-((x - u) ** 2 + (y - v) ** 2) / 8) for u, v in spots)
        return Image.fromarray((light * 255).astype(np.uint8)).convert("RGB")

    def found(image):
        light = np.asarray(image.convert("L"), float)
        y, x = np.mgrid[0:size, 0:size] + 0.5
        halves = [light * (x < 48), light * (x >= 48)]
        return np.array([[(half * axis).sum() / half.sum() for axis in (x, y)] for half in halves])

    monkeypatch.setattr(scene_tasks, "render", two_spots)
    shifts, turns = [], []
    for seed in range(60):
        first, second = (
            found(scene_tasks._photograph(np.random.default_rng(seed), Layout("grass", (0, 0)), size, moved))
            for moved in (False, True)
        )
        np.testing.assert_allclose(first, spots, atol=0.05)
        (along, down), shift = second[1] - second[0], (second - first).mean(axis=0)
        shifts.append(np.abs(shift).max())
        turns.append(abs(np.degrees(np.arctan2(down, along))))
    assert max(shifts) < 2.1
    assert max(turns) < 0.9
    assert np.median(shifts) > 0.8  # it does move
    assert np.median(turns) > 0.2


def test_unchanged_pairs_hold_one_land_and_traffic_is_no_change():
    moved = 0
    for seed in range(60):
        change = draw_change(np.random.default_rng(seed), changed=False)
        assert (land_map(change.before, 96) == land_map(change.after, 96)).all()
        moved += change.before.vehicles != change.after.vehicles
    assert moved > 15


def test_trees_go_only_where_something_new_stands():
    """Houses are tried at several places; trees at those where they did not fit must stay."""
    gone = 0
    for seed in range(150):
        change = draw_change(np.random.default_rng(seed), changed=True)
        if change.kind != "few houses":
            continue
        standing = {tuple(tree[:2]) for tree in change.after.trees}
        new = [part.mean(axis=0) for house in change.after.buildings for part in house.parts]
        for x, y, radius, _ in change.before.trees:
            if (x, y) not in standing:
                gone += 1
                assert min(np.hypot(*(middle - [x, y])) for middle in new) < 0.13 + radius
    assert gone > 10


def test_land_changes_between_the_dates_named_and_nowhere_else(monkeypatch):
    """What is painted at each date, looked at beside what is said of it."""
    painted = []
    monkeypatch.setattr(scene_tasks, "render", lambda *given: (painted.append(given[0]), render(*given))[1])
    told, ratios = Counter(), []
    for seed in range(40):
        painted.clear()
        sample = sequence_sample(seed, SIZE)
        caption, when = sample.questions
        maps = [land_map(layout, SIZE) for layout in painted]
        masks = [a != b for a, b in pairwise(maps)]
        changes = [number for number, mask in enumerate(masks, 1) if mask.any()]
        assert when.answer == (
            f"between date {changes[0]} and date {changes[0] + 1}" if changes else "nothing has changed"
        )
        assert len(changes) <= 1
        told[when.answer] += 1
        assert len(set(caption.references)) == 5
        assert caption.answer in caption.references
        assert all(one.startswith(when.answer) for one in caption.references) or caption.references == (
            NO_CHANGE_SENTENCES
        )
        for number in changes:
            before, after = pixels(sample)[number - 1 : number + 1]
            mask, difference = masks[number - 1], after - before
            residue = np.abs(difference - np.median(difference[~mask], axis=0)).mean(axis=2)
            ratios.append(residue[mask].mean() / residue[~mask].mean())
    assert len(told) == 4
    assert np.median(ratios) > 1.5
    assert np.mean(np.array(ratios) > 1.1) > 0.8


def test_vehicles_do_not_tell_the_date_of_a_change(monkeypatch):
    """They differ from each date to the next, whether the land changes there or not."""
    painted = []
    monkeypatch.setattr(scene_tasks, "render", lambda *given: (painted.append(given[0]), render(*given))[1])
    steps: dict[bool, list[bool]] = {True: [], False: []}
    for seed in range(60):
        painted.clear()
        sequence_sample(seed, 48)
        for before, after in pairwise(painted):
            if (before.roads or before.lots) and (before.vehicles or after.vehicles) and not after.flood:
                changed = (land_map(before, 48) != land_map(after, 48)).any()
                steps[bool(changed)].append(before.vehicles != after.vehicles)
    assert len(steps[True]) > 5
    assert len(steps[False]) > 20
    assert np.mean(steps[True]) == np.mean(steps[False]) == 1
