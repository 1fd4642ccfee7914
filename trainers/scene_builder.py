"""Places water, fields, roads, buildings and vehicles of the SYNTHETIC aerial world so that none hides another."""

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
    Road,
    along_line,
    blob,
    cornered_line,
    crescent,
    crossing_line,
    meander,
    rectangle,
    ribbon,
)

GRID = 128  # cells per side of the occupancy maps
HOUSE_SIDES = (0.075, 0.12)  # 11-17 px at 144 px
ROAD_WIDTHS = (0.05, 0.068)


class DoesNotFitError(Exception):
    """The asked number of objects found no room; the caller draws another layout."""


class LayoutBuilder:
    """Places objects one after the other so that none hides another."""

    def __init__(self, rng: np.random.Generator, ground: Literal["grass", "soil"], unseen: bool = False) -> None:
        """`unseen` builds from TEST_LAYOUTS instead of TRAINING_LAYOUTS."""
        self.rng, self.unseen = rng, unseen
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

    def state(self) -> tuple[Layout, Image.Image]:
        """What `go_back` takes to undo all that is placed from here on but water, which goes first."""
        return self.layout, self._taken.copy()

    def go_back(self, state: tuple[Layout, Image.Image]) -> None:
        self.layout, self._taken = state[0], state[1].copy()

    def is_free(self, x: float, y: float, radius: float, inside: bool = True) -> bool:
        if inside and not (radius <= x <= 1 - radius and radius <= y <= 1 - radius):
            return False
        box = [int(np.floor((v + d) * GRID)) for d in (-radius, radius) for v in (x, y)]
        return self._taken.crop((box[0], box[1], box[2] + 1, box[3] + 1)).getbbox() is None

    def _try(self, place: Callable[[], bool], tries: int = 60) -> None:
        if not any(place() for _ in range(tries)):
            raise DoesNotFitError

    def _mark(self, familiar: str, unseen: str) -> bool:
        """Notes which of two kinds of layout is built; true for the unseen one."""
        self.layout = replace(self.layout, kinds=self.layout.kinds | {unseen if self.unseen else familiar})
        return self.unseen

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
            if self._mark("round lake", "crescent lake"):
                self.add_water(crescent(self.rng, x, y, radius * 1.15))
            else:
                self.add_water(blob(self.rng, x, y, radius, self.rng.uniform(1.0, 1.2)))
            return True

        self._try(place)

    def add_wide_lake(self) -> None:
        """Water over more than half of the picture."""
        if self._mark("round lake", "crescent lake"):
            x, y = self.rng.uniform(0.46, 0.54, 2)
            outline = crescent(self.rng, x, y, self.rng.uniform(0.6, 0.66))
            self.add_water(outline - outline.mean(axis=0) + [x, y])  # the bend's own middle lies on dry ground
            return
        x, y = self.rng.uniform(0.42, 0.58, 2)
        self.add_water(blob(self.rng, x, y, self.rng.uniform(0.43, 0.5), self.rng.uniform(1.0, 1.15)))

    def wet_share(self) -> float:
        """Share of the picture that is water."""
        return float((np.asarray(self._wet) > 0).mean())

    def add_river(self, width: float) -> None:
        line = meander(self.rng) if self._mark("gentle river", "meandering river") else crossing_line(self.rng, 0.3)
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
        """Parcels over the whole picture, turned by one angle: a quilt, or the circles of pivot irrigation."""
        if self._mark("parcel quilt", "round fields"):
            self._cover_with_circles()
            return
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

    def _cover_with_circles(self) -> None:
        radius, angle = self.rng.uniform(0.2, 0.26), self.rng.uniform(0, np.pi)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        circle = np.stack([np.cos(np.linspace(0, 6.28, 40)), np.sin(np.linspace(0, 6.28, 40))], axis=1) * radius * 0.97
        for row in range(-2, 3):
            for column in range(-2, 3):
                centre = np.array([(2 * column + row % 2) * radius, row * radius * 1.75]) @ turn.T + 0.5
                if ((centre > -radius) & (centre < 1 + radius)).all():
                    self.add_field(centre + circle)

    def add_trees(self, outline: Array | None, spacing: float, limit: int = 2000) -> None:
        """Crowns on a jittered lattice, inside `outline` or wherever there is room."""
        inside = Image.new("L", (GRID, GRID), 0 if outline is not None else 255)
        if outline is not None:
            ImageDraw.Draw(inside).polygon([(float(x) * GRID, float(y) * GRID) for x, y in outline], fill=255)
        wanted = np.asarray(inside) > 0
        steps = np.arange(-spacing / 2, 1 + spacing, spacing)
        x, y = (a.ravel() for a in np.meshgrid(steps, steps))
        jitter, large = (0.1, 0.72) if self._mark("rounded wood", "planted rows") else (0.45, 0.9)
        x, y = (a + self.rng.uniform(-jitter, jitter, a.shape) * spacing for a in (x, y))
        radius = self.rng.uniform(0.5, large, x.shape) * spacing
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

        cornered = self._mark("bent road", "cornered road")
        lines = (cornered_line(self.rng) if cornered else crossing_line(self.rng, 0.22) for _ in range(tries))
        line = min(lines, key=cost)
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
            found = self._find_block(length, width)
            if found is None:
                return False
            x, y, angle, outline = found
            along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
            offsets = np.arange(-length / 2 + 0.03, length / 2 - 0.015, 0.032)
            stalls = [(*(np.array([x, y]) + along * a + across * b), angle + np.pi / 2)
                      for b in (-width * 0.36, width * 0.36) for a in offsets]  # fmt: skip
            self.layout = replace(self.layout, lots=(*self.layout.lots, Lot(outline, np.array(stalls))))
            self.take(outline, pad=1)
            return True

        self._try(place, tries=150)

    def _find_block(self, length: float, width: float) -> tuple[float, float, float, Array] | None:
        """Free place for a rectangle: x, y, angle and outline."""
        x, y = self.rng.uniform(0.2, 0.8, 2)
        if not self.is_free(x, y, length / 2):
            return None
        angle = self.rng.uniform(0, np.pi)
        return x, y, angle, rectangle(x, y, length, width, angle)

    def _take_block(self, length: float, width: float) -> Array:
        """Outline of a rectangle on free ground, which it takes."""
        for _ in range(150):
            found = self._find_block(length, width)
            if found is not None:
                self.take(found[3], pad=1)
                return found[3]
        raise DoesNotFitError

    def add_panels(self, shrink: float = 1.0) -> None:
        """A solar farm: one block of panel rows."""
        outline = self._take_block(shrink * self.rng.uniform(0.26, 0.34), shrink * self.rng.uniform(0.18, 0.24))
        self.layout = replace(self.layout, panels=(*self.layout.panels, outline))

    def add_pitch(self, shrink: float = 1.0) -> None:
        """A sports field with its white lines."""
        outline = self._take_block(shrink * self.rng.uniform(0.3, 0.34), shrink * self.rng.uniform(0.2, 0.22))
        self.layout = replace(self.layout, pitches=(*self.layout.pitches, outline))

    def add_tanks(self, count: int) -> None:
        """Storage tanks of one size, in a row or two."""

        def place() -> bool:
            radius = self.rng.uniform(0.038, 0.052)
            (x, y), angle = self.rng.uniform(0.12, 0.88, 2), self.rng.uniform(0, np.pi)
            along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
            columns = (count + 1) // 2 if count > 2 else count
            spots = [
                np.array([x, y]) + 2.5 * radius * (along * (k % columns) + across * (k // columns))
                for k in range(count)
            ]
            if not all(self.is_free(spot[0], spot[1], radius * 1.1) for spot in spots):
                return False
            new = np.array([(*spot, radius) for spot in spots])
            self.layout = replace(self.layout, tanks=np.concatenate([self.layout.tanks, new]))
            for spot in spots:
                self.take(rectangle(spot[0], spot[1], 2 * radius, 2 * radius, 0.0), pad=1)
            return True

        self._try(place, tries=200)

    def add_vehicles(self, count: int) -> None:
        roads, lots, rng = self.layout.roads, self.layout.lots, self.rng
        if count and not (roads or lots):
            raise DoesNotFitError

        def place() -> bool:
            if lots and (not roads or rng.random() < 0.5):
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
