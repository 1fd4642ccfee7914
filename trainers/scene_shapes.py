"""What a synthetic aerial scene is made of: outlines, things, the layout that holds them.

The world is SYNTHETIC: no real place, no real picture. A layout lives on the unit square (x right, y down) and holds
no pixels; `scenes.py` paints it at any size, `scene_layout.py` fills it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

VEHICLE_LENGTH, VEHICLE_WIDTH = 0.036, 0.019  # 5 x 2.7 px when the picture is seen at 144 px
BOAT_LENGTH, BOAT_WIDTH = 0.055, 0.023
LAND_CLASSES = (
    "ground", "bare", "field", "tree", "water", "road", "parking lot", "building", "flood", "storage tank",
    "solar panels", "sports field",
)  # fmt: skip
# How roads, parcels, water and woods may lie. A test scene is built from the second row alone.
TRAINING_LAYOUTS = (
    "parallel streets", "street grid", "bent road", "parcel quilt", "round lake", "gentle river", "rounded wood",
)  # fmt: skip
TEST_LAYOUTS = (
    "radial streets", "ring street", "cornered road", "round fields", "crescent lake", "meandering river",
    "planted rows",
)  # fmt: skip

Array = np.ndarray
Cover = Literal["built-up area", "forest", "cropland", "grassland", "bare land", "water"]


@dataclass(frozen=True)
class Building:
    parts: tuple[Array, ...]  # one or two rectangles (4, 2); edge 0-1 runs along the ridge
    roof: int
    height: float  # shadow length in picture units, for a sun at 45 degrees
    flat: bool


@dataclass(frozen=True)
class Road:
    line: Array  # (points, 2)
    width: float


@dataclass(frozen=True)
class Field:
    outline: Array  # (4, 2)
    crop: int
    angle: float  # direction of the rows, radians


@dataclass(frozen=True)
class Lot:
    outline: Array  # (4, 2), edge 0-1 is the long side
    stalls: Array  # (n, 3) x, y, angle of the parking places


@dataclass(frozen=True)
class Mover:
    """A vehicle or a boat: centre, heading (radians), colour number."""

    x: float
    y: float
    angle: float
    colour: int


@dataclass(frozen=True)
class Layout:
    """Everything that stays in place, and the movers at one moment. Outlines are (points, 2)."""

    ground: Literal["grass", "soil"]
    texture: tuple[int, int]  # where in the noise tile this place lies
    water: tuple[Array, ...] = ()
    bare: tuple[Array, ...] = ()
    fields: tuple[Field, ...] = ()
    roads: tuple[Road, ...] = ()
    lots: tuple[Lot, ...] = ()
    buildings: tuple[Building, ...] = ()
    trees: Array = field(default_factory=lambda: np.zeros((0, 4)))  # (trees, 4) x, y, radius, tint
    vehicles: tuple[Mover, ...] = ()
    boats: tuple[Mover, ...] = ()
    flood: tuple[Array, ...] = ()
    tanks: Array = field(default_factory=lambda: np.zeros((0, 3)))  # (tanks, 3) x, y, radius
    panels: tuple[Array, ...] = ()  # blocks of solar panels (4, 2), edge 0-1 runs along the rows
    pitches: tuple[Array, ...] = ()  # sports fields (4, 2), edge 0-1 is the long side
    kinds: frozenset[str] = frozenset()  # of TRAINING_LAYOUTS or TEST_LAYOUTS


@dataclass(frozen=True)
class Plan:
    """Exact contents of a scene; the answers to its questions follow from this alone."""

    cover: Cover
    water: int = 0  # separate water areas
    river: bool = False  # the only water area is a river
    roads: int = 0
    buildings: int = 0
    vehicles: int = 0
    boats: int = 0
    lot: bool = False
    forest: bool = False
    crops: bool = False
    tanks: int = 0
    solar: bool = False
    pitch: bool = False

    @property
    def urban(self) -> bool:
        return self.cover == "built-up area"


def points(outline: Array, scale: float) -> list[tuple[float, float]]:
    """An outline on the unit square, `(corners, 2)`, as Pillow takes it for a picture of `scale` pixels a side."""
    return [(x, y) for x, y in (outline * scale).tolist()]


def rectangle(x: float, y: float, length: float, width: float, angle: float) -> Array:
    """Corners (4, 2) of a rectangle whose edge 0-1 has the given length and direction."""
    along = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    across = np.array([-np.sin(angle), np.cos(angle)]) * width / 2
    centre = np.array([x, y])
    return np.stack(
        [centre - along - across, centre + along - across, centre + along + across, centre - along + across]
    )


def blob(rng: np.random.Generator, x: float, y: float, radius: float, stretch: float = 1.0) -> Array:
    """Smooth closed outline (48, 2): a circle bent by a few harmonics."""
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    bend = np.ones_like(turn)
    for order in (2, 3, 5):
        bend += rng.uniform(0.04, 0.28) / order * np.cos(order * turn + rng.uniform(0, 2 * np.pi))
    axis = rng.uniform(0, np.pi)
    u, v = radius * bend * np.cos(turn) * stretch, radius * bend * np.sin(turn) / stretch
    return np.stack([x + u * np.cos(axis) - v * np.sin(axis), y + u * np.sin(axis) + v * np.cos(axis)], axis=1)


def crossing_line(rng: np.random.Generator, bend: float) -> Array:
    """Curve (32, 2) that enters at one side of the picture and leaves at another."""
    angle = rng.uniform(0, np.pi)
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    t = np.linspace(-0.95, 0.95, 32)[:, None]
    wave = rng.uniform(-bend, bend) * (t**2 - 0.3) + rng.uniform(-bend, bend) * np.sin(t * 3.3) * 0.5
    return 0.5 + along * t + across * (rng.uniform(-0.3, 0.3) + wave)


def cornered_line(rng: np.random.Generator) -> Array:
    """Curve (32, 2) through the picture that turns once, by about a right angle."""
    angle, turn = rng.uniform(0, 2 * np.pi), rng.choice([-1, 1]) * rng.uniform(1.2, 1.8)
    corner, t = rng.uniform(0.36, 0.64, 2), np.linspace(-1, 1, 32)[:, None]
    directions = [np.array([np.cos(a), np.sin(a)]) for a in (angle, angle + np.pi - turn)]
    # a soft absolute value rounds the corner
    away = np.sqrt(t**2 + 0.006)
    return corner + directions[0] * (away - t) / 2 + directions[1] * (away + t) / 2


def meander(rng: np.random.Generator) -> Array:
    """Curve (64, 2) through the picture with two or three wide bends."""
    angle, bends = rng.uniform(0, np.pi), rng.uniform(2.2, 3.4)
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    t = np.linspace(-0.95, 0.95, 64)[:, None]
    return 0.5 + along * t + across * rng.uniform(0.15, 0.2) * np.sin(bends * np.pi * t + rng.uniform(0, 6.28))


def crescent(rng: np.random.Generator, x: float, y: float, radius: float) -> Array:
    """Outline (48, 2) of a bent strip of water about `radius` from its middle, as a cut-off river bend leaves it."""
    turn = rng.uniform(0, 2 * np.pi) + np.linspace(0, rng.uniform(2.8, 3.7), 24)
    line = np.stack([x + radius * 0.72 * np.cos(turn), y + radius * 0.72 * np.sin(turn)], axis=1)
    return ribbon(line, radius * (0.3 + 0.6 * np.sin(np.linspace(0.25, np.pi - 0.25, 24))))


def ribbon(line: Array, width: float | Array) -> Array:
    """Outline (2 * points, 2) of a strip of the given width around a line."""
    step = np.gradient(line, axis=0)
    normal = np.stack([-step[:, 1], step[:, 0]], axis=1) / np.linalg.norm(step, axis=1, keepdims=True)
    half = np.broadcast_to(np.asarray(width) / 2, (len(line),))[:, None]
    return np.concatenate([line + normal * half, (line - normal * half)[::-1]])


def along_line(line: Array, at: float, offset: float) -> tuple[float, float, float]:
    """Point at the share `at` of a line, moved sideways by `offset`; returns x, y, direction."""
    position = np.clip(at, 0, 1) * (len(line) - 1)
    k = min(int(position), len(line) - 2)
    step = line[k + 1] - line[k]
    angle = float(np.arctan2(step[1], step[0]))
    x, y = line[k] + step * (position - k)
    return float(x - np.sin(angle) * offset), float(y + np.cos(angle) * offset), angle
