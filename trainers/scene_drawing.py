"""Draws the things of the SYNTHETIC aerial world: paving, movers, panels, pitches, roofs, crowns, shadows."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from .scene_look import Look
from .scene_shapes import (
    BOAT_LENGTH,
    BOAT_WIDTH,
    VEHICLE_LENGTH,
    VEHICLE_WIDTH,
    Array,
    Layout,
    Mover,
    points,
    rectangle,
)

SHADOW_ALPHA = 0.55

Colour = tuple[int, int, int]
ROOFS: tuple[Colour, ...] = (
    (150, 84, 66), (168, 108, 84), (128, 126, 126), (92, 92, 98), (198, 192, 182), (120, 98, 82), (84, 100, 122),
    (222, 222, 218),
)  # fmt: skip
PAINTS: tuple[Colour, ...] = (
    (235, 235, 235), (28, 30, 34), (168, 36, 34), (190, 192, 196), (40, 66, 130), (226, 196, 70),
)  # fmt: skip


def mix_colours(a: Colour | Array, b: Colour | Array, share: float) -> Array:
    return np.asarray(a, np.float32) * (1 - share) + np.asarray(b, np.float32) * share


def as_colour(colour: Array) -> Colour:
    red, green, blue = (min(max(int(c), 0), 255) for c in colour.tolist())
    return red, green, blue


def draw_paved(draw: ImageDraw.ImageDraw, layout: Layout, scale: float) -> None:
    verge_tone, asphalt = (186, 180, 170), (122, 122, 124)
    for colour, share in ((verge_tone, 1.22), (asphalt, 1.0)):  # all verges first, so that crossings stay open
        for road in layout.roads:
            width = road.width * share
            draw.line(points(road.line, scale), fill=colour, width=round(width * scale), joint="curve")
    for road in layout.roads:
        steps = np.linspace(0, len(road.line) - 1, 160)
        fine = np.stack([np.interp(steps, np.arange(len(road.line)), road.line[:, k]) for k in (0, 1)], axis=1)
        for k in range(0, len(fine) - 2, 4):
            draw.line(points(fine[k : k + 3], scale), fill=(226, 222, 206), width=max(1, round(scale * 0.005)))
    for lot in layout.lots:
        draw.polygon(points(lot.outline, scale), fill=(112, 113, 118))
        for x, y, angle in lot.stalls:
            place = rectangle(x, y, 0.056, 0.032, angle)
            for a, b in ((0, 1), (3, 2)):
                draw.line(points(place[[a, b]], scale), fill=(214, 214, 210), width=max(1, round(scale * 0.0045)))


def _between(outline: Array, u: float, v: float) -> Array:
    """Point of a rectangle at the shares `u` of its edge 0-1 and `v` of its edge 0-3."""
    return outline[0] + (outline[1] - outline[0]) * u + (outline[3] - outline[0]) * v


def draw_panels(draw: ImageDraw.ImageDraw, outline: Array, scale: float) -> None:
    """Rows of dark blue panels on pale ground."""
    draw.polygon(points(outline, scale), fill=(150, 146, 122))
    rows = max(4, round(float(np.linalg.norm(outline[3] - outline[0])) / 0.036))
    for row in range(rows):
        low, high = (row + 0.1) / rows, (row + 0.78) / rows
        panel = [_between(outline, u, v) for u, v in ((0.03, low), (0.97, low), (0.97, high), (0.03, high))]
        draw.polygon(points(np.stack(panel), scale), fill=(38, 50, 88))
        middle = np.stack([_between(outline, u, (low + high) / 2) for u in (0.03, 0.97)])
        draw.line(points(middle, scale), fill=(84, 100, 140), width=max(1, round(scale * 0.003)))


def draw_pitch(draw: ImageDraw.ImageDraw, outline: Array, scale: float) -> None:
    """Mown stripes, and the white lines of a soccer field."""
    for k in range(8):
        stripe = [_between(outline, u, v) for u, v in ((k / 8, 0), ((k + 1) / 8, 0), ((k + 1) / 8, 1), (k / 8, 1))]
        draw.polygon(points(np.stack(stripe), scale), fill=(64, 116, 60) if k % 2 else (78, 132, 68))
    boxes = ((0.05, 0.06, 0.95, 0.94), (0.05, 0.06, 0.5, 0.94), (0.05, 0.28, 0.19, 0.72), (0.81, 0.28, 0.95, 0.72))
    width = max(1, round(scale * 0.0045))
    for left, low, right, high in boxes:
        corners = ((left, low), (right, low), (right, high), (left, high), (left, low))
        draw.line(points(np.stack([_between(outline, *c) for c in corners]), scale), fill=(228, 232, 224), width=width)
    turn = np.linspace(0, 2 * np.pi, 24)
    radius = float(np.linalg.norm(outline[3] - outline[0])) * 0.15
    circle = _between(outline, 0.5, 0.5) + radius * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    draw.line(points(circle, scale), fill=(228, 232, 224), width=width)


def draw_vehicle(draw: ImageDraw.ImageDraw, vehicle: Mover, scale: float, length: float = VEHICLE_LENGTH) -> None:
    width = VEHICLE_WIDTH * length / VEHICLE_LENGTH
    paint = PAINTS[vehicle.colour]
    draw.polygon(
        points(rectangle(vehicle.x + 0.004, vehicle.y + 0.004, length, width, vehicle.angle), scale),
        fill=(60, 60, 62),
    )
    draw.polygon(points(rectangle(vehicle.x, vehicle.y, length, width, vehicle.angle), scale), fill=paint)
    x, y = vehicle.x + np.cos(vehicle.angle) * 0.14 * length, vehicle.y + np.sin(vehicle.angle) * 0.14 * length
    screen = rectangle(x, y, 0.18 * length, width * 0.8, vehicle.angle)
    draw.polygon(points(screen, scale), fill=(58, 64, 72) if sum(paint) > 200 else (104, 112, 122))


def draw_boat(draw: ImageDraw.ImageDraw, boat: Mover, scale: float, wake: float = 0.0) -> None:
    """Pointed hull with a deck; `wake` is the length of the foam behind it in picture units."""
    ahead = np.array([np.cos(boat.angle), np.sin(boat.angle)])
    side = np.array([-ahead[1], ahead[0]])
    centre = np.array([boat.x, boat.y])
    stern = centre - ahead * BOAT_LENGTH / 2
    for spread in (-1, 1) if wake else ():
        foam = [stern, stern - ahead * wake + side * spread * wake * 0.3, stern - ahead * wake * 0.8]
        draw.polygon(points(np.stack(foam), scale), fill=(196, 208, 210))
    half = side * BOAT_WIDTH / 2
    hull = [stern - half, centre + ahead * BOAT_LENGTH * 0.2 - half, centre + ahead * BOAT_LENGTH * 0.5]
    hull += [centre + ahead * BOAT_LENGTH * 0.2 + half, stern + half]
    draw.polygon(points(np.stack(hull), scale), fill=(240, 240, 238))
    deck_x, deck_y = centre - ahead * BOAT_LENGTH * 0.1
    deck = rectangle(deck_x, deck_y, BOAT_LENGTH * 0.4, BOAT_WIDTH * 0.5, boat.angle)
    draw.polygon(points(deck, scale), fill=PAINTS[boat.colour] if boat.colour else (150, 120, 84))


def cast_shadows(canvas: Image.Image, layout: Layout, look: Look, scale: float) -> None:
    mask = Image.new("L", canvas.size)
    draw = ImageDraw.Draw(mask)
    strength = round(255 * SHADOW_ALPHA)
    direction = np.array([np.cos(look.sun), np.sin(look.sun)]) * look.shadow
    for building in layout.buildings:
        for part in building.parts:
            moved = part + direction * building.height
            draw.polygon(points(moved, scale), fill=strength)
            for k in range(4):
                side = np.stack([part[k], part[(k + 1) % 4], moved[(k + 1) % 4], moved[k]])
                draw.polygon(points(side, scale), fill=strength)
    for x, y, radius in layout.tanks:
        for share in (0.35, 0.7, 1.0):  # a cylinder's shadow is a swept circle
            cx, cy = (np.array([x, y]) + direction * radius * 0.75 * share) * scale
            r = radius * scale
            draw.ellipse((cx - r, cy - r, cx + r, cy + r), fill=strength)
    for x, y, radius, _ in layout.trees:
        cx, cy = np.array([x, y]) * scale + direction * radius * 0.75 * scale
        r = radius * 0.85 * scale
        draw.ellipse((cx - r, cy - r, cx + r, cy + r), fill=strength)
    canvas.paste((18, 22, 34), mask=mask)


def draw_roofs(draw: ImageDraw.ImageDraw, layout: Layout, look: Look, scale: float) -> None:
    to_sun = -np.array([np.cos(look.sun), np.sin(look.sun)])
    for building in layout.buildings:
        base = np.array(ROOFS[building.roof], np.float32)
        for part in building.parts:
            if building.flat:
                draw.polygon(points(part, scale), fill=as_colour(base * 1.08), outline=as_colour(base * 0.7))
                centre = part.mean(axis=0)
                for share in (-0.55, 0.1, 0.5):  # plant on the roof
                    x, y = centre + (part[1] - centre) * share * 0.8 + (part[2] - centre) * 0.12
                    draw.polygon(points(rectangle(x, y, 0.02, 0.014, 0.0), scale), fill=as_colour(base * 0.78))
                continue
            ridge = np.stack([(part[0] + part[3]) / 2, (part[1] + part[2]) / 2])
            normal = part[0] - part[3]
            lit = float(normal @ to_sun / np.linalg.norm(normal))
            for edge, sign in ((part[[0, 1]], 1), (part[[3, 2]], -1)):
                half = np.stack([edge[0], edge[1], ridge[1], ridge[0]])
                draw.polygon(points(half, scale), fill=as_colour(base * (1.0 + 0.24 * sign * lit)))
            draw.line(points(ridge, scale), fill=as_colour(base * 1.12), width=max(1, round(scale * 0.003)))


def draw_tanks(draw: ImageDraw.ImageDraw, layout: Layout, look: Look, scale: float) -> None:
    """White or rusty cylinders seen from above: a rim, a roof that is lit from one side, a hatch."""
    to_sun = -np.array([np.cos(look.sun), np.sin(look.sun)])
    roof = np.array((214, 214, 208) if layout.texture[0] % 4 else (164, 132, 108), np.float32)
    for x, y, radius in layout.tanks:
        centre = np.array([x, y])
        for shift, share, light in ((0.0, 1.0, 0.72), (0.0, 0.93, 0.95), (0.16, 0.7, 1.06), (-0.3, 0.12, 0.6)):
            cx, cy = (centre + to_sun * shift * radius) * scale
            r = radius * share * scale
            draw.ellipse((cx - r, cy - r, cx + r, cy + r), fill=as_colour(roof * light))


@lru_cache(maxsize=256)
def _crown(radius: int, variant: int) -> tuple[Image.Image, Image.Image]:
    """Masks of a tree crown: its whole lumpy disc, and its lit leaves."""
    rng = np.random.default_rng((radius, variant))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1] / max(radius, 1)
    turn, distance = np.arctan2(y, x), np.hypot(x, y)
    edge = 0.84 + 0.09 * np.sin(4 * turn + rng.uniform(0, 6)) + 0.06 * np.sin(7 * turn + rng.uniform(0, 6))
    speckle = rng.normal(size=x.shape)
    block = max(1, radius // 5)
    lumps = np.kron(rng.random((2 * radius // block + 2,) * 2), np.ones((block, block)))[: len(x), : len(x)]
    whole = np.clip((edge - distance) * radius * 0.7 + 0.5, 0, 1)
    lit = np.clip((edge - distance) * 1.9, 0, 1) * np.clip(0.15 + 0.8 * lumps + 0.08 * speckle, 0, 1)
    return tuple(Image.fromarray((m * 255).astype(np.uint8)) for m in (whole, lit))  # type: ignore[return-value]


def paste_crowns(canvas: Image.Image, layout: Layout, look: Look, scale: float) -> None:
    to_sun = -np.array([np.cos(look.sun), np.sin(look.sun)])
    lush, dry = np.array((68, 92, 48)), np.array((126, 112, 66))
    for k, (x, y, radius, tint) in enumerate(layout.trees):
        pixels = max(2, round(radius * scale))
        whole, lit = _crown(pixels, k % 6)
        leaf = mix_colours(lush, dry, look.season * (0.25 + 0.6 * tint)) * (0.78 + 0.45 * tint)
        left, top = round(x * scale) - pixels, round(y * scale) - pixels
        canvas.paste(as_colour(leaf * 0.5), (left, top), whole)
        shift = to_sun * pixels * 0.2
        canvas.paste(as_colour(leaf * 1.35), (left + round(shift[0]), top + round(shift[1])), lit)


def draw_disc(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, scale: float, colour: object) -> None:
    x, y, radius = x * scale, y * scale, radius * scale
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)  # type: ignore[arg-type]


def draw_track(land: Image.Image, turn: Array) -> None:
    """A running track round the pitch: two straights and two half circles."""
    bend = np.linspace(-np.pi / 2, np.pi / 2, 24)
    right = np.stack([0.2 + 0.25 * np.cos(bend), 0.25 * np.sin(bend)], axis=1)
    outline = np.concatenate([right, -right, right[:2]]) @ turn + 0.5
    line = [tuple(point) for point in outline * land.width]
    ImageDraw.Draw(land).line(line, fill=(158, 92, 72), width=round(0.05 * land.width), joint="curve")


def draw_marked_pitch(land: Image.Image, turn: Array) -> None:
    """Mown stripes and white lines, turned with the pitch."""
    pixels = land.width
    overlay = land.copy()
    draw = ImageDraw.Draw(overlay)
    angle = float(np.arctan2(turn[0, 1], turn[0, 0]))
    for k in range(10):
        cx, cy = np.array([-0.279 + 0.062 * k, 0.0]) @ turn + 0.5
        stripe = rectangle(cx, cy, 0.063, 0.42, angle) * pixels
        draw.polygon([tuple(p) for p in stripe], fill=(66, 118, 58) if k % 2 else (80, 134, 66))
    land.paste(Image.blend(land, overlay, 0.8))
    draw = ImageDraw.Draw(land)
    for dx, length, width in ((0.0, 0.58, 0.38), (-0.25, 0.08, 0.2), (0.25, 0.08, 0.2), (0.0, 0.0, 0.38)):
        cx, cy = np.array([dx, 0.0]) @ turn + 0.5
        box = [tuple(p) for p in rectangle(cx, cy, length, width, angle) * pixels]
        draw.line([*box, box[0]], fill=(232, 236, 228), width=max(1, pixels // 120))
    r = 0.06 * pixels
    draw.ellipse(
        (pixels / 2 - r, pixels / 2 - r, pixels / 2 + r, pixels / 2 + r),
        outline=(232, 236, 228),
        width=max(1, pixels // 120),
    )
