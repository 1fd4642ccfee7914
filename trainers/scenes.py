"""Paints a layout of the SYNTHETIC aerial world (see scene_layout.py) as an RGB picture seen from above.

Everything is drawn with numpy and PIL from noise and polygons; no real imagery enters. A `Look` holds what differs
between two dates of the same place without the land changing: sun, season, haze, colour cast, sensor noise.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .scene_drawing import (
    Colour,
    as_colour,
    cast_shadows,
    draw_boat,
    draw_panels,
    draw_paved,
    draw_pitch,
    draw_roofs,
    draw_tanks,
    draw_vehicle,
    mix_colours,
    paste_crowns,
)
from .scene_look import Look
from .scene_shapes import LAND_CLASSES, Array, Layout, points, ribbon

OVERSAMPLE = 2  # objects are drawn twice as large, then reduced: soft edges
TILE = 1024  # pixels per side of the stored noise

CROPS: tuple[tuple[Colour, Colour], ...] = (  # lush, dry
    ((98, 114, 70), (150, 132, 94)), ((126, 138, 76), (172, 150, 98)), ((172, 156, 96), (184, 164, 120)),
    ((116, 96, 78), (124, 102, 86)), ((146, 120, 98), (152, 126, 104)), ((80, 102, 66), (118, 112, 78)),
)  # fmt: skip


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


# -- painting --------------------------------------------------------------------------------------------------------
def render(layout: Layout, look: Look, size: int) -> Image.Image:
    """RGB picture (size x size) of the whole unit square: ground, built things, shadows, roofs, crowns, sensor."""
    grain = _noise_window(layout.texture, size)  # (3, size, size)
    canvas = _ground(layout, look, grain, size).resize((size * OVERSAMPLE,) * 2, Image.Resampling.BILINEAR)
    scale = float(size * OVERSAMPLE)
    draw = ImageDraw.Draw(canvas)
    draw_paved(draw, layout, scale)
    for outline in layout.panels:
        draw_panels(draw, outline, scale)
    for outline in layout.pitches:
        draw_pitch(draw, outline, scale)
    for outline in layout.flood:
        draw.polygon(points(outline, scale), fill=as_colour(mix_colours((112, 94, 70), (96, 90, 72), look.water)))
    for boat in layout.boats:
        draw_boat(draw, boat, scale)
    for vehicle in layout.vehicles:
        draw_vehicle(draw, vehicle, scale)
    cast_shadows(canvas, layout, look, scale)
    draw_roofs(draw, layout, look, scale)
    draw_tanks(draw, layout, look, scale)
    picture = canvas.reduce(OVERSAMPLE)
    paste_crowns(picture, layout, look, float(size))  # crown masks are soft already
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
        draw.polygon(points(field.outline, size), fill=len(colours))
        lush, dry = CROPS[field.crop]
        colours.append(mix_colours(lush, dry, look.season))
        pitch = 2 * np.pi / (size * (0.019 + 0.003 * field.crop))
        rows.append((-np.sin(field.angle) * pitch, np.cos(field.angle) * pitch, 0.06 + 0.018 * field.crop))
    for outline in layout.bare:
        draw.polygon(points(outline, size), fill=len(colours))
    colours.append(mix_colours((158, 136, 108), (168, 146, 118), look.season))
    rows.append((0, 0, 0))
    bare = len(colours) - 1
    for outline in layout.water:  # the shore first, so that lakes and rivers join without a seam
        draw.line(points(np.concatenate([outline, outline[:1]]), size), fill=bare, width=max(2, round(size * 0.016)))
    colours.append(mix_colours((38, 58, 70), (64, 78, 66), look.water))
    rows.append((0, 0, 0))
    for outline in layout.water:
        draw.polygon(points(outline, size), fill=len(colours) - 1)
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
    """Grass with dry patches, soil with tufts of grass, or the picture that stands for both: (size, size, 3)."""
    if look.ground is not None:
        return np.asarray(
            Image.fromarray(look.ground).resize((grain.shape[-1],) * 2, Image.Resampling.BICUBIC), np.float32
        )
    grass, dry = (
        mix_colours((84, 100, 64), (142, 130, 98), look.season),
        mix_colours((118, 114, 80), (162, 144, 110), look.season),
    )
    soil = mix_colours((164, 140, 110), (178, 154, 122), look.season)
    first, second, level = (grass, dry, 0.7) if layout.ground == "grass" else (soil, grass, 1.5)
    share = np.clip((grain[0] + 0.5 * grain[1] - level) * 0.9 + 0.3, 0, 0.85)[..., None]
    shade = 1 + 0.06 * grain[1] + 0.03 * grain[0]
    return (first + (second - first) * share) * shade[..., None]


def land_map(layout: Layout, size: int) -> Array:
    """Class of each pixel (size, size), uint8 numbers into LAND_CLASSES; movers and shadows do not count."""
    image = Image.new("L", (size, size))
    draw = ImageDraw.Draw(image)

    def fill(outline: Array, name: str) -> None:
        draw.polygon(points(outline, size), fill=LAND_CLASSES.index(name))

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
