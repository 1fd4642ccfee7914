"""Real changes of the SYNTHETIC land between two dates, with LEVIR-CC-like captions (lower case, no full stop).

A change is built forwards (houses appear, a road is built) and, for removal, told backwards. Vehicles may differ
between dates without being a change, as in LEVIR-CC.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..evaluation.change_flags import NO_CHANGE_SENTENCES
from .scene_builder import DoesNotFitError, LayoutBuilder
from .scene_shapes import Array, Layout, blob

CHANGE_KINDS = (
    "few houses", "many houses", "houses removed", "vegetation cleared", "road", "flood", "parking lot", "pond",
    "trees planted", "sports field", "solar farm", "storage tanks",
)  # fmt: skip
BLOCKS = ("parking lot", "sports field", "solar farm", "storage tanks")  # built on open ground, trees give way
REFERENCES = 5
MIN_TREES_CLEARED = 14

# {m}: number word with noun, {be} {have} {s}: its verb forms, {g}: what was there, {w}: " at the top" or nothing
TEMPLATES: dict[str, tuple[str, ...]] = {
    "few houses": (
        "{m} appear{s}{w}", "{m} {be} built on the {g}{w}", "{m} {be} constructed{w}", "{m} {have} been built{w}",
        "{m} {be} added on the {g}{w}", "the {g} is replaced by {m}{w}", "{m} show{s} up on the {g}{w}",
    ),
    "many houses": (
        "a road is built and many houses appear along it", "many houses are built along the new road on the {g}",
        "rows of houses and a road appear on the {g}", "a residential area with a road is built on the {g}",
        "the {g} has been turned into a residential area with a road", "a road with houses on both sides is built",
        "many houses are constructed on both sides of a new road",
    ),
    "houses removed": (
        "{m} {be} removed{w}", "{m} {be} demolished{w}", "{m} disappear{s}{w}", "{m} {have} been torn down{w}",
        "the {g} replaces {m}{w}", "{m} {be} gone and the {g} is left{w}",
    ),
    "vegetation cleared": (
        "the trees are removed{w}", "some trees are cut down and bareland appears{w}", "the woods are cleared{w}",
        "the vegetation has been replaced by bareland{w}", "the forest disappears{w}", "bareland replaces trees{w}",
    ),
    "road": (
        "a road is built across the {g}", "a new road appears", "a road is constructed on the {g}",
        "a road has been built through the scene", "a new road crosses the {g}", "some land is replaced by a road",
    ),
    "flood": (
        "the land is flooded{w}", "water covers the {g}{w}", "a flood appears{w}", "muddy water covers the land{w}",
        "a large part of the {g} is under water{w}", "the {g} has been submerged by water{w}",
    ),
    "parking lot": (
        "a parking lot is built{w}", "a parking lot appears on the {g}{w}", "a parking lot has been constructed{w}",
        "the {g} is replaced by a parking lot{w}", "a new parking lot shows up{w}", "a paved parking area is built{w}",
    ),
    "pond": (
        "a pond appears{w}", "a pond is dug on the {g}{w}", "a small lake has been made{w}",
        "the {g} becomes a pond{w}", "a new pond shows up{w}", "water now fills a part of the {g}{w}",
    ),
    "trees planted": (
        "trees are planted{w}", "a wood grows on the {g}{w}", "the {g} is now covered with trees{w}",
        "many trees appear{w}", "a new wood shows up{w}", "the {g} has been turned into a wood{w}",
    ),
    "sports field": (
        "a sports field is built{w}", "a sports field appears on the {g}{w}", "a playground has been constructed{w}",
        "the {g} is replaced by a sports field{w}", "a new sports field shows up{w}", "a football field is built{w}",
    ),
    "solar farm": (
        "solar panels are installed{w}", "a solar farm appears on the {g}{w}", "a solar farm has been built{w}",
        "the {g} is replaced by solar panels{w}", "rows of solar panels show up{w}", "a new solar farm is built{w}",
    ),
    "storage tanks": (
        "storage tanks are built{w}", "storage tanks appear on the {g}{w}", "round tanks have been constructed{w}",
        "the {g} is replaced by storage tanks{w}", "some storage tanks show up{w}", "new storage tanks are built{w}",
    ),
}  # fmt: skip
HOUSE_WORDS = {1: "a house", 2: "two houses", 3: "three houses"}


@dataclass(frozen=True)
class Change:
    before: Layout
    after: Layout
    kind: str
    captions: tuple[str, ...]  # five; the no-change sentences when both dates are the same


def draw_change(rng: np.random.Generator, changed: bool, unseen: bool = False) -> Change:
    """A place at two dates, with one or two real changes if `changed`; `unseen` lays it out as in TEST_LAYOUTS."""
    for _ in range(2000):
        try:
            return _draw_once(rng, changed, unseen)
        except DoesNotFitError:
            continue
    raise RuntimeError("no change fitted in 2000 draws")


def _draw_once(rng: np.random.Generator, changed: bool, unseen: bool) -> Change:
    kind = CHANGE_KINDS[int(rng.integers(len(CHANGE_KINDS)))]
    # 1. the first date: ground, pond, road, houses, and trees wherever there is room
    builder = _old_place(rng, kind, unseen)
    wooded = kind == "vegetation cleared" or (kind != "trees planted" and bool(rng.random() < 0.35))
    _add_plants(builder, wooded)
    before = builder.layout
    # 2. the new things ignore the trees, which then give way
    captions = _captions(rng, kind, wooded, before, *_apply(builder, kind))
    if kind in ("vegetation cleared", "road", *BLOCKS) and rng.random() < 0.3:
        captions = _and(captions, _captions(rng, "few houses", wooded, before, *_apply(builder, "few houses")))
    standing = [t for t in before.trees if builder.is_free(t[0], t[1], t[2] * 0.8, inside=False)]
    grown = builder.layout.trees[len(before.trees) :]
    after = replace(builder.layout, trees=np.concatenate([np.array(standing).reshape(-1, 4), grown]))
    if kind == "houses removed":
        before, after = after, replace(before, trees=after.trees)
    if changed:
        return Change(with_traffic(rng, before), with_traffic(rng, after), kind, tuple(captions))
    # either state may stand still: a model must not learn that finished houses mean a change
    still = before if rng.random() < 0.5 else after
    return Change(with_traffic(rng, still), with_traffic(rng, still), "no change", NO_CHANGE_SENTENCES)


def _old_place(rng: np.random.Generator, kind: str, unseen: bool) -> LayoutBuilder:
    """Open land, at times with a pond, a road and a few houses."""
    builder = LayoutBuilder(rng, "grass" if rng.random() < 0.6 else "soil", unseen)
    if rng.random() < 0.2:
        builder.add_lake(0.09, 0.13)
    if rng.random() < (0.65 if kind in ("few houses", "houses removed", *BLOCKS) else 0.3):
        line = builder.add_crossing_road()
        if rng.random() < 0.6:
            builder.add_houses_along(line, int(rng.integers(2, 6)), 0.115, spacing=0.15)
    return builder


def _add_plants(builder: LayoutBuilder, wooded: bool) -> None:
    """Woods over nearly everything, or lone trees; they do not keep later buildings away."""
    rng = builder.rng
    if wooded:
        x, y = rng.uniform(0.4, 0.6, 2)
        builder.add_trees(blob(rng, x, y, rng.uniform(0.45, 0.7)), 0.052)
        return
    trees = np.stack([*rng.uniform(0, 1, (2, 14)), rng.uniform(0.02, 0.036, 14), rng.uniform(0, 1, 14)], axis=1)
    free = [t for t in trees[: rng.integers(3, 15)] if builder.is_free(t[0], t[1], t[2], inside=False)]
    builder.layout = replace(builder.layout, trees=np.array(free).reshape(-1, 4))


def _apply(builder: LayoutBuilder, kind: str) -> tuple[int, Array]:
    """Adds the change; returns the number of houses and the points (n, 2) where something happened."""
    rng, old = builder.rng, builder.layout
    if kind in ("few houses", "houses removed"):
        count = int(rng.integers(1, 4))
        _cluster_houses(builder, count)
        return count, np.stack([b.parts[0].mean(axis=0) for b in builder.layout.buildings[-count:]])
    if kind == "many houses":
        line = builder.add_crossing_road()
        builder.add_houses_along(line, int(rng.integers(6, 11)), 0.1)
        return len(builder.layout.buildings) - len(old.buildings), line
    if kind == "road":
        return 0, builder.add_crossing_road()
    if kind == "parking lot":
        builder.add_lot(rng.uniform(0.3, 0.38), rng.uniform(0.2, 0.24))
        return 0, builder.layout.lots[-1].outline
    if kind == "sports field":
        builder.add_pitch()
        return 0, builder.layout.pitches[-1]
    if kind == "solar farm":
        builder.add_panels()
        return 0, builder.layout.panels[-1]
    if kind == "storage tanks":
        builder.add_tanks(int(rng.integers(2, 5)))
        return 0, builder.layout.tanks[len(old.tanks) :, :2]
    if kind == "pond":
        builder.add_lake(0.12, 0.17)
        return 0, builder.layout.water[-1]
    if kind == "trees planted":
        return 0, _plant(builder)
    x, y = rng.uniform(0.2, 0.8, 2)
    outline = blob(rng, x, y, rng.uniform(0.2, 0.3))
    if kind == "flood":
        builder.layout = replace(old, flood=(*old.flood, outline))
    else:
        builder.add_bare(outline)
        inside = (np.hypot(old.trees[:, 0] - x, old.trees[:, 1] - y) < 0.2).sum()
        if inside < MIN_TREES_CLEARED:
            raise DoesNotFitError
    builder.take(outline)
    return 0, np.array([[x, y]])


def _plant(builder: LayoutBuilder) -> Array:
    """A wood on open ground; returns its middle."""
    x, y = builder.rng.uniform(0.25, 0.75, 2)
    before = len(builder.layout.trees)
    builder.add_trees(blob(builder.rng, x, y, builder.rng.uniform(0.2, 0.27)), 0.045)
    new = builder.layout.trees[before:]
    if len(new) < MIN_TREES_CLEARED or (np.hypot(*(builder.layout.trees[:before, :2] - [x, y]).T) < 0.2).sum() > 4:
        raise DoesNotFitError
    return np.array([[x, y]])


def _cluster_houses(builder: LayoutBuilder, count: int) -> None:
    rng = builder.rng
    for _ in range(30):
        start, (x, y), angle = builder.state(), rng.uniform(0.12, 0.88, 2), rng.uniform(0, np.pi)
        placed = 0
        for _ in range(30):
            dx, dy = rng.uniform(-0.17, 0.17, 2)
            length, width = rng.uniform(0.095, 0.14), rng.uniform(0.08, 0.1)
            placed += placed < count and builder.add_building(x + dx, y + dy, length, width, angle)
        if placed == count:
            return
        builder.go_back(start)  # else trees would give way to houses that are not there
    raise DoesNotFitError


def with_traffic(rng: np.random.Generator, layout: Layout) -> Layout:
    """The same place with other vehicles, which come and go without being a change."""
    layout = replace(layout, vehicles=())
    if not (layout.roads or layout.lots) or layout.flood:
        return layout
    builder = LayoutBuilder(rng, layout.ground)
    builder.layout = layout
    builder.add_vehicles(int(rng.integers(0, 5)))
    return builder.layout


def _captions(
    rng: np.random.Generator, kind: str, wooded: bool, before: Layout, houses: int, points: Array
) -> list[str]:
    templates = TEMPLATES[kind]
    plain = "grassland" if before.ground == "grass" else "bareland"
    words = {
        "m": HOUSE_WORDS.get(houses, "many houses"),
        "g": "forest" if wooded and kind != "houses removed" else plain,
    }
    words |= {"be": "is", "have": "has", "s": "s"} if houses == 1 else {"be": "are", "have": "have", "s": ""}
    place = _where(points) if kind != "road" else ""
    return [
        templates[k].format(**words, w=" " + place if place and rng.random() < 0.6 else "")
        for k in rng.permutation(len(templates))[:REFERENCES]
    ]


def _and(first: list[str], second: list[str]) -> list[str]:
    return [f"{a} and {b}" for a, b in zip(first, second, strict=True)]


def _where(points: Array) -> str:
    """Words for the place of a compact group of points, empty if it is spread out."""
    x, y = points.mean(axis=0)
    if np.abs(points - [x, y]).max() > 0.25:
        return ""
    column = "left" if x < 0.36 else "right" if x > 0.64 else ""
    row = "top" if y < 0.36 else "bottom" if y > 0.64 else ""
    if row and column:
        return f"in the {row} {column} corner"
    if row or column:
        return f"at the {row}" if row else f"on the {column} side"
    return "in the middle of the scene"
