"""Pairs of dates made from one picture: what nothing changed, what did, and what is said of it."""

import re

import numpy as np
import pytest
from PIL import Image
from unirs.trainers import real_changes, real_scenes
from unirs.trainers.real_changes import ALONG, BARE, BUILT, MANY_ALONG, SOME_ALONG, build_estate, clear_and_build
from unirs.trainers.real_scenes import (
    CLASSES,
    SCENE_CLASSES,
    captions,
    load_real,
    misregister,
    real_pair,
    relight,
    view,
)
from unirs.trainers.scene_changes import NO_CHANGE_SENTENCES
from unirs.trainers.scene_questions import PRESENCE_OBJECTS
from unirs.trainers.scene_tasks import single_sample

from tests.conftest import DATA

SIDE = 96
REAL = DATA / "rsscn7" / "train"
FOLDERS = [one.folder for one in SCENE_CLASSES]


@pytest.fixture(scope="module", params=["generated", pytest.param("real", marks=pytest.mark.data)])
def scenes(request):
    """Pictures and class numbers, two of each class; the generated ones stand in where no data are at hand."""
    labels = np.arange(14) % 7
    if request.param == "generated":
        pictures = [np.asarray(single_sample(seed, SIDE).images[0]) for seed in range(14)]
    else:
        paths = [sorted((REAL / FOLDERS[label]).glob("*.jpg"))[number // 7] for number, label in enumerate(labels)]
        pictures = [np.asarray(Image.open(path).convert("RGB").resize((SIDE, SIDE))) for path in paths]
    return np.stack(pictures), labels


def made(scenes, changed, count):
    return [real_pair(np.random.default_rng((changed, seed)), *scenes, 72, changed) for seed in range(count)]


def structure(picture):
    """Where brightness steps, whatever the light: signs and sizes of differences, blurred over the shift of dates."""
    grey = np.asarray(Image.fromarray(picture).convert("L").reduce(6), float)
    return np.concatenate([np.diff(grey, axis=axis).ravel() for axis in (0, 1)])


@pytest.fixture
def nothing_regrown(monkeypatch):
    """Grass, crops and trees stay those of the first date."""
    monkeypatch.setattr(real_scenes, "REGROWN_SHARE", 0.0)


def test_no_change_keeps_the_structure_and_has_an_empty_mask(scenes, nothing_regrown):
    """Another light, but the same land: steps of brightness agree. Two scenes chosen at random do not."""
    pairs = made(scenes, False, 40)
    assert not any(pair.mask.any() for pair in pairs)
    assert all(pair.pictures.shape == (2, 72, 72, 3) for pair in pairs)
    edges = [[structure(date) for date in pair.pictures] for pair in pairs]
    same = [np.corrcoef(before, after)[0, 1] for before, after in edges]
    others = [np.corrcoef(edges[k][0], edges[(k + 9) % 40][1])[0, 1] for k in range(40)]
    assert np.median(same) > 0.75
    assert np.median(others) < 0.25
    light = [np.abs(pair.pictures[0].astype(float) - pair.pictures[1]).mean() for pair in pairs]
    assert np.median(light) > 10  # of 255: so it is no copy


def test_only_grass_crops_and_trees_are_regrown_by_others_of_their_kind(monkeypatch):
    """Of flat pictures, each of a grey of its own, both dates tell what they are made of."""
    for name in ("relight", "misregister"):
        monkeypatch.setattr(real_scenes, name, lambda rng, image: image)
    # of no two of a class is the mean a third
    labels, greys = np.repeat(np.arange(7), 4), (32 * np.arange(7)[:, None] + (2, 4, 10, 22)).ravel()
    pictures = np.broadcast_to(greys[:, None, None, None], (28, 24, 24, 3)).astype(np.uint8)
    # a piece is laid in the light of what it lies in, which would make all greys one
    monkeypatch.setattr(real_scenes, "paste", lambda rng, before, other: (Image.blend(before, other, 0.5), None))
    parts = {"same": 0, "blended": 0, "all": 0}
    for seed in range(4000):
        pair = real_pair(np.random.default_rng(seed), pictures, labels, 24, False)
        assert not pair.mask.any()
        assert pair.land == SCENE_CLASSES[labels[greys == pair.pictures[0, 0, 0, 0]][0]].noun
        before, after = (int(date[0, 0, 0]) for date in pair.pictures)
        kind = labels[greys == before][0]
        own = set(greys[labels == kind])
        if CLASSES[kind] not in {"grass", "field", "forest"}:
            assert before == after
            continue
        halves = {(before + other) // 2 for other in own} | {(before + other + 1) // 2 for other in own}
        assert after in own | halves
        parts["same" if after == before else "all" if after in own else "blended"] += 1
    total = sum(parts.values())
    assert abs(total / 4000 - (0.4 + 0.6 * 3 / 7)) < 0.03
    # three of four are another picture than the first date's own
    assert abs(parts["blended"] / total - 0.6 * 0.6 * 0.75) < 0.035
    assert abs(parts["all"] / total - 0.6 * 0.4 * 0.75) < 0.035


def test_grass_that_is_regrown_beside_a_change_is_not_in_the_mask(monkeypatch):
    """Of flat pictures, a grey for each class: what lies outside of the mask is of the first date's class on both."""
    for name in ("relight", "misregister"):
        monkeypatch.setattr(real_scenes, name, lambda rng, image: image)
    monkeypatch.setattr(real_scenes, "REGROWN_SHARE", 1.0)
    monkeypatch.setattr(real_scenes, "SCENE_SHARE", 1.0)
    labels = np.repeat(np.arange(7), 2)
    greys = 30 * labels + 20 + np.tile((0, 8), 7)  # two of each class, eight apart; classes are 22 apart or more
    pictures = np.broadcast_to(greys[:, None, None, None], (14, 48, 48, 3)).astype(np.uint8)

    def laid(rng, before, other):
        """The upper half, without the light that `paste` gives a piece."""
        mask = np.arange(48)[:, None] < np.full(48, 24)
        return Image.composite(other, before, Image.fromarray(mask)), mask

    monkeypatch.setattr(real_scenes, "paste", laid)
    kind = (np.arange(256) - 20) // 30  # of a grey
    grown = regrown = 0
    for seed in range(1500):
        pair = real_pair(np.random.default_rng(seed), pictures, labels, 48, True)
        before, after = pair.pictures[..., 0].astype(int)
        around = ~pair.mask
        if not around.any():
            continue
        assert (kind[before][around] == kind[after][around]).all()
        own = int(kind[before][around][0])
        assert SCENE_CLASSES[own].noun == pair.land
        if own in np.flatnonzero(real_scenes.GROWS):
            grown += 1
            regrown += (before != after)[around].any()
        else:
            assert (before == after)[around].all()
    # half of what is regrown is the first date's own picture; a piece in the upper half alone is hidden by the change
    assert abs(regrown / grown - 0.5 * 0.4) < 0.06


def test_change_lies_in_the_mask(scenes, nothing_regrown):
    ratios = []
    pairs = made(scenes, True, 80)
    for pair in pairs:
        if pair.mask.all():
            continue
        assert 0.0005 < pair.mask.mean() < 0.6
        before, after = pair.pictures.astype(float)
        difference = after - before
        residue = np.abs(difference - difference[~pair.mask].mean(axis=0)).mean(axis=2)
        ratios.append(residue[pair.mask].mean() / residue[~pair.mask].mean())
    assert np.median(ratios) > 1.3
    assert np.mean(np.array(ratios) > 1) > 0.8


def test_changes_are_pieces_of_scenes_houses_or_large_and_plain(scenes, nothing_regrown, monkeypatch):
    calls, kinds, pairs = [], [], []
    for name in ("paste", "build_estate", "build_houses", "clear_and_build"):
        make = getattr(real_scenes, name)
        monkeypatch.setattr(real_scenes, name, lambda *given, name=name, make=make: calls.append(name) or make(*given))
    for seed in range(900):
        calls.clear()
        pairs.append(real_pair(np.random.default_rng((True, seed)), *scenes, 72, True))
        kinds += calls or ["whole"]
    # four of ten pairs begin on grass, crops or trees whatever there is; four of ten pieces are of residential areas
    homes = industry = 0.6 / 7
    whole = 0.35 * 0.15 * (1 - homes * (0.4 + 0.6 * 2 / 14) - industry * 0.6 * 2 / 14)  # pieces of another class
    for name, share in (
        ("paste", 0.35 - whole),
        ("whole", whole),
        ("build_estate", 0.25),
        ("build_houses", 0.25),
        ("clear_and_build", 0.15),
    ):
        assert abs(kinds.count(name) / 900 - share) < 3 * 0.5 / 30
    lands, large = {one.noun for one in SCENE_CLASSES}, {"a large building", "large buildings", BARE}
    along = {SOME_ALONG, MANY_ALONG}
    named = {name: [] for name in kinds}
    for kind, pair in zip(kinds, pairs, strict=True):
        assert pair.old != pair.new
        named[kind].append({pair.old, pair.new} - {pair.land})
    pieces = lands | {"houses", "large buildings"}
    for kind, names in (
        ("paste", pieces),
        ("whole", lands),
        ("build_estate", along),
        ("build_houses", set(BUILT) - large - along),
        ("clear_and_build", large),
    ):
        assert set.union(*named[kind]) == names
    # of pieces of built-up scenes on other land half are named by their buildings
    built_up = {one.noun for one in SCENE_CLASSES if one.buildings}
    towns = [one for one in named["paste"] if one & {"houses", "large buildings", *built_up}]
    assert 0.4 < np.mean([bool(one & set(BUILT)) for one in towns]) < 0.8


@pytest.mark.parametrize("name", ["residential area", "industry"])
def test_no_built_up_land_turns_into_itself(name):
    """Of one class alone every piece is of the same land: named by its buildings."""
    number = CLASSES.index(name)
    pictures = np.random.default_rng(0).integers(0, 255, (4, 24, 24, 3)).astype(np.uint8)
    for seed in range(200):
        pair = real_pair(np.random.default_rng(seed), pictures, np.full(4, number), 24, True)
        assert [one for one in (pair.old, pair.new) if one not in {*BUILT, BARE}] == [SCENE_CLASSES[number].noun]
        if pair.old in BUILT:
            assert not [one for one in captions(pair) if SCENE_CLASSES[number].noun in one]


def test_what_is_large_and_plain_has_less_texture_than_what_it_covers():
    """Noise lies below: bare ground and halls are smooth, apart from their grain."""
    rough = np.random.default_rng(0).integers(0, 255, (96, 96, 3)).astype(np.uint8)
    for seed in range(20):
        after, mask, name = clear_and_build(np.random.default_rng(seed), Image.fromarray(rough))
        assert name in {"a large building", "large buildings", BARE}
        after = np.asarray(after, float)
        steps = np.abs(np.diff(after, axis=1)).mean(2)[mask[:, 1:] & mask[:, :-1]]
        assert np.median(steps) < 10 < np.abs(np.diff(rough.astype(float), axis=1)).mean() / 5


def test_houses_of_an_estate_stand_beside_its_road_on_the_picture_and_are_told_by_their_number(monkeypatch):
    roads, houses, names = [], [], set()
    for name, kept in (("road", roads), ("house", houses)):
        paint = getattr(real_changes._Canvas, name)
        monkeypatch.setattr(
            real_changes._Canvas,
            name,
            lambda canvas, outline, *rest, kept=kept, paint=paint: (
                kept.append((canvas, outline, *rest)),
                paint(canvas, outline, *rest),
            ),
        )
    before = Image.new("RGB", (72, 72), (60, 90, 50))
    for seed in range(60):
        houses.clear()
        after, mask, name = build_estate(np.random.default_rng(seed), before)
        canvas, line, width = roads[-1]
        built = [outline for owner, outline, *_ in houses if owner is canvas]  # of the draft that was taken
        assert len(built) >= 3
        assert name == (MANY_ALONG if len(built) >= 8 else SOME_ALONG)
        names.add(name)
        for outline in built:
            x, y = outline.mean(0)
            assert 0 < min(x, y) < max(x, y) < 1
            assert mask[int(y * 72), int(x * 72)]
            assert width / 2 < np.linalg.norm(line - (x, y), axis=1).min() < 0.2
        left = np.abs(np.asarray(after, int) - np.asarray(before)).max(2) == 0
        assert not left[mask].any()  # painted wherever it is marked, and nowhere else but for shadows
        assert left[~mask].mean() > 0.6
    assert len(names) == 2


def test_captions_agree_with_what_was_built():
    """Read back: what a sentence says is there afterwards, and what is there no more."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (14, 24, 24, 3)).astype(np.uint8)
    for seed in range(300):
        pair = real_pair(np.random.default_rng(seed), pictures, np.arange(14) % 7, 24, seed % 5 > 0)
        said = captions(pair)
        assert len(set(said)) == 5
        if seed % 5 == 0:
            assert said == NO_CHANGE_SENTENCES
            continue
        new, old = (name.removeprefix("an ").removeprefix("a ") for name in (pair.new, pair.old))
        removed = pair.old in BUILT
        for one in said:
            assert one == one.lower().strip().rstrip(".")
            thing = old if removed else new.removesuffix(ALONG)
            assert thing in one
            assert (new if removed else old) not in one  # what else the land was is mostly told wrongly
            assert "road" in one or not new.endswith(ALONG)
            goes = re.search("removed|disappear|demolished|gone|cleared|replaced by", one) is not None
            assert goes or not removed
            if pair.new in BUILT:
                assert not goes
                number = re.search(r"\b(is|are|has|have)\b", one)
                assert number is None or (number[0] in ("is", "has")) == BUILT[pair.new]


@pytest.mark.parametrize(("shift", "turn"), [(2.0, 0.0), (0.0, 1.0), (3.0, 2.0)])
def test_misregistration_stays_within_the_pixels_and_degrees_stated(shift, turn):
    """Two points: the middle may move by `shift`; a point 30 pixels off also by turn and one per cent of scale."""
    size, points = 96, np.array([[48.0, 48.0], [78.0, 48.0]])
    y, x = np.mgrid[0:size, 0:size] + 0.5
    light = sum(np.exp(-((x - u) ** 2 + (y - v) ** 2) / 8) for u, v in points)
    picture = Image.fromarray((light * 255).astype(np.uint8)).convert("RGB")
    moves, turns, scales = [], [], []
    for seed in range(60):
        moved = np.asarray(misregister(np.random.default_rng(seed), picture, shift, turn).convert("L"), float)
        halves = [moved * (x < 63), moved * (x >= 63)]
        found = np.array([[(half * x).sum() / half.sum(), (half * y).sum() / half.sum()] for half in halves])
        moves.append(np.abs(found[0] - points[0]).max())
        along, down = found[1] - found[0]
        turns.append(abs(np.degrees(np.arctan2(down, along))))
        scales.append(np.hypot(along, down) / 30)
    assert max(moves) <= shift * 1.01 + 0.1
    assert max(turns) <= turn + 0.25
    assert 0.98 < min(scales) <= max(scales) < 1.02
    assert shift * 0.7 <= max(moves)
    assert turn * 0.7 <= max(turns)


def test_misregistration_leaves_no_dark_edge():
    white = Image.new("RGB", (64, 64), (200, 200, 200))
    for seed in range(20):
        assert np.asarray(misregister(np.random.default_rng(seed), white, 3.0, 2.0)).min() >= 199


def test_relighting_without_strength_leaves_the_picture():
    picture = single_sample(0, SIDE).images[0]
    again = relight(np.random.default_rng(0), picture, strength=0.0)
    assert np.abs(np.asarray(again, int) - np.asarray(picture)).max() <= 2


def test_a_view_holds_only_what_the_picture_holds():
    """A picture of two grey halves: any crop, turn and mirror has those two greys and nothing else."""
    picture = np.full((SIDE, SIDE, 3), 50, np.uint8)
    picture[:, SIDE // 2 :] = 180
    orders = set()
    for seed in range(60):
        seen = np.asarray(view(np.random.default_rng(seed), picture, 48))[..., 0]
        assert seen.shape == (48, 48)
        assert np.mean((abs(seen.astype(int) - 50) < 8) | (abs(seen.astype(int) - 180) < 8)) > 0.9
        orders.add(tuple(seen[[0, 0, -1, -1], [0, -1, 0, -1]] > 115))
    assert len(orders) >= 4  # light at the left, right, top and bottom


# -- what is asked of real pictures ----------------------------------------------------------------------------------
def test_what_a_class_shows_and_hides_is_asked_as_for_generated_scenes_and_never_both():
    assert len(SCENE_CLASSES) == 7
    for one in SCENE_CLASSES:
        assert not set(one.shown) & set(one.hidden)
        assert {*one.shown, *one.hidden} <= set(PRESENCE_OBJECTS.values())


def test_load_real_names_what_is_missing(tmp_path):
    for name in FOLDERS[:2]:
        (tmp_path / name).mkdir()
        Image.new("RGB", (40, 40), (9, 9, 9)).save(tmp_path / name / "a.jpg")
    with pytest.raises(FileNotFoundError, match=rf"{FOLDERS[2]}: no \.jpg files; give --real"):
        load_real(tmp_path)


def test_load_real_numbers_classes_in_the_order_of_folders(tmp_path):
    for number, name in enumerate(FOLDERS):
        (tmp_path / name).mkdir()
        for copy in range(2):
            Image.new("RGB", (40, 40), (number * 30, 0, 0)).save(tmp_path / name / f"{copy}.jpg", quality=95)
    pictures, labels = load_real(tmp_path, side=20)
    assert pictures.shape == (14, 20, 20, 3)
    assert labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]
    np.testing.assert_allclose(pictures[..., 0].mean(axis=(1, 2)), labels * 30, atol=3)


@pytest.mark.data
def test_rsscn7_training_and_test_folders_share_no_picture():
    """2,240 and 280 pictures, all classes alike; none is in both, by its bytes."""
    folders = {split: sorted((DATA / "rsscn7" / split).glob("*/*.jpg")) for split in ("train", "test")}
    assert {split: len(paths) for split, paths in folders.items()} == {"train": 2240, "test": 280}
    contents = {split: {path.read_bytes() for path in paths} for split, paths in folders.items()}
    assert not contents["train"] & contents["test"]
