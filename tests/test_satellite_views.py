"""EuroSAT's patches as pictures of the embedded checkpoint's training: what is told of them is there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter
from unirs.trainers import satellite_views
from unirs.trainers.real_scenes import SCENE_CLASSES
from unirs.trainers.satellite_views import (
    FILLING,
    PATCH_CLASSES,
    VIEWS,
    load_patches,
    other_pass,
    satellite_patchwork,
)

EUROSAT = Path(__file__).parents[2] / "shared/data/eurosat_patches"
SIDE = 96
# One flat colour for each class of RSSCN7, and that of its cover for the patches that fill the same cells.
COLOURS = np.array([[30 * number + 20, 255 - 30 * number, 40 * (number % 3)] for number in range(len(SCENE_CLASSES))])
FLAT = np.broadcast_to(COLOURS[:, None, None], (len(SCENE_CLASSES), 60, 60, 3)).astype(np.uint8)
PATCHES = {
    name: FLAT[[number for number, one in enumerate(SCENE_CLASSES) if FILLING.get(one.folder) == name] or [6]]
    for name in PATCH_CLASSES
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = []
    for number, name in enumerate([*PATCH_CLASSES, "River", "Forest"]):
        file = f"{name}_{number}.png"
        Image.new("RGB", (44, 44), (number, 0, 0)).save(tmp_path / file)
        rows.append({"file": file, "label": name})
    (tmp_path / "labels.json").write_text(json.dumps(rows))
    return tmp_path


def test_patches_come_by_class_and_those_of_other_classes_stay_away(folder):
    patches = load_patches(folder)
    assert {name: some.shape for name, some in patches.items()} == {
        name: (2 if name == "River" else 1, 44, 44, 3) for name in PATCH_CLASSES
    }
    assert [patch[0, 0, 0] for patch in patches["River"]] == [3, 5]


def test_missing_patches_are_named(folder):
    rows = json.loads((folder / "labels.json").read_text())
    (folder / "labels.json").write_text(json.dumps([row for row in rows if row["label"] != "Crop"]))
    with pytest.raises(FileNotFoundError, match="names no patch of Crop"):
        load_patches(folder)
    with pytest.raises(FileNotFoundError, match="--satellite"):
        load_patches(folder / "elsewhere")


@pytest.mark.skipif(not EUROSAT.is_dir(), reason="needs ../shared/data/eurosat_patches")
def test_all_of_eurosats_patches_at_hand_are_read():
    assert {name: some.shape for name, some in load_patches(EUROSAT).items()} == dict.fromkeys(
        PATCH_CLASSES, (36, 44, 44, 3)
    )


def test_a_satellites_patchwork_is_told_of_by_its_areas(monkeypatch):
    monkeypatch.setattr(satellite_views, "other_pass", lambda rng, image: image)
    monkeypatch.setattr(satellite_views, "DIMMED", (1, 1))
    monkeypatch.setattr(satellite_views, "BLUE", np.zeros(3, np.float32))
    blur = ImageFilter.GaussianBlur
    monkeypatch.setattr(ImageFilter, "GaussianBlur", lambda radius: blur(0))
    covers, things = set(), set()
    for seed in range(40):
        picture, told = satellite_patchwork(
            np.random.default_rng(seed), PATCHES, FLAT, np.arange(len(SCENE_CLASSES)), SIDE
        )
        area: dict[str | None, float] = {}
        for one, colour in zip(SCENE_CLASSES, COLOURS, strict=True):
            area[one.cover] = area.get(one.cover, 0) + float((np.asarray(picture) == colour).all(-1).mean())
        assert sum(area.values()) == pytest.approx(1)
        if told.cover:
            assert area[told.cover] == max(area.values()) >= 0.5
            covers.add(told.cover)
        if told.urban is not None:
            assert area["built-up area"] >= 0.8 if told.urban else area["built-up area"] <= 0.02
        of_thing = {"a crop field": "cropland", "a forest": "forest", "a water area": "water"}
        assert all(area[of_thing[thing]] == 0 for thing in told.hidden)
        assert all(area[of_thing[thing]] >= 0.1 for thing in told.shown if thing in of_thing)
        things |= {*told.shown}
    assert covers == {"grassland", "cropland", "forest", "water", "built-up area"}
    assert things == {"a crop field", "a forest", "a water area", "a building"}


def test_every_patch_is_seen_some_times_with_what_its_class_tells(monkeypatch):
    views = satellite_views.satellite_views(
        np.random.default_rng(0), PATCHES, FLAT[:0], np.arange(0), SIDE
    )  # no picture of RSSCN7, so no patchwork
    assert [told for _, told in views] == [told for told in PATCH_CLASSES.values() for _ in range(VIEWS)]
    assert {picture.size for picture, _ in views} == {(SIDE, SIDE)}


def test_another_pass_keeps_the_order_of_light_and_is_mostly_dimmer():
    rng = np.random.default_rng(0)
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 256, 3))
    passes = [np.asarray(other_pass(rng, ramp), int)[0] for _ in range(50)]
    assert all((np.diff(one, axis=0) >= 0).all() for one in passes)
    assert np.mean([one[200].mean() < 200 for one in passes]) > 0.7
    assert all(one[60].mean() > 15 for one in passes)  # and none is black
