"""Places water, fields, roads, buildings and vehicles of the SYNTHETIC aerial world so that none hides another.

`build_layout` turns a `Plan` (exact contents) into a `Layout`. Same generator state -> same layout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

from .scene_shapes import (
    Array,
    Building,
    Field,
    Layout,
    Lot,
    Mover,
    Plan,
    Road,
    along_line,
    blob,
    crossing_line,
    rectangle,
    ribbon,
)

GRID = 128  # cells per side of the occupancy maps
HOUSE_SIDES = (0.075, 0.12)  # 11-17 px at 144 px
ROAD_WIDTHS = (0.05, 0.068)
LAYOUT_DRAWS = 60  # nearly every plan fits in a few


class DoesNotFitError(Exception):
    """The asked number of objects found no room; the caller draws another layout."""


class LayoutBuilder:
    """Places objects one after the other so that none hides another."""

    def __init__(self, rng: np.random.Generator, ground: Literal["grass", "soil"]) -> None:
        self.rng = rng
        self.layout = Layout(ground, (int(rng.integers(512)), int(rng.integers(512))))
        self._taken = Image.new("L", (GRID, GRID))
        self._wet = Image.new("L", (GRID, GRID))

    # -- occupancy ---------------------------------------------------------------------------------------------
    def take(self, outline: Array, pad: int = 0) -> None:
        points = [(float(x) * GRID, float(y) * GRID) for x, y in outline]
        draw = ImageDraw.Draw(self._taken)
        draw.polygon(points, fill=255)
        if pad:
            draw.line([*points, points[0]], fill=255, width=2 * pad)

    def is_free(self, x: float, y: float, radius: float, inside: bool = True) -> bool:
        if inside and not (radius <= x <= 1 - radius and radius <= y <= 1 - radius):
            return False
        box = [int(np.floor((v + d) * GRID)) for d in (-radius, radius) for v in (x, y)]
        return self._taken.crop((box[0], box[1], box[2] + 1, box[3] + 1)).getbbox() is None

    def _try(self, place: Callable[[], bool], tries: int = 60) -> None:
        if not any(place() for _ in range(tries)):
            raise DoesNotFitError

    # -- land cover --------------------------------------------------------------------------------------------
    def add_water(self, outline: Array) -> None:
        self.layout = replace(self.layout, water=(*self.layout.water, outline))
        self.take(outline, pad=3)
        ImageDraw.Draw(self._wet).polygon([(float(x) * GRID, float(y) * GRID) for x, y in outline], fill=255)

    def add_lake(self, low: float, high: float) -> None:
        def place() -> bool:
            radius = self.rng.uniform(low, high)
            x, y = self.rng.uniform(radius + 0.02, 0.98 - radius, 2)
            if not self.is_free(x, y, radius * 1.15, inside=False):
                return False
            self.add_water(blob(self.rng, x, y, radius, self.rng.uniform(1.0, 1.2)))
            return True

        self._try(place)

    def add_river(self, width: float) -> None:
        line = crossing_line(self.rng, 0.3)
        waver = 1 + 0.15 * np.sin(np.linspace(0, 9, len(line)) + self.rng.uniform(0, 6))
        self.add_water(ribbon(line, width * waver))

    def add_bare(self, outline: Array) -> None:
        self.layout = replace(self.layout, bare=(*self.layout.bare, outline))

    def add_field(self, outline: Array, crop: int | None = None) -> None:
        side = outline[1] - outline[0]
        angle = float(np.arctan2(side[1], side[0])) + float(self.rng.choice([0.0, np.pi / 2]))
        parcel = Field(outline, int(self.rng.integers(6)) if crop is None else crop, angle)
        self.layout = replace(self.layout, fields=(*self.layout.fields, parcel))

    def add_single_field(self, shrink: float) -> None:
        def place() -> bool:
            length, width = shrink * self.rng.uniform(0.28, 0.42), shrink * self.rng.uniform(0.22, 0.34)
            x, y = self.rng.uniform(0.16, 0.84, 2)
            if not self.is_free(x, y, 0.14 * shrink, inside=False):
                return False
            outline = rectangle(x, y, length, width, self.rng.uniform(0, np.pi))
            self.add_field(outline)
            self.take(outline)
            return True

        self._try(place)

    def cover_with_fields(self) -> None:
        """Quilt of parcels over the whole picture, turned by one angle."""
        rows, columns = int(self.rng.integers(2, 5)), int(self.rng.integers(2, 4))
        angle = self.rng.uniform(0, np.pi)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        xs, ys = np.linspace(-0.75, 0.75, columns + 2), np.linspace(-0.75, 0.75, rows + 2)
        xs[1:-1] += self.rng.uniform(-0.06, 0.06, columns)
        ys[1:-1] += self.rng.uniform(-0.06, 0.06, rows)
        gap = 0.006
        for left, right in pairwise(xs):
            for top, bottom in pairwise(ys):
                corners = [[left + gap, top + gap], [right - gap, top + gap]]
                corners += [[right - gap, bottom - gap], [left + gap, bottom - gap]]
                self.add_field(np.array(corners) @ turn.T + 0.5)

    def add_trees(self, outline: Array | None, spacing: float, limit: int = 2000) -> None:
        """Crowns on a jittered lattice, inside `outline` or wherever there is room."""
        inside = Image.new("L", (GRID, GRID), 0 if outline is not None else 255)
        if outline is not None:
            ImageDraw.Draw(inside).polygon([(float(x) * GRID, float(y) * GRID) for x, y in outline], fill=255)
        wanted = np.asarray(inside) > 0
        steps = np.arange(-spacing / 2, 1 + spacing, spacing)
        x, y = (a.ravel() for a in np.meshgrid(steps, steps))
        x, y = (a + self.rng.uniform(-0.45, 0.45, a.shape) * spacing for a in (x, y))
        radius = self.rng.uniform(0.5, 0.9, x.shape) * spacing
        tint = np.clip(self.rng.normal(0.5, 0.22, x.shape), 0, 1)
        column, row = (np.clip((a * GRID).astype(int), 0, GRID - 1) for a in (x, y))
        candidates = self.rng.permutation(np.flatnonzero(wanted[row, column]))
        rows = [i for i in candidates if self.is_free(x[i], y[i], radius[i] * 0.8, inside=False)]
        new = np.stack([x, y, radius, tint], axis=1)[rows[:limit]]
        self.layout = replace(self.layout, trees=np.concatenate([self.layout.trees, new]))

    def add_lone_trees(self, count: int) -> None:
        for _ in range(count):
            x, y, radius = self.rng.uniform(0, 1), self.rng.uniform(0, 1), self.rng.uniform(0.02, 0.036)
            if self.is_free(x, y, radius, inside=False):
                self.layout = replace(
                    self.layout, trees=np.concatenate([self.layout.trees, [[x, y, radius, self.rng.uniform(0, 1)]]])
                )
                self.take(rectangle(x, y, 2 * radius, 2 * radius, 0.0))

    # -- built things ------------------------------------------------------------------------------------------
    def add_road(self, line: Array, width: float) -> None:
        self.layout = replace(self.layout, roads=(*self.layout.roads, Road(line, width)))
        outline = ribbon(line, width)
        self.take(outline, pad=1)
        ImageDraw.Draw(self._wet).polygon([(float(x) * GRID, float(y) * GRID) for x, y in outline], fill=0)

    def add_crossing_road(self, tries: int = 14) -> Array:
        """Road through the picture on the line that meets least of what already stands there."""
        taken = np.asarray(self._taken)

        def cost(line: Array) -> float:
            cells = np.floor(line * GRID).astype(int)
            seen = cells[((cells >= 6) & (cells < GRID - 6)).all(axis=1)]
            return 9.0 if len(seen) < 13 else float((taken[seen[:, 1], seen[:, 0]] > 0).mean())

        line = min((crossing_line(self.rng, 0.22) for _ in range(tries)), key=cost)
        self.add_road(line, self.rng.uniform(*ROAD_WIDTHS))
        return line

    def add_building(self, x: float, y: float, length: float, width: float, angle: float, roof: int = -1) -> bool:
        if not self.is_free(x, y, max(length, width) * 0.56):
            return False
        parts = [rectangle(x, y, length, width, angle)]
        if self.rng.random() < 0.35:  # L shape: a wing across one end, no longer than the house is
            shift = np.array([np.cos(angle), np.sin(angle)]) * length * 0.29
            parts = [rectangle(x, y, length, width * 0.62, angle)]
            wing_x, wing_y = np.array([x, y]) + shift * self.rng.choice([-1, 1])
            parts.append(rectangle(wing_x, wing_y, width * 1.05, length * 0.42, angle + np.pi / 2))
        flat = length > 0.16 or self.rng.random() < 0.25
        number = int(self.rng.integers(8)) if roof < 0 else roof
        building = Building(tuple(parts), number, float(self.rng.uniform(0.018, 0.034)), bool(flat))
        self.layout = replace(self.layout, buildings=(*self.layout.buildings, building))
        self.take(rectangle(x, y, length, max(width, length * 0.7), angle), pad=2)
        return True

    def add_houses_along(self, line: Array, count: int, setback: float, spacing: float = 0.135) -> None:
        """Rows on both sides of a road, then anywhere near it until `count` houses stand."""
        step = np.linalg.norm(np.diff(line, axis=0), axis=1)
        reach = np.concatenate([[0], np.cumsum(step)])
        roof = int(self.rng.integers(8)) if self.rng.random() < 0.4 else -1
        spots = [(at, side) for at in np.arange(self.rng.uniform(0, 0.1), reach[-1], spacing) for side in (-1, 1)]
        placed = 0
        for k in self.rng.permutation(len(spots)):
            at, side = spots[k]
            x, y, angle = along_line(line, at / reach[-1], side * setback)
            length, width = self.rng.uniform(0.095, HOUSE_SIDES[1]), self.rng.uniform(HOUSE_SIDES[0], 0.092)
            placed += placed < count and self.add_building(x, y, length, width, angle, roof)
        self.add_houses(count - placed)

    def add_houses(self, count: int) -> None:
        angle = self.rng.uniform(0, np.pi)

        def place() -> bool:
            x, y = self.rng.uniform(0.07, 0.93, 2)
            length, width = self.rng.uniform(0.09, HOUSE_SIDES[1]), self.rng.uniform(HOUSE_SIDES[0], 0.095)
            return self.add_building(x, y, length, width, angle + float(self.rng.choice([0, np.pi / 2])))

        for _ in range(count):
            self._try(place, tries=120)

    def add_lot(self, length: float = 0.3, width: float = 0.2) -> None:
        """Parking lot with two rows of painted places."""

        def place() -> bool:
            x, y = self.rng.uniform(0.2, 0.8, 2)
            if not self.is_free(x, y, 0.15):
                return False
            angle = self.rng.uniform(0, np.pi)
            outline = rectangle(x, y, length, width, angle)
            along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
            offsets = np.arange(-length / 2 + 0.03, length / 2 - 0.015, 0.032)
            stalls = [(*(np.array([x, y]) + along * a + across * b), angle + np.pi / 2)
                      for b in (-width * 0.36, width * 0.36) for a in offsets]  # fmt: skip
            self.layout = replace(self.layout, lots=(*self.layout.lots, Lot(outline, np.array(stalls))))
            self.take(outline, pad=1)
            return True

        self._try(place, tries=150)

    def add_vehicles(self, count: int, roads_only: bool = False) -> None:
        roads, lots, rng = self.layout.roads, self.layout.lots, self.rng
        if count and not (roads or lots):
            raise DoesNotFitError

        def place() -> bool:
            if lots and not roads_only and (not roads or rng.random() < 0.5):
                x, y, angle = lots[rng.integers(len(lots))].stalls[rng.integers(len(lots[0].stalls))]
            else:
                road = roads[rng.integers(len(roads))]
                side = float(rng.choice([-1, 1]))
                x, y, angle = along_line(road.line, rng.uniform(0.05, 0.95), side * road.width * 0.25)
                angle += np.pi * (side < 0)
            far = all(np.hypot(x - v.x, y - v.y) > (0.031 if lots else 0.05) for v in self.layout.vehicles)
            if not far or min(x, y) < 0.03 or max(x, y) > 0.97:
                return False
            mover = Mover(float(x), float(y), float(angle), int(rng.integers(6)))
            self.layout = replace(self.layout, vehicles=(*self.layout.vehicles, mover))
            return True

        for _ in range(count):
            self._try(place, tries=150)

    def add_boats(self, count: int) -> None:
        wet = np.asarray(self._wet)

        def place() -> bool:
            x, y = self.rng.uniform(0.05, 0.95, 2)
            reach = 0.036
            low_x, high_x, low_y, high_y = (int((v + d) * GRID) for v in (x, y) for d in (-reach, reach))
            clear = wet[low_y : high_y + 1, low_x : high_x + 1].all()
            if not clear or any(np.hypot(x - b.x, y - b.y) < 0.07 for b in self.layout.boats):
                return False
            boat = Mover(float(x), float(y), float(self.rng.uniform(0, 2 * np.pi)), int(self.rng.integers(6)))
            self.layout = replace(self.layout, boats=(*self.layout.boats, boat))
            return True

        for _ in range(count):
            self._try(place, tries=400)


def build_layout(rng: np.random.Generator, plan: Plan) -> Layout:
    """A layout that holds exactly what the plan says.

    Raises:
        DoesNotFitError: none of LAYOUT_DRAWS attempts found room for everything.
    """
    for _ in range(LAYOUT_DRAWS):
        try:
            return _build_once(rng, plan).layout
        except DoesNotFitError:
            continue
    raise DoesNotFitError(str(plan))


def _build_once(rng: np.random.Generator, plan: Plan) -> LayoutBuilder:
    ground: Literal["grass", "soil"] = "grass" if plan.cover != "bare land" else "soil"
    if plan.urban and rng.random() < 0.35:
        ground = "soil"
    builder = LayoutBuilder(rng, ground)
    # 1. the wide things first: streets, parcels, water
    if plan.urban:
        lines = _add_streets(builder, plan)
        if plan.lot:
            builder.add_lot()
    if plan.cover == "cropland":
        builder.cover_with_fields()
    if plan.cover == "water":
        x, y = rng.uniform(0.42, 0.58, 2)
        big = blob(rng, x, y, rng.uniform(0.43, 0.5), rng.uniform(1.0, 1.15))
        builder.add_water(big) if not plan.river else builder.add_river(rng.uniform(0.48, 0.56))
    elif plan.river:
        builder.add_river(rng.uniform(0.13, 0.17))
    else:
        for _ in range(plan.water):
            builder.add_lake(0.075 if plan.water > 1 else 0.13, 0.1 if plan.water > 1 else 0.17)
    # 2. roads and what stands beside them
    if not plan.urban:
        lines = [builder.add_crossing_road() for _ in range(plan.roads)]
        if plan.lot:
            builder.add_lot()
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
    """Two parallel streets and, where nothing else needs the room, a cross street."""
    rng = builder.rng
    angle, width = rng.uniform(0, np.pi), rng.uniform(0.05, 0.06)
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    reach, bend = np.linspace(-0.9, 0.9, 32)[:, None], rng.uniform(-0.08, 0.08)
    roomy = plan.lot or plan.forest or plan.crops or plan.water > 0  # then one side stays free for these
    offsets = rng.uniform(-0.04, 0.04) + (np.array([-0.36, -0.03]) if roomy else np.array([-0.22, 0.22]))
    lines = [0.5 + along * reach + across * (offset + bend * reach**2) for offset in offsets]
    cross = 0.5 + across * reach + along * rng.uniform(-0.3, 0.3)
    for line in lines if roomy else [*lines, cross]:
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
