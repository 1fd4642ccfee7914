"""Which things a scene of the SYNTHETIC aerial world holds and where: from a `Plan` (exact contents) to a `Layout`.

Same generator state -> same layout.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from .scene_builder import DoesNotFitError, LayoutBuilder
from .scene_shapes import Array, Layout, Plan, blob

LAYOUT_DRAWS = 60  # nearly every plan fits in a few


def build_layout(rng: np.random.Generator, plan: Plan, unseen: bool = False) -> Layout:
    """A layout that holds exactly what the plan says; `unseen` takes the kinds of TEST_LAYOUTS.

    Raises:
        DoesNotFitError: none of LAYOUT_DRAWS attempts found room for everything.
    """
    for _ in range(LAYOUT_DRAWS):
        try:
            return _build_once(rng, plan, unseen).layout
        except DoesNotFitError:
            continue
    raise DoesNotFitError(str(plan))


def _build_once(rng: np.random.Generator, plan: Plan, unseen: bool) -> LayoutBuilder:
    ground: Literal["grass", "soil"] = "grass" if plan.cover != "bare land" else "soil"
    if plan.urban and rng.random() < 0.35:
        ground = "soil"
    builder = LayoutBuilder(rng, ground, unseen)
    # 1. the wide things first: streets, parcels, water
    if plan.urban:
        lines = _add_streets(builder, plan)
        _add_yards(builder, plan, shrink=0.8)
    if plan.cover == "cropland":
        builder.cover_with_fields()
    if plan.cover == "water":
        if plan.river:
            builder.add_river(rng.uniform(0.48, 0.56))
        else:
            builder.add_wide_lake()
        if builder.wet_share() <= 0.5:  # it would not be the main land cover for certain
            raise DoesNotFitError
    elif plan.river:
        builder.add_river(rng.uniform(0.13, 0.17))
    else:
        for _ in range(plan.water):
            builder.add_lake(0.075 if plan.water > 1 else 0.13, 0.1 if plan.water > 1 else 0.17)
    # 2. roads and what stands beside them
    if not plan.urban:
        lines = [builder.add_crossing_road() for _ in range(plan.roads)]
        _add_yards(builder, plan, shrink=1.0)
    if plan.urban:  # a field or wood first: houses find room between them, not the other way round
        _add_plots(builder, plan, shrink=0.78)
        _add_blocks(builder, plan, lines)
    else:
        near = min(plan.buildings, int(rng.integers(0, 4))) if lines else 0
        if near:
            builder.add_houses_along(lines[0], near, 0.115, spacing=0.16)
        builder.add_houses(plan.buildings - near)
    # 3. movers, then plants wherever there is room
    builder.add_vehicles(plan.vehicles)
    builder.add_boats(plan.boats)
    if not plan.urban:
        _add_plots(builder, plan, shrink=1.0)
    if plan.cover == "forest":
        builder.add_trees(None, rng.uniform(0.046, 0.056))
    builder.add_lone_trees(int(rng.integers(4, 20)) if plan.urban else int(rng.integers(0, 7)))
    return builder


def _add_yards(builder: LayoutBuilder, plan: Plan, shrink: float) -> None:
    """Built grounds of one purpose: car park, sports field, solar farm, tanks."""
    if plan.lot:
        builder.add_lot()
    if plan.pitch:
        builder.add_pitch(shrink)
    if plan.solar:
        builder.add_panels(shrink)
    if plan.tanks:
        builder.add_tanks(plan.tanks)


def _add_plots(builder: LayoutBuilder, plan: Plan, shrink: float) -> None:
    if plan.crops and plan.cover != "cropland":
        builder.add_single_field(shrink)
    if plan.forest and plan.cover != "forest":
        _add_wood(builder, shrink)


def _add_wood(builder: LayoutBuilder, shrink: float) -> None:
    """A wood of at least 30 crowns on free ground."""
    before = len(builder.layout.trees)
    x, y = builder.rng.uniform(0.12, 0.88, 2)
    outline = blob(builder.rng, x, y, builder.rng.uniform(0.22, 0.27) * shrink)
    builder.add_trees(outline, 0.045)
    if len(builder.layout.trees) - before < 30:
        raise DoesNotFitError
    builder.take(outline)


def _add_streets(builder: LayoutBuilder, plan: Plan) -> list[Array]:
    """Two parallel streets and, where nothing else needs the room, a cross street; or spokes, or a ring."""
    rng = builder.rng
    if builder.unseen:
        return _add_round_streets(builder)
    angle, width = rng.uniform(0, np.pi), rng.uniform(0.05, 0.06)
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    reach, bend = np.linspace(-0.9, 0.9, 32)[:, None], rng.uniform(-0.08, 0.08)
    # one side stays free for what is asked
    roomy = plan.lot or plan.forest or plan.crops or plan.pitch or plan.solar or plan.tanks > 0 or plan.water > 0
    builder.layout = replace(
        builder.layout, kinds=builder.layout.kinds | {"parallel streets" if roomy else "street grid"}
    )
    offsets = rng.uniform(-0.04, 0.04) + (np.array([-0.36, -0.03]) if roomy else np.array([-0.22, 0.22]))
    lines = [0.5 + along * reach + across * (offset + bend * reach**2) for offset in offsets]
    cross = 0.5 + across * reach + along * rng.uniform(-0.3, 0.3)
    for line in lines if roomy else [*lines, cross]:
        builder.add_road(line, width)
    return lines


def _add_round_streets(builder: LayoutBuilder) -> list[Array]:
    """Three streets from a square in one part of the town, or a ring with a street out of it."""
    rng, width = builder.rng, builder.rng.uniform(0.05, 0.06)
    corner, first = rng.uniform(0.25, 0.4, 2), rng.uniform(0, 2 * np.pi)
    if rng.random() < 0.5:
        corner = np.where(rng.random(2) < 0.5, corner, 1 - corner)
        reach = np.linspace(0, 1.3, 32)[:, None]
        angles = first + np.array([0, 1, 2]) * 2 * np.pi / 3 + rng.uniform(-0.2, 0.2, 3)
        lines = [corner + reach * np.array([np.cos(a), np.sin(a)]) for a in angles]
        kind = "radial streets"
    else:
        turn, radius = np.linspace(0, 2 * np.pi, 40), rng.uniform(0.22, 0.27)
        middle = np.where(rng.random(2) < 0.5, corner, 1 - corner)
        ring = middle + radius * np.stack([np.cos(turn), np.sin(turn)], axis=1)
        out = middle + np.linspace(radius, 1.3, 32)[:, None] * np.array([np.cos(first), np.sin(first)])
        lines, kind = [ring, out], "ring street"
    builder.layout = replace(builder.layout, kinds=builder.layout.kinds | {kind})
    for line in lines:
        builder.add_road(line, width)
    return lines


def _add_blocks(builder: LayoutBuilder, plan: Plan, lines: list[Array]) -> None:
    """Rows of houses along both streets; at times two large halls among them."""
    rng = builder.rng
    step = lines[0][-1] - lines[0][0]
    angle = float(np.arctan2(step[1], step[0]))
    placed = 0
    if plan.buildings <= 12 and rng.random() < 0.5:
        while placed < 2:
            x, y = rng.uniform(0.2, 0.8, 2)
            placed += builder.add_building(x, y, rng.uniform(0.17, 0.2), rng.uniform(0.12, 0.16), angle, roof=7)
            if rng.random() < 0.05:
                break
    first = (plan.buildings - placed + 1) // 2
    builder.add_houses_along(lines[0], first, 0.095)
    builder.add_houses_along(lines[1], plan.buildings - placed - first, 0.095)
