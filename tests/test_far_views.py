"""Real land as other cameras see it: what is told of it is there, and the tower learns to see it as it was."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from unirs.trainers import far_views
from unirs.trainers.far_tower import adapt_tower, distance
from unirs.trainers.far_views import DARKEST, FarView, far_view, patchwork, strange_light
from unirs.trainers.real_questions import real_turns
from unirs.trainers.real_scenes import SCENE_CLASSES, SceneClass, view
from unirs.trainers.tiny import build
from unirs.trainers.tiny_real import pixels

SIDE = 96
WATER = next(one for one in SCENE_CLASSES if one.cover == "water")
# One flat colour for each class, so that a patchwork tells its own areas.
COLOURS = np.array([[30 * number + 20, 255 - 30 * number, 40 * (number % 3)] for number in range(len(SCENE_CLASSES))])
FLAT = np.broadcast_to(COLOURS[:, None, None], (len(SCENE_CLASSES), 60, 60, 3)).astype(np.uint8)


@pytest.fixture
def in_its_own_light(monkeypatch):
    monkeypatch.setattr(far_views, "strange_light", lambda rng, image: image)
    monkeypatch.setattr(far_views, "_coarser", lambda rng, image: image)
    blur = ImageFilter.GaussianBlur
    monkeypatch.setattr(ImageFilter, "GaussianBlur", lambda radius: blur(0))


def shares(picture: Image.Image) -> dict[str | None, float]:
    """Of each cover, by the colour of its class."""
    found: dict[str | None, float] = {}
    for one, colour in zip(SCENE_CLASSES, COLOURS, strict=True):
        found[one.cover] = found.get(one.cover, 0) + float((np.asarray(picture) == colour).all(-1).mean())
    assert sum(found.values()) == pytest.approx(1)
    return found


def test_a_patchwork_is_told_of_by_its_areas(in_its_own_light):
    labels = np.arange(len(SCENE_CLASSES))
    asked = {"cover": 0, "urban": 0, "rural": 0, "shown": 0, "hidden": 0}
    for seed in range(80):
        one = patchwork(np.random.default_rng(seed), FLAT, labels, SIDE)
        area = shares(one.strange)
        largest = max(area, key=lambda name: area[name])
        if one.told.cover:
            assert one.told.cover == largest
            assert area[largest] >= 0.5
            asked["cover"] += 1
        town = area["built-up area"]
        if one.told.urban is not None:
            assert town >= 0.8 if one.told.urban else town <= 0.02
            asked["urban" if one.told.urban else "rural"] += 1
        of_thing = {
            "a crop field": "cropland", "a forest": "forest", "a water area": "water", "a building": "built-up area"
        }  # fmt: skip
        for thing in one.told.shown:
            assert area[of_thing[thing]] >= 0.1
            asked["shown"] += 1
        for thing in one.told.hidden:
            assert area[of_thing[thing]] == 0
            asked["hidden"] += 1
        assert one.told.noun
        assert not one.told.name
    assert min(asked.values()) >= 10


def test_no_patchwork_is_said_to_be_without_houses_or_without_fields_beside_grass(in_its_own_light, monkeypatch):
    grass_and_wood = np.array([0, 4])
    for name in ("LAND", "COUNTRY"):
        monkeypatch.setattr(far_views, name, tuple(grass_and_wood))
    told = [
        patchwork(np.random.default_rng(seed), FLAT[grass_and_wood], grass_and_wood, SIDE).told for seed in range(20)
    ]
    assert not any("a building" in one.hidden for one in told)
    with_grass = [one for one in told if "grassland" in one.noun]
    assert with_grass
    assert not any("a crop field" in one.hidden for one in with_grass)
    assert all("a water area" in one.hidden for one in told)


@pytest.mark.parametrize("scene", SCENE_CLASSES, ids=lambda one: one.folder)
def test_a_far_view_keeps_what_its_class_tells_and_denies_water_where_there_is_hardly_any(scene):
    views = [far_view(np.random.default_rng(seed), FLAT[0], scene, SIDE) for seed in range(12)]
    for one in views:
        assert (one.told.name, one.told.cover, one.told.urban) == (scene.name, scene.cover, scene.urban)
        assert {*scene.shown} - {*one.told.shown} <= {"a vehicle", "a road"}  # a part may have none
        assert {*one.told.hidden} - {*scene.hidden} <= {"a water area"}
        assert one.plain.size == one.strange.size == (SIDE, SIDE)
    dry = scene.folder in ("grass", "field", "industry", "forest")
    assert {"a water area" in one.told.hidden for one in views} == {dry}


def test_of_water_the_view_without_banks_is_shown():
    half = FLAT[3].copy()
    half[:, :30] = np.random.default_rng(0).integers(0, 255, (60, 30, 3))  # a busy bank

    def mean_roughness(views: list[Image.Image]) -> float:
        return float(np.mean([np.asarray(one.convert("L"), float).std() for one in views]))

    chosen = [far_view(np.random.default_rng(seed), half, WATER, SIDE).plain for seed in range(8)]
    others = [view(np.random.default_rng(seed), half, SIDE) for seed in range(8)]
    assert mean_roughness(chosen) < 0.7 * mean_roughness(others)


def test_strange_light_is_strange_and_never_black():
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(20, 90, (SIDE, SIDE, 3)).astype(np.uint8))
    seen = [np.asarray(strange_light(rng, picture), float) / 255 for _ in range(60)]
    means = np.array([one.mean() for one in seen])
    assert means.min() > DARKEST - 0.01
    assert means.max() > 2 * means.min()
    grey = np.array([np.ptp(one, axis=-1).max() for one in seen])
    assert 0 < (grey < 0.01).sum() < 20  # one band: a tenth


def test_the_tower_comes_to_see_land_in_a_strange_light_as_in_its_own():
    torch.manual_seed(0)
    model, _ = build(["a"])
    rng = np.random.default_rng(0)
    land = rng.integers(0, 255, (6, 144, 144, 3)).astype(np.uint8)
    views = [FarView(Image.fromarray(one // 3), Image.fromarray(one), SCENE_CLASSES[0]) for one in land]
    strange, plain = (np.stack([np.asarray(getattr(one, name)) for one in views]) for name in ("strange", "plain"))
    before = copy.deepcopy(model)

    def apart(tower) -> tuple[float, float]:
        with torch.no_grad():
            wanted = before.model.encode_pixels(pixels(plain))
            return tuple(
                distance(tower.model.encode_pixels(pixels(shown)), wanted).item() for shown in (strange, plain)
            )

    model_before = apart(model)
    adapt_tower(model, strange, plain, [plain[:, None]], steps=8, seed=0, learning_rate=1e-3)
    model.eval()
    after = apart(model)
    assert model_before[1] == 0
    assert after[0] < 0.8 * model_before[0]
    assert after[1] < after[0]
    changed = {
        name.split(".")[1]
        for (name, new), old in zip(model.named_parameters(), before.parameters(), strict=True)
        if not torch.equal(new, old)
    }
    assert changed == {"vision_tower"}


def test_questions_of_a_scene_are_what_is_told_of_it():
    scene = SceneClass("", "", "fields", "cropland", False, ("a crop field",), ("a forest", "a water area"))
    rng, asked = np.random.default_rng(0), set()
    for _ in range(60):
        turns = real_turns(rng, scene)
        assert len({question for question, _ in turns}) == len(turns) <= 4
        asked |= {(question.split(" in the")[0].split(" present")[0].lower(), answer) for question, answer in turns}
    of_things = {(question, answer) for question, answer in asked if answer in ("yes", "no")}
    assert all((answer == "yes") == ("crop field" in question) for question, answer in of_things)
    assert all(any(name in question for question, _ in of_things) for name in ("crop field", "forest", "water area"))
    others = {answer for _, answer in asked} - {"yes", "no"}
    assert others == {"cropland", "rural"}
    assert not real_turns(rng, SceneClass("", "", "land", None, None, (), ()))
