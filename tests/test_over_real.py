"""RS-World over real land: the picture stands for grass and soil alone, and what is said is as true as before."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from unirs.evaluation.change_flags import NO_CHANGE_SENTENCES
from unirs.trainers import over_real, real_material
from unirs.trainers.over_real import GROUND, TREE, over_clip, over_pair
from unirs.trainers.real_scenes import SCENE_CLASSES, SIDE
from unirs.trainers.scene_changes import CHANGE_KINDS, draw_change
from unirs.trainers.scene_clips import CLIP_CLASSES, SOFT_CLIPS, soften
from unirs.trainers.scene_look import random_look
from unirs.trainers.scenes import land_map, render
from unirs.trainers.tiny_data import make_scenes
from unirs.trainers.tiny_mixture import Mixture, clip_answer

GRASS, FOREST, TOWN, CAR_PARK = (
    next(one for one in SCENE_CLASSES if one.folder == name) for name in ("grass", "forest", "residential", "parking")
)
PLAIN = np.full((SIDE, SIDE, 3), 150, np.uint8)


def test_a_picture_stands_for_the_ground_and_for_nothing_else():
    rng, size, compared = np.random.default_rng(0), 96, Counter[bool]()
    for _ in range(12):
        layout = draw_change(rng, True).after
        look = replace(random_look(rng), gain=1.0, contrast=1.0, cast=(1.0, 1.0, 1.0), haze=0.0, colour=1.0)
        over = [np.asarray(render(layout, replace(look, ground=PLAIN + add), size), int) for add in (0, 60)]
        classes = np.pad(land_map(layout, size), 3, mode="edge")  # neighbours as well: edges are soft
        near = np.lib.stride_tricks.sliding_window_view(classes, (7, 7)).reshape(size, size, -1)
        # through crowns and between crops the ground may be seen
        ground, thing = (near == GROUND).all(-1), (near == near[..., :1]).all(-1) & (near[..., 0] > TREE)
        assert not (over[1] - over[0])[thing].any()
        lighter = (over[1] - over[0])[ground].mean(-1)  # less in a shadow
        assert np.median(lighter) == pytest.approx(60, abs=3)
        compared.update({True: int(thing.sum()), False: int(ground.sum())})
    assert min(compared.values()) > 1000


def test_pairs_over_real_land_show_and_tell_the_same_change(monkeypatch):
    monkeypatch.setattr(over_real, "relight", lambda rng, image, strength: image)
    monkeypatch.setattr(over_real, "misregister", lambda rng, image: image)
    look = random_look(np.random.default_rng(0))
    monkeypatch.setattr(over_real, "random_look", lambda rng: look)
    rng, kinds, clues = np.random.default_rng(1), Counter[str](), Counter[str]()
    for number in range(120):
        scene, changed = (GRASS, FOREST, TOWN, CAR_PARK)[number % 4], number % 3 > 0
        pair = over_pair(rng, PLAIN, scene, 72, changed)
        differs = np.abs(np.diff(pair.pictures.astype(int), axis=0)).mean((0, -1))  # (72, 72)
        assert pair.mask.any() == changed
        if changed:
            # in a wood, painted trees that give way leave real ones
            times = 1 if scene is FOREST else 3
            assert differs[pair.mask].mean() > times * differs[~pair.mask].mean()
        else:
            assert (differs > 40).mean() < 0.03  # vehicles
            assert pair.captions == NO_CHANGE_SENTENCES
        kinds[pair.label] += 1
        clues[pair.clue] += 1
        said = " ".join(pair.captions)
        assert said
        assert "grassland" not in said  # what was there is real, and told by nobody
        assert pair.label == "vegetation cleared" or "bareland" not in said
        assert not scene.urban or scene.noun.removeprefix("a ") not in said or pair.label == "parking lot"
        assert (scene, pair.label) not in (
            (FOREST, "trees planted"), (FOREST, "vegetation cleared"), (CAR_PARK, "parking lot")
        )  # fmt: skip
    assert set(kinds) <= {*CHANGE_KINDS, "no change"}
    assert len(kinds) > 9
    assert set(clues) == {"", *(f"An aerial view of {one.noun}." for one in (GRASS, FOREST, TOWN, CAR_PARK))}


def test_land_is_named_where_it_is_seen(monkeypatch):
    """A picture of two greys tells by its light how much of the land shows."""
    monkeypatch.setattr(over_real, "relight", lambda rng, image, strength: image)
    rng, named = np.random.default_rng(2), {True: [], False: []}
    for _ in range(60):
        state = rng.bit_generator.state
        shown = []
        for level in (90, 210):
            rng.bit_generator.state = state
            pair = over_pair(rng, np.full_like(PLAIN, level), GRASS, 48, True)
            shown.append(pair.pictures.astype(int))
        seen = ((shown[1] - shown[0]).mean(-1) > 30).mean((1, 2)).min()
        named[bool(pair.clue)].append(float(seen))
    assert min(named[True]) > 0.35
    assert np.mean(named[False]) < 0.5 < np.mean(named[True])


def test_some_clips_over_real_land_show_that_land_and_nothing_else():
    rng, found = np.random.default_rng(0), Counter[str]()
    for _ in range(80):
        frames, name, clue = over_clip(rng, PLAIN, FOREST, 48, 3)
        assert (frames.shape, frames.dtype) == ((3, 48, 48, 3), np.uint8)
        assert name in CLIP_CLASSES
        alone = clue == f"An aerial view of {FOREST.noun}."
        assert not alone or name == "non-event"
        assert not alone or frames.std() < 20  # light and grain
        found["alone" if alone else name] += 1
    quiet = found["alone"] + found["non-event"]
    assert quiet / 80 == pytest.approx(over_real.QUIET, abs=0.15)
    assert min(found["alone"], found["non-event"]) > 6
    assert len(found) > 8


def test_some_clips_come_of_smaller_frames_with_all_their_frames():
    clips = np.random.default_rng(0).integers(0, 255, (200, 3, 144, 144, 3), dtype=np.uint8)
    rough = np.abs(np.diff(soften(np.random.default_rng(1), clips.copy()).astype(int), axis=-2)).mean((-3, -2, -1))
    before = np.abs(np.diff(clips[0].astype(int), axis=-2)).mean()
    soft = rough < 0.8 * before  # (clips, frames)
    assert (soft.all(1) == soft.any(1)).all()
    assert soft.all(1).mean() == pytest.approx(SOFT_CLIPS, abs=0.1)
    assert rough[~soft] == pytest.approx(before, rel=0.05)


def test_conversations_are_about_the_clips_that_they_show(tmp_path, monkeypatch):
    real = tmp_path / "real"
    for number, one in enumerate(SCENE_CLASSES):
        (real / one.folder).mkdir(parents=True)
        Image.new("RGB", (40, 40), (30 * number,) * 3).save(real / one.folder / "a.jpg")
    for name in ("REAL_CLIPS", "REAL_PAIRS", "OVER_PAIRS"):
        monkeypatch.setattr(real_material, name, 5)
    make_scenes(tmp_path / "world", {"video": 1}, 0, processes=1, quiet=True)
    mixture = Mixture(tmp_path / "world", Path(real), 0, tasks=("video",))
    rows = [row for row in mixture.rows() if row["kind"] == "real_video"]
    assert {row["row"] for row in rows} == set(range(5))
    for row in rows * 10:
        talk, word = mixture.talk("real_video", row["row"]), mixture.words["real_video"][row["row"]]
        assert talk.pixels == "pixel_values_videos"
        clip = next(item["video"] for item in talk.messages[0]["content"] if item["type"] == "video")
        assert (np.stack(clip) == mixture.pictures["real_video"][row["row"]]).all()
        said = {turn["content"] for turn in talk.messages[1::2] if isinstance(turn["content"], str)}
        assert said & {clip_answer(word["label"]), word["clue"]}
        assert said <= {clip_answer(word["label"]), word["clue"], "I cannot tell."}
