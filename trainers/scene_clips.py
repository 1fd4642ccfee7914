"""Short clips over the SYNTHETIC land: moving actors under a camera that pans, turns and zooms slowly.

Class names are those of ERA. For several classes one frame is not enough: parked cars and moored boats also occur in
"non-event", a half-ploughed field may simply lie there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from .scene_builder import DoesNotFitError, LayoutBuilder
from .scene_drawing import draw_boat, draw_disc, draw_marked_pitch, draw_track, draw_vehicle
from .scene_look import Look, random_look
from .scene_shapes import Array, Mover, along_line, blob, cornered_line, crossing_line, meander, rectangle
from .scenes import expose, render, texture_under

CLIP_CLASSES: tuple[str, ...] = (
    "boating", "car racing", "constructing", "fire", "flood", "harvesting", "ploughing", "soccer",
    "traffic congestion", "non-event",
)  # fmt: skip
LAND_ALONE = 0.5  # share of the clips of "non-event" over a picture in which nothing is painted
VIEW = 0.74  # share of the painted land that one frame sees
FRAME_STEP = 7919  # moves the sensor noise between frames
CENTRE = (0.36, 0.64)  # where actors are placed, so that the camera keeps them in view
# Share of the training clips that come of smaller frames, and their sides: sharp ones alone made "fire" of soft ones.
SOFT_CLIPS, SOFT_SIDES = 0.25, (64, 128)
Painter = Callable[[Image.Image, float], None]  # draws the actors at time 0..1 on the land


@dataclass(frozen=True)
class Scene:
    land: Image.Image
    paint: Painter
    clue: str


def film(
    rng: np.random.Generator, name: str, size: int, frames: int, unseen: bool = False, ground: Array | None = None
) -> tuple[tuple[Image.Image, ...], str]:
    """`frames` pictures of size x size of one class, and a sentence on what is visible.

    Args:
        unseen: Lays the stage out as no training clip has it: a long lake, a meandering river, a road with corners, a
            track of two straights, planted rows, a house round a court, a round field, a pitch inside a running track.
        ground: A picture `(side, side, 3)` to stand for grass and soil.
    """
    look = replace(random_look(rng), haze=float(rng.uniform(0, 0.08)), ground=ground)
    pixels = round(size / VIEW)
    stage = STAGES[str(rng.choice(list(STAGES)) if name == "non-event" else name)]
    if ground is not None and name == "non-event" and rng.random() < LAND_ALONE:
        stage = _land_alone
    for _ in range(100):
        try:
            scene = stage(rng, look, pixels, name != "non-event", unseen)
            break
        except DoesNotFitError:
            continue
    else:
        raise RuntimeError(f"no room for a clip of {name}")
    turn, zoom = rng.uniform(-0.1, 0.1), rng.uniform(-0.07, 0.07)
    pan = rng.uniform(-0.05, 0.05, 2)
    # the land is exposed once, when it is painted; each frame adds sensor noise only
    sensor = replace(look, haze=0.0, gain=1.0, contrast=1.0, cast=(1.0, 1.0, 1.0), colour=1.0)
    no_grain, images = np.zeros((3, size, size), np.float32), []
    for k, time in enumerate(np.linspace(0, 1, frames)):
        land = scene.land.copy()
        scene.paint(land, float(time))
        middle = 0.5 + pan * (time - 0.5) * 2 + rng.normal(0, 0.0015, 2)
        frame = shoot(land, middle, turn * (time - 0.5), 1 + zoom * (time - 0.5), size)
        images.append(expose(frame, replace(sensor, seed=look.seed + FRAME_STEP * k), no_grain))
    return tuple(images), scene.clue


def shoot(land: Image.Image, middle: Array, angle: float, zoom: float, size: int) -> Image.Image:
    """One camera frame `(size, size)`: rotated, zoomed window around `middle` (unit square)."""
    side = land.width
    cos, sin = np.cos(angle) / zoom, np.sin(angle) / zoom
    x, y = middle * side
    half = size / 2
    matrix = (cos, -sin, x - cos * half + sin * half, sin, cos, y - sin * half - cos * half)
    return land.transform((size, size), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)


def _builder(rng: np.random.Generator, unseen: bool) -> LayoutBuilder:
    return LayoutBuilder(rng, "grass" if rng.random() < 0.65 else "soil", unseen)


def _boating(rng: np.random.Generator, look: Look, pixels: int, active: bool, unseen: bool) -> Scene:
    builder = _builder(rng, unseen)
    x, y = rng.uniform(0.45, 0.55, 2)
    builder.add_water(blob(rng, x, y, rng.uniform(0.4, 0.48), 1.4 if unseen else 1.0))
    builder.add_lone_trees(12)
    builder.add_boats(9)
    boats = [b for b in builder.layout.boats if 0.2 < b.x < 0.8 and 0.2 < b.y < 0.8][: rng.integers(2, 6)]
    if len(boats) < 2:
        raise DoesNotFitError
    land = render(replace(builder.layout, boats=()), look, pixels)
    # each boat crosses the middle of the lake, so that it stays on the water
    headings = [float(np.arctan2(0.5 - b.y, 0.5 - b.x)) + rng.uniform(-0.5, 0.5) for b in boats]
    speeds, wake = rng.uniform(0.12, 0.28, len(boats)), rng.uniform(0.06, 0.1)

    def paint(image: Image.Image, time: float) -> None:
        draw = ImageDraw.Draw(image)
        for boat, heading, speed in zip(boats, headings, speeds, strict=True):
            if active:
                x, y = boat.x + np.cos(heading) * speed * time, boat.y + np.sin(heading) * speed * time
                boat = Mover(float(x), float(y), heading, boat.colour)
            draw_boat(draw, boat, pixels, wake * active)

    return Scene(land, paint, f"An aerial view of a lake with {len(boats)} boats on the water.")


def _traffic(rng: np.random.Generator, look: Look, pixels: int, active: bool, unseen: bool) -> Scene:
    builder = _builder(rng, unseen)
    line = cornered_line(rng) if unseen else crossing_line(rng, 0.15)
    if np.hypot(*(line - 0.5).T).min() > 0.18:  # the camera must see most of the road
        raise DoesNotFitError
    builder.add_road(line, 0.115)
    builder.add_houses(int(rng.integers(0, 5)))
    builder.add_lone_trees(15)
    land = render(builder.layout, look, pixels)
    lanes = np.array([-0.42, -0.16, 0.16, 0.42]) * 0.115
    gap = 0.026 if active else 0.3
    cars = [(at + rng.uniform(-0.004, 0.004), lane, int(rng.integers(6))) for lane in lanes
            for at in np.arange(rng.uniform(0, gap), 1, gap) if rng.random() < (0.95 if active else 0.5)]  # fmt: skip
    speed = 0.03 if active else 0.22

    def paint(image: Image.Image, time: float) -> None:
        draw = ImageDraw.Draw(image)
        for at, lane, colour in cars:
            forward = lane > 0
            x, y, angle = along_line(line, (at + speed * time * (1 if forward else -1)) % 1, lane * 0.8)
            draw_vehicle(draw, Mover(x, y, angle + np.pi * (not forward), colour), pixels, 0.033)

    many = "crowded with many vehicles" if active else "with few vehicles"
    return Scene(land, paint, f"An aerial view of a wide road {many}.")


def _racing(rng: np.random.Generator, look: Look, pixels: int, active: bool, unseen: bool) -> Scene:
    builder = _builder(rng, unseen)
    track = _long_track(rng) if unseen else blob(rng, 0.5, 0.5, rng.uniform(0.23, 0.27), 1.25)
    loop = np.concatenate([track, track[:2]])
    builder.add_road(loop, 0.07)
    builder.add_lone_trees(14)
    land = render(builder.layout, look, pixels)
    cars = [
        (rng.uniform(0, 0.25), rng.uniform(-0.016, 0.016), int(c)) for c in rng.permutation(6)[: rng.integers(3, 6)]
    ]
    speeds = rng.uniform(0.75, 0.95, len(cars)) * active

    def paint(image: Image.Image, time: float) -> None:
        draw = ImageDraw.Draw(image)
        for (at, lane, colour), speed in zip(cars, speeds, strict=True):
            x, y, angle = along_line(loop[:-1], (at + speed * time) % 1, lane)
            draw_vehicle(draw, Mover(x, y, angle, colour), pixels, 0.04)

    return Scene(land, paint, f"An aerial view of a closed curved track with {len(cars)} cars.")


def _long_track(rng: np.random.Generator) -> Array:
    """Outline (48, 2) of two straights joined by two bends."""
    turn, angle = np.linspace(0, 2 * np.pi, 48, endpoint=False), rng.uniform(0, np.pi)
    radius = rng.uniform(0.12, 0.15)
    x, y = radius * np.cos(turn) + np.sign(np.cos(turn)) * rng.uniform(0.12, 0.16), radius * np.sin(turn)
    return np.stack([0.5 + x * np.cos(angle) - y * np.sin(angle), 0.5 + x * np.sin(angle) + y * np.cos(angle)], axis=1)


def _fire(rng: np.random.Generator, look: Look, pixels: int, active: bool, unseen: bool) -> Scene:
    builder = _builder(rng, unseen)
    x, y = rng.uniform(*CENTRE, 2)
    if rng.random() < 0.5:
        builder.add_building(x, y, 0.15, 0.11, rng.uniform(0, np.pi))
    builder.add_trees(blob(rng, x, y, 0.36), 0.05)
    land = render(builder.layout, look, pixels)
    wind = rng.uniform(0, 2 * np.pi)
    puffs = np.stack([rng.uniform(0, 1, 70), rng.normal(0, 0.3, 70), rng.uniform(0.5, 1, 70)], axis=1)
    flames = np.concatenate([rng.normal(0, 0.03, (24, 2)), rng.uniform(0.01, 0.024, (24, 1))], axis=1)
    dark = float(rng.choice([60, 205])) + rng.uniform(-25, 25)

    def paint(image: Image.Image, time: float) -> None:
        if not active:
            return
        grown = 0.35 + 0.65 * time
        burning = image.copy()
        draw = ImageDraw.Draw(burning)
        draw_disc(draw, x, y, 0.07 * grown, pixels, (34, 28, 24))
        for k, (dx, dy, radius) in enumerate(flames):
            flicker = 0.5 + 0.5 * np.sin(9 * time * 2.3 + 2.1 * k)
            colour = ((226, 88, 24), (250, 150, 40), (255, 214, 96))[k % 3]
            draw_disc(
                draw,
                x + dx * grown * 1.6,
                y + dy * grown * 1.6,
                radius * grown * (0.5 + 0.6 * flicker),
                pixels,
                colour,
            )
        # soft flames on sharp land: blurring everything would give the class away
        reach = int(0.2 * pixels)
        left, top = max(0, int(x * pixels) - reach), max(0, int(y * pixels) - reach)
        box = (left, top, left + 2 * reach, top + 2 * reach)
        near = burning.crop(box)
        touched = ImageChops.difference(near, image.crop(box)).convert("L").point(lambda v: 255 * (v > 0))
        soft = ImageFilter.GaussianBlur(pixels * 0.004)
        image.paste(near.filter(soft), box[:2], touched.filter(soft))
        smoke = Image.new("L", image.size)
        cloud = ImageDraw.Draw(smoke)
        for at, side, dense in puffs:
            far = ((at + 0.5 * time) % 1) * 0.5 * grown
            px = x + np.cos(wind) * far - np.sin(wind) * side * far * 0.8
            py = y + np.sin(wind) * far + np.cos(wind) * side * far * 0.8
            draw_disc(cloud, px, py, 0.025 + 0.16 * far, pixels, int(255 * dense * (1 - 1.1 * far)))
        smoke = smoke.filter(ImageFilter.GaussianBlur(pixels * 0.012))
        image.paste((int(dark), int(dark), int(dark + 4)), mask=smoke)

    return Scene(land, paint, "An aerial view of trees" + (" with smoke rising." if active else "."))


def _flood(rng: np.random.Generator, look: Look, pixels: int, active: bool, unseen: bool) -> Scene:
    builder = _builder(rng, unseen)
    line = meander(rng) if unseen else crossing_line(rng, 0.2)
    builder.add_houses(int(rng.integers(4, 8)))
    builder.add_lone_trees(14)
    layout = builder.layout
    dry = render(layout, look, pixels)
    wet = render(replace(layout, flood=(np.array([[-1.0, -1.0], [2, -1], [2, 2], [-1, 2]]),)), look, pixels)
    noise = texture_under(layout, pixels)[0] * 0.02
    y, x = np.mgrid[0:pixels, 0:pixels] / pixels
    distance = np.min([np.hypot(x - px, y - py) for px, py in line[::2]], axis=0) + noise
    start, rise = rng.uniform(0.05, 0.1), rng.uniform(0.16, 0.26)

    def paint(image: Image.Image, time: float) -> None:
        level = start + rise * time if active else start
        mask = np.clip((level - distance) * 90, 0, 1) * 255
        image.paste(wet, mask=Image.fromarray(mask.astype(np.uint8)))

    seen = "muddy water among houses" if active else "a muddy river near houses"
    return Scene(dry, paint, f"An aerial view of {seen}.")


def _field_work(
    rng: np.random.Generator, look: Look, pixels: int, active: bool, unseen: bool, ploughing: bool
) -> Scene:
    builder = _builder(rng, unseen)
    angle = rng.uniform(0, np.pi)
    half_length, half_width = (0.3, 0.3) if unseen else (0.31, 0.25)
    outline = rectangle(0.5, 0.5, 0.62, 0.5, angle)
    if unseen:
        around = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        outline = 0.5 + half_length * np.stack([np.cos(around), np.sin(around)], axis=1)
    builder.add_field(outline, crop=int(rng.choice([0, 5, 1])) if ploughing else 2)
    builder.take(outline)
    builder.add_lone_trees(12)
    layout = replace(builder.layout, fields=tuple(replace(f, angle=angle) for f in builder.layout.fields))
    look = replace(look, season=0.2 if not ploughing else look.season)
    worked = replace(layout, fields=tuple(replace(f, crop=3) for f in layout.fields)) if ploughing else layout
    land, done = render(layout, look, pixels), render(worked, look, pixels)
    if not ploughing:  # stubble is paler than ripe grain
        done = Image.blend(done, Image.new("RGB", done.size, (232, 220, 186)), 0.62)
    lanes, first = int(rng.integers(7, 10)), int(rng.integers(1, 5))
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    covered, paint_number = rng.uniform(1.2, 2.2), 2 if ploughing else 5
    offsets = ((np.arange(lanes) + 0.5) / lanes - 0.5) * 2 * half_width  # of each lane from the middle
    # half of the length that is worked on each lane: of a round field its chord
    reaches = np.sqrt(half_length**2 - offsets**2) if unseen else np.full(lanes, half_length)

    def paint(image: Image.Image, time: float) -> None:
        position = first + (covered * time if active else 0.35)
        mask = Image.new("L", image.size)
        draw = ImageDraw.Draw(mask)
        for lane in range(int(position) + 1):
            length = 2 * reaches[lane] * min(1.0, position - lane)
            way = 1 if lane % 2 == 0 else -1
            middle = 0.5 + along * way * (length / 2 - reaches[lane]) + across * offsets[lane]
            strip = rectangle(middle[0], middle[1], length, 2.04 * half_width / lanes, angle) * pixels
            draw.polygon([tuple(p) for p in strip], fill=255)
        image.paste(done, mask=mask)
        lane, share = int(position), position - int(position)
        way = 1 if lane % 2 == 0 else -1
        spot = 0.5 + along * way * reaches[lane] * (2 * share - 1) + across * offsets[lane]
        machine = Mover(float(spot[0]), float(spot[1]), float(angle + np.pi * (way < 0)), paint_number)
        draw_vehicle(ImageDraw.Draw(image), machine, pixels, 0.055 if ploughing else 0.07)

    machine_name = "a tractor" if ploughing else "a harvester"
    return Scene(land, paint, f"An aerial view of {machine_name} on a crop field.")


def _ploughing(rng: np.random.Generator, look: Look, pixels: int, active: bool, unseen: bool) -> Scene:
    return _field_work(rng, look, pixels, active, unseen, ploughing=True)


def _harvesting(rng: np.random.Generator, look: Look, pixels: int, active: bool, unseen: bool) -> Scene:
    return _field_work(rng, look, pixels, active, unseen, ploughing=False)


def _constructing(rng: np.random.Generator, look: Look, pixels: int, active: bool, unseen: bool) -> Scene:
    builder = LayoutBuilder(rng, "soil", unseen)
    angle, (x, y) = rng.uniform(0, np.pi), rng.uniform(*CENTRE, 2)
    site = blob(rng, x, y, 0.27) if unseen else rectangle(x, y, 0.5, 0.42, angle)
    builder.add_bare(site)
    builder.take(site)
    builder.add_houses(int(rng.integers(0, 3)))
    builder.add_lone_trees(12)
    land = render(builder.layout, look, pixels)
    start, swing = rng.uniform(0, 2 * np.pi), rng.uniform(0.8, 1.6)
    machines = rng.uniform(-0.19, 0.19, (3, 2))
    columns, rows = int(rng.integers(4, 6)), 3
    first, last = int(rng.integers(1, 4)), columns * rows
    column, row = np.arange(last + 1) % columns, np.arange(last + 1) // columns
    slabs = np.stack([(column - (columns - 1) / 2) * 0.05, (row - 1) * 0.055], axis=1)  # (slabs, 2) from the middle
    turns = np.full(last + 1, angle)
    if unseen:  # a house round a court
        around = np.arange(last + 1) * 2 * np.pi / last
        slabs = np.stack([np.cos(around), np.sin(around)], axis=1) * 0.008 * last
        turns = angle + around + np.pi / 2

    def paint(image: Image.Image, time: float) -> None:
        draw = ImageDraw.Draw(image)
        done = first + (time * (last - first) if active else 0)
        for k in range(int(done) + 1 if active else last):
            dx, dy = slabs[k]
            cx, cy = x + np.cos(angle) * dx - np.sin(angle) * dy, y + np.sin(angle) * dx + np.cos(angle) * dy
            slab = [tuple(p) for p in rectangle(cx, cy, 0.047, 0.052, turns[k]) * pixels]
            draw.polygon(slab, fill=(176, 174, 168), outline=(112, 108, 102))
        for k, (dx, dy) in enumerate(machines):
            move = 0.05 * np.sin(4 * time + k) * active
            draw_vehicle(draw, Mover(x + dx + move, y + dy, angle + k, 5), pixels, 0.042)
        boom = start + swing * time * active
        foot = np.array([x + 0.13 * np.cos(angle), y + 0.13 * np.sin(angle)])
        reach = np.array([np.cos(boom), np.sin(boom)])
        ends = np.stack([foot - reach * 0.06, foot + reach * 0.2]) * pixels
        draw.line([tuple(p) for p in ends + pixels * 0.02], fill=(70, 62, 52), width=max(1, pixels // 90))
        draw.line([tuple(p) for p in ends], fill=(236, 186, 40), width=max(2, pixels // 70))

    return Scene(land, paint, "An aerial view of a building site with a crane.")


def _soccer(rng: np.random.Generator, look: Look, pixels: int, active: bool, unseen: bool) -> Scene:
    builder = LayoutBuilder(rng, "grass", unseen)
    angle = rng.uniform(0, np.pi)
    builder.take(rectangle(0.5, 0.5, 0.66, 0.46, angle), pad=3)
    builder.add_lone_trees(14)
    land = render(builder.layout, replace(look, season=min(look.season, 0.5)), pixels)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    if unseen:
        draw_track(land, turn)
    draw_marked_pitch(land, turn)
    start = rng.uniform([-0.27, -0.17], [0.27, 0.17], (22, 2))
    speed, phase = rng.uniform(0.05, 0.14, (22, 2)), rng.uniform(0, 6.28, (22, 2))
    shirts = [((210, 36, 36), (40, 60, 190)), ((245, 245, 245), (30, 30, 30)), ((240, 210, 50), (220, 60, 60))][
        rng.integers(3)
    ]

    def paint(image: Image.Image, time: float) -> None:
        if not active:
            return
        draw = ImageDraw.Draw(image)
        ball = np.array([0.2 * np.sin(2.5 * time + phase[0, 0]), 0.12 * np.cos(3 * time + phase[0, 1])])
        spots = start + speed * np.sin(3 * time + phase) * 0.6 + (ball - start) * 0.25
        for k, (px, py) in enumerate(spots @ turn + 0.5):
            draw_disc(draw, px + 0.004, py + 0.005, 0.0095, pixels, (36, 48, 30))
            draw_disc(draw, px, py, 0.0095, pixels, shirts[k % 2])
        ball_x, ball_y = ball @ turn + 0.5
        draw_disc(draw, ball_x, ball_y, 0.006, pixels, (255, 255, 255))

    people = " with players of two teams" if active else ""
    return Scene(land, paint, f"An aerial view of a soccer field{people}.")


def _land_alone(rng: np.random.Generator, look: Look, pixels: int, active: bool, unseen: bool) -> Scene:
    return Scene(render(_builder(rng, unseen).layout, look, pixels), lambda image, time: None, "")


STAGES: dict[str, Callable[[np.random.Generator, Look, int, bool, bool], Scene]] = {
    "boating": _boating, "car racing": _racing, "constructing": _constructing, "fire": _fire, "flood": _flood,
    "harvesting": _harvesting, "ploughing": _ploughing, "soccer": _soccer, "traffic congestion": _traffic,
}  # fmt: skip


def soften(rng: np.random.Generator, clips: Array) -> Array:
    """The clips `(samples, frames, side, side, 3)`; some are overwritten as enlarged from smaller frames."""
    for number in np.flatnonzero(rng.random(len(clips)) < SOFT_CLIPS):
        side, full = int(rng.integers(*SOFT_SIDES)), clips.shape[2]
        for frame in clips[number]:
            small = Image.fromarray(frame).resize((side, side), Image.Resampling.BICUBIC)
            frame[:] = np.asarray(small.resize((full, full), Image.Resampling.BICUBIC))
    return clips
