"""Paints a layout of the SYNTHETIC aerial world (see scene_layout.py) as an RGB picture seen from above.

Everything is drawn with numpy and PIL from noise and polygons; no real imagery enters. A `Look` holds what differs
between two dates of the same place without the land changing: sun, season, haze, colour cast, sensor noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .scene_shapes import (
    BOAT_LENGTH,
    BOAT_WIDTH,
    LAND_CLASSES,
    VEHICLE_LENGTH,
    VEHICLE_WIDTH,
    Array,
    Layout,
    Mover,
    rectangle,
    ribbon,
)

OVERSAMPLE = 2  # objects are drawn twice as large, then reduced: soft edges
TILE = 1024  # pixels per side of the stored noise
SHADOW_ALPHA = 0.55

Colour = tuple[int, int, int]
ROOFS: tuple[Colour, ...] = (
    (150, 84, 66), (168, 108, 84), (128, 126, 126), (92, 92, 98), (198, 192, 182), (120, 98, 82), (84, 100, 122),
    (222, 222, 218),
)  # fmt: skip
CROPS: tuple[tuple[Colour, Colour], ...] = (  # lush, dry
    ((98, 114, 70), (150, 132, 94)), ((126, 138, 76), (172, 150, 98)), ((172, 156, 96), (184, 164, 120)),
    ((116, 96, 78), (124, 102, 86)), ((146, 120, 98), (152, 126, 104)), ((80, 102, 66), (118, 112, 78)),
)  # fmt: skip
PAINTS: tuple[Colour, ...] = (
    (235, 235, 235), (28, 30, 34), (168, 36, 34), (190, 192, 196), (40, 66, 130), (226, 196, 70),
)  # fmt: skip


@dataclass(frozen=True)
class Look:
    """How one date looks. Nothing here is a change of the land."""

    sun: float  # direction towards which shadows fall, radians
    shadow: float  # shadow length over object height
    season: float  # 0 lush, 1 dry
    gain: float
    contrast: float
    cast: tuple[float, float, float]  # factor for red, green, blue
    colour: float  # saturation: 0 grey .. 1 as painted
    haze: float  # 0 clear .. 0.3 milky
    noise: float  # standard deviation, grey levels of 255
    blur: float  # of the optics, standard deviation in pixels
    water: float  # 0 blue-black .. 1 green-brown
    seed: int  # of the sensor noise


def random_look(rng: np.random.Generator) -> Look:
    return Look(
        sun=float(rng.uniform(0, 2 * np.pi)),
        shadow=float(rng.uniform(0.7, 1.6)),
        season=float(rng.beta(0.9, 1.1)),
        gain=float(rng.uniform(0.82, 1.12)),
        contrast=float(rng.uniform(0.9, 1.12)),
        cast=(float(rng.normal(1.0, 0.025)), 1.0, float(rng.normal(1.0, 0.035))),
        haze=float(max(0.0, rng.uniform(-0.12, 0.2))),
        noise=float(rng.uniform(1.5, 5.0)),
        blur=float(rng.uniform(0.25, 0.75)),
        water=float(rng.random()),
        seed=int(rng.integers(2**31)),
        colour=float(rng.uniform(0.35, 0.85)),
    )


# -- stored noise ----------------------------------------------------------------------------------------------------
@lru_cache(maxsize=1)
def _noise() -> Array:
    """Three periodic noise tiles (3, TILE, TILE), float32, mean 0, deviation 1: patches, clumps, grain."""
    rng = np.random.default_rng(7)
    frequency = np.hypot(np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)[None]) * TILE
    tiles = []
    for centre, slope in ((5.0, 1.7), (40.0, 1.4), (240.0, 0.7)):
        strength = 1 / (centre + frequency) ** slope * (frequency > centre / 6)
        tile = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(TILE, TILE))) * strength, (TILE, TILE))
        tiles.append(tile / tile.std())
    return np.stack(tiles).astype(np.float32)  # (3, TILE, TILE)


def _noise_window(texture: tuple[int, int], size: int, tiles: slice = slice(None)) -> Array:
    """Noise (tiles, size, size) of one place. Detail is tied to pixels, so another size shows other patches."""
    y, x = texture
    rows, columns = (np.arange(y, y + size) % TILE), (np.arange(x, x + size) % TILE)
    return _noise()[tiles].take(rows, axis=1).take(columns, axis=2)


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


def _mix(a: Colour | Array, b: Colour | Array, share: float) -> Array:
    return np.asarray(a, np.float32) * (1 - share) + np.asarray(b, np.float32) * share


def _ints(colour: Array) -> Colour:
    red, green, blue = (min(max(int(c), 0), 255) for c in colour.tolist())
    return red, green, blue


def _points(outline: Array, scale: float) -> list[tuple[float, float]]:
    return [(x, y) for x, y in (outline * scale).tolist()]


# -- painting --------------------------------------------------------------------------------------------------------
def render(layout: Layout, look: Look, size: int) -> Image.Image:
    """RGB picture (size x size) of the whole unit square: ground, built things, shadows, roofs, crowns, sensor."""
    grain = _noise_window(layout.texture, size)  # (3, size, size)
    canvas = _ground(layout, look, grain, size).resize((size * OVERSAMPLE,) * 2, Image.Resampling.BILINEAR)
    scale = float(size * OVERSAMPLE)
    draw = ImageDraw.Draw(canvas)
    _draw_paved(draw, layout, scale)
    for outline in layout.flood:
        draw.polygon(_points(outline, scale), fill=_ints(_mix((112, 94, 70), (96, 90, 72), look.water)))
    for boat in layout.boats:
        draw_boat(draw, boat, scale)
    for vehicle in layout.vehicles:
        draw_vehicle(draw, vehicle, scale)
    _cast_shadows(canvas, layout, look, scale)
    _draw_roofs(draw, layout, look, scale)
    _draw_tanks(draw, layout, look, scale)
    picture = canvas.reduce(OVERSAMPLE)
    _paste_crowns(picture, layout, look, float(size))  # crown masks are soft already
    return expose(picture, look, grain)


def expose(picture: Image.Image, look: Look, grain: Array) -> Image.Image:
    """Adds surface grain, light, haze and sensor noise; `grain` is (3, height, width)."""
    picture = _soften(picture, look.blur)
    if look.colour != 1:
        picture = Image.blend(picture.convert("L").convert("RGB"), picture, look.colour)
    pixels = np.asarray(picture, np.float32)  # (size, size, 3)
    pixels = pixels * (1 + 0.05 * grain[2] + 0.025 * grain[1])[..., None]
    pixels = (pixels - 110) * look.contrast + 110
    pixels *= np.array(look.cast, np.float32) * look.gain * (1 - look.haze)
    pixels += np.array((188, 196, 206), np.float32) * look.haze
    shift = look.seed % (TILE * TILE)
    sensor = _noise_window((shift // TILE, shift % TILE), len(pixels), slice(2, 3))[0, ::-1, ::-1]
    pixels += (sensor * look.noise)[..., None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _ground(layout: Layout, look: Look, grain: Array, size: int) -> Image.Image:
    """Grass or soil, parcels, bare patches and water with their shores, by one table look-up per pixel."""
    labels = Image.new("L", (size, size))
    draw = ImageDraw.Draw(labels)
    colours: list[Array] = [np.zeros(3, np.float32)]
    rows: list[tuple[float, float, float]] = [(0, 0, 0)]  # wave vector (x, y) in radians per pixel, strength
    for field in layout.fields:
        draw.polygon(_points(field.outline, size), fill=len(colours))
        lush, dry = CROPS[field.crop]
        colours.append(_mix(lush, dry, look.season))
        pitch = 2 * np.pi / (size * (0.019 + 0.003 * field.crop))
        rows.append((-np.sin(field.angle) * pitch, np.cos(field.angle) * pitch, 0.06 + 0.018 * field.crop))
    for outline in layout.bare:
        draw.polygon(_points(outline, size), fill=len(colours))
    colours.append(_mix((158, 136, 108), (168, 146, 118), look.season))
    rows.append((0, 0, 0))
    bare = len(colours) - 1
    for outline in layout.water:  # the shore first, so that lakes and rivers join without a seam
        draw.line(_points(np.concatenate([outline, outline[:1]]), size), fill=bare, width=max(2, round(size * 0.016)))
    colours.append(_mix((38, 58, 70), (64, 78, 66), look.water))
    rows.append((0, 0, 0))
    for outline in layout.water:
        draw.polygon(_points(outline, size), fill=len(colours) - 1)
    label = np.asarray(labels)
    vectors = np.array(rows, np.float32)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    stripes = np.sin(vectors[label, 0] * x + vectors[label, 1] * y + grain[1] * 0.5) * vectors[label, 2]
    texture = stripes + grain[0] * 0.05 + grain[1] * 0.05
    texture[label == len(colours) - 1] *= 0.35  # water is smooth
    pixels = np.stack(colours)[label] * (1 + texture)[..., None]  # (size, size, 3)
    np.copyto(pixels, _open_ground(layout, look, grain), where=(label == 0)[..., None])
    ground = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    return _soften(ground, 0.6)  # soft borders between covers; grain comes later


def _soften(picture: Image.Image, deviation: float) -> Image.Image:
    """Gaussian blur of less than a pixel, by its nine nearest weights: half the time of Pillow's general one."""
    side = np.exp(-0.5 / deviation**2)
    line = np.array([side, 1.0, side])
    return picture.filter(ImageFilter.Kernel((3, 3), np.outer(line, line).ravel().tolist()))


def _open_ground(layout: Layout, look: Look, grain: Array) -> Array:
    """Grass with dry patches, or soil with tufts of grass: (size, size, 3)."""
    grass, dry = _mix((84, 100, 64), (142, 130, 98), look.season), _mix((118, 114, 80), (162, 144, 110), look.season)
    soil = _mix((164, 140, 110), (178, 154, 122), look.season)
    first, second, level = (grass, dry, 0.7) if layout.ground == "grass" else (soil, grass, 1.5)
    share = np.clip((grain[0] + 0.5 * grain[1] - level) * 0.9 + 0.3, 0, 0.85)[..., None]
    shade = 1 + 0.06 * grain[1] + 0.03 * grain[0]
    return (first + (second - first) * share) * shade[..., None]


def _draw_paved(draw: ImageDraw.ImageDraw, layout: Layout, scale: float) -> None:
    verge_tone, asphalt = (186, 180, 170), (122, 122, 124)
    for colour, share in ((verge_tone, 1.22), (asphalt, 1.0)):  # all verges first, so that crossings stay open
        for road in layout.roads:
            width = road.width * share
            draw.line(_points(road.line, scale), fill=colour, width=round(width * scale), joint="curve")
    for road in layout.roads:
        steps = np.linspace(0, len(road.line) - 1, 160)
        fine = np.stack([np.interp(steps, np.arange(len(road.line)), road.line[:, k]) for k in (0, 1)], axis=1)
        for k in range(0, len(fine) - 2, 4):
            draw.line(_points(fine[k : k + 3], scale), fill=(226, 222, 206), width=max(1, round(scale * 0.005)))
    for lot in layout.lots:
        draw.polygon(_points(lot.outline, scale), fill=(112, 113, 118))
        for x, y, angle in lot.stalls:
            place = rectangle(x, y, 0.056, 0.032, angle)
            for a, b in ((0, 1), (3, 2)):
                draw.line(_points(place[[a, b]], scale), fill=(214, 214, 210), width=max(1, round(scale * 0.0045)))

    for outline in layout.panels:
        _draw_panels(draw, outline, scale)
    for outline in layout.pitches:
        _draw_pitch(draw, outline, scale)


def _between(outline: Array, u: float, v: float) -> Array:
    """Point of a rectangle at the shares `u` of its edge 0-1 and `v` of its edge 0-3."""
    return outline[0] + (outline[1] - outline[0]) * u + (outline[3] - outline[0]) * v


def _draw_panels(draw: ImageDraw.ImageDraw, outline: Array, scale: float) -> None:
    """Rows of dark blue panels on pale ground."""
    draw.polygon(_points(outline, scale), fill=(150, 146, 122))
    rows = max(4, round(float(np.linalg.norm(outline[3] - outline[0])) / 0.036))
    for row in range(rows):
        low, high = (row + 0.1) / rows, (row + 0.78) / rows
        panel = [_between(outline, u, v) for u, v in ((0.03, low), (0.97, low), (0.97, high), (0.03, high))]
        draw.polygon(_points(np.stack(panel), scale), fill=(38, 50, 88))
        middle = np.stack([_between(outline, u, (low + high) / 2) for u in (0.03, 0.97)])
        draw.line(_points(middle, scale), fill=(84, 100, 140), width=max(1, round(scale * 0.003)))


def _draw_pitch(draw: ImageDraw.ImageDraw, outline: Array, scale: float) -> None:
    """Mown stripes, and the white lines of a soccer field."""
    for k in range(8):
        stripe = [_between(outline, u, v) for u, v in ((k / 8, 0), ((k + 1) / 8, 0), ((k + 1) / 8, 1), (k / 8, 1))]
        draw.polygon(_points(np.stack(stripe), scale), fill=(64, 116, 60) if k % 2 else (78, 132, 68))
    boxes = ((0.05, 0.06, 0.95, 0.94), (0.05, 0.06, 0.5, 0.94), (0.05, 0.28, 0.19, 0.72), (0.81, 0.28, 0.95, 0.72))
    width = max(1, round(scale * 0.0045))
    for left, low, right, high in boxes:
        corners = ((left, low), (right, low), (right, high), (left, high), (left, low))
        draw.line(
            _points(np.stack([_between(outline, *c) for c in corners]), scale), fill=(228, 232, 224), width=width
        )
    turn = np.linspace(0, 2 * np.pi, 24)
    radius = float(np.linalg.norm(outline[3] - outline[0])) * 0.15
    circle = _between(outline, 0.5, 0.5) + radius * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    draw.line(_points(circle, scale), fill=(228, 232, 224), width=width)


def draw_vehicle(draw: ImageDraw.ImageDraw, vehicle: Mover, scale: float, length: float = VEHICLE_LENGTH) -> None:
    width = VEHICLE_WIDTH * length / VEHICLE_LENGTH
    paint = PAINTS[vehicle.colour]
    draw.polygon(
        _points(rectangle(vehicle.x + 0.004, vehicle.y + 0.004, length, width, vehicle.angle), scale),
        fill=(60, 60, 62),
    )
    draw.polygon(_points(rectangle(vehicle.x, vehicle.y, length, width, vehicle.angle), scale), fill=paint)
    x, y = vehicle.x + np.cos(vehicle.angle) * 0.14 * length, vehicle.y + np.sin(vehicle.angle) * 0.14 * length
    screen = rectangle(x, y, 0.18 * length, width * 0.8, vehicle.angle)
    draw.polygon(_points(screen, scale), fill=(58, 64, 72) if sum(paint) > 200 else (104, 112, 122))


def draw_boat(draw: ImageDraw.ImageDraw, boat: Mover, scale: float, wake: float = 0.0) -> None:
    """Pointed hull with a deck; `wake` is the length of the foam behind it in picture units."""
    ahead = np.array([np.cos(boat.angle), np.sin(boat.angle)])
    side = np.array([-ahead[1], ahead[0]])
    centre = np.array([boat.x, boat.y])
    stern = centre - ahead * BOAT_LENGTH / 2
    for spread in (-1, 1) if wake else ():
        foam = [stern, stern - ahead * wake + side * spread * wake * 0.3, stern - ahead * wake * 0.8]
        draw.polygon(_points(np.stack(foam), scale), fill=(196, 208, 210))
    half = side * BOAT_WIDTH / 2
    hull = [stern - half, centre + ahead * BOAT_LENGTH * 0.2 - half, centre + ahead * BOAT_LENGTH * 0.5]
    hull += [centre + ahead * BOAT_LENGTH * 0.2 + half, stern + half]
    draw.polygon(_points(np.stack(hull), scale), fill=(240, 240, 238))
    deck_x, deck_y = centre - ahead * BOAT_LENGTH * 0.1
    deck = rectangle(deck_x, deck_y, BOAT_LENGTH * 0.4, BOAT_WIDTH * 0.5, boat.angle)
    draw.polygon(_points(deck, scale), fill=PAINTS[boat.colour] if boat.colour else (150, 120, 84))


def _cast_shadows(canvas: Image.Image, layout: Layout, look: Look, scale: float) -> None:
    mask = Image.new("L", canvas.size)
    draw = ImageDraw.Draw(mask)
    strength = round(255 * SHADOW_ALPHA)
    direction = np.array([np.cos(look.sun), np.sin(look.sun)]) * look.shadow
    for building in layout.buildings:
        for part in building.parts:
            moved = part + direction * building.height
            draw.polygon(_points(moved, scale), fill=strength)
            for k in range(4):
                side = np.stack([part[k], part[(k + 1) % 4], moved[(k + 1) % 4], moved[k]])
                draw.polygon(_points(side, scale), fill=strength)
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


def _draw_roofs(draw: ImageDraw.ImageDraw, layout: Layout, look: Look, scale: float) -> None:
    to_sun = -np.array([np.cos(look.sun), np.sin(look.sun)])
    for building in layout.buildings:
        base = np.array(ROOFS[building.roof], np.float32)
        for part in building.parts:
            if building.flat:
                draw.polygon(_points(part, scale), fill=_ints(base * 1.08), outline=_ints(base * 0.7))
                centre = part.mean(axis=0)
                for share in (-0.55, 0.1, 0.5):  # plant on the roof
                    x, y = centre + (part[1] - centre) * share * 0.8 + (part[2] - centre) * 0.12
                    draw.polygon(_points(rectangle(x, y, 0.02, 0.014, 0.0), scale), fill=_ints(base * 0.78))
                continue
            ridge = np.stack([(part[0] + part[3]) / 2, (part[1] + part[2]) / 2])
            normal = part[0] - part[3]
            lit = float(normal @ to_sun / np.linalg.norm(normal))
            for edge, sign in ((part[[0, 1]], 1), (part[[3, 2]], -1)):
                half = np.stack([edge[0], edge[1], ridge[1], ridge[0]])
                draw.polygon(_points(half, scale), fill=_ints(base * (1.0 + 0.24 * sign * lit)))
            draw.line(_points(ridge, scale), fill=_ints(base * 1.12), width=max(1, round(scale * 0.003)))


def _draw_tanks(draw: ImageDraw.ImageDraw, layout: Layout, look: Look, scale: float) -> None:
    """White or rusty cylinders seen from above: a rim, a roof that is lit from one side, a hatch."""
    to_sun = -np.array([np.cos(look.sun), np.sin(look.sun)])
    roof = np.array((214, 214, 208) if layout.texture[0] % 4 else (164, 132, 108), np.float32)
    for x, y, radius in layout.tanks:
        centre = np.array([x, y])
        for shift, share, light in ((0.0, 1.0, 0.72), (0.0, 0.93, 0.95), (0.16, 0.7, 1.06), (-0.3, 0.12, 0.6)):
            cx, cy = (centre + to_sun * shift * radius) * scale
            r = radius * share * scale
            draw.ellipse((cx - r, cy - r, cx + r, cy + r), fill=_ints(roof * light))


def _paste_crowns(canvas: Image.Image, layout: Layout, look: Look, scale: float) -> None:
    to_sun = -np.array([np.cos(look.sun), np.sin(look.sun)])
    lush, dry = np.array((68, 92, 48)), np.array((126, 112, 66))
    for k, (x, y, radius, tint) in enumerate(layout.trees):
        pixels = max(2, round(radius * scale))
        whole, lit = _crown(pixels, k % 6)
        leaf = _mix(lush, dry, look.season * (0.25 + 0.6 * tint)) * (0.78 + 0.45 * tint)
        left, top = round(x * scale) - pixels, round(y * scale) - pixels
        canvas.paste(_ints(leaf * 0.5), (left, top), whole)
        shift = to_sun * pixels * 0.2
        canvas.paste(_ints(leaf * 1.35), (left + round(shift[0]), top + round(shift[1])), lit)


def land_map(layout: Layout, size: int) -> Array:
    """Class of each pixel (size, size), uint8 numbers into LAND_CLASSES; movers and shadows do not count."""
    image = Image.new("L", (size, size))
    draw = ImageDraw.Draw(image)

    def fill(outline: Array, name: str) -> None:
        draw.polygon(_points(outline, size), fill=LAND_CLASSES.index(name))

    for field in layout.fields:
        fill(field.outline, "field")
    for outline in layout.bare:
        fill(outline, "bare")
    for outline in layout.water:
        fill(outline, "water")
    for road in layout.roads:
        fill(ribbon(road.line, road.width), "road")
    for lot in layout.lots:
        fill(lot.outline, "parking lot")
    for outline in layout.flood:
        fill(outline, "flood")
    for outline in layout.panels:
        fill(outline, "solar panels")
    for outline in layout.pitches:
        fill(outline, "sports field")
    for x, y, radius in layout.tanks * size:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=LAND_CLASSES.index("storage tank"))
    for building in layout.buildings:
        for part in building.parts:
            fill(part, "building")
    for x, y, radius, _ in layout.trees * size:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=LAND_CLASSES.index("tree"))
    return np.asarray(image)


def texture_under(layout: Layout, size: int) -> Array:
    """Noise (3, size, size) under a layout, for painters that add to a finished picture."""
    return _noise_window(layout.texture, size)
