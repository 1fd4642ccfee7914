"""What is painted into a real picture to make a change whose mask is known (real_scenes.py makes pairs of it)."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from .scene_shapes import Array, blob, crossing_line, points, rectangle, ribbon

CHANGED_SHARE = (0.03, 0.55)  # of the picture
# What is built, and whether one thing is said to be.
BUILT = {
    "a house": True,
    "houses": False,
    "a house and a road": False,
    "houses and a road": False,
    "a large building": True,
    "large buildings": False,
}
BARE = "bare land"


def soft_field(rng: np.random.Generator, size: int, cells: int = 4) -> Array:
    """Smooth noise `(size, size)` between about -1 and 1, of `cells` waves a side."""
    coarse = Image.fromarray(rng.normal(0, 1, (cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))


def _region(rng: np.random.Generator, size: int) -> Image.Image:
    """Mask of one to three blobs, blocks or strips."""
    while True:
        region = Image.new("L", (size, size))
        draw = ImageDraw.Draw(region)
        for _ in range(int(rng.integers(1, 4))):
            kind, (x, y) = rng.random(), rng.uniform(0.05, 0.95, 2)
            if kind < 0.45:
                outline = blob(rng, x, y, rng.uniform(0.09, 0.4), rng.uniform(1, 1.4))
            elif kind < 0.85:
                length, width = rng.uniform(0.1, 0.7, 2)
                outline = rectangle(x, y, length, width, rng.uniform(0, np.pi))
            else:
                outline = ribbon(crossing_line(rng, 0.25), rng.uniform(0.06, 0.16))
            draw.polygon(points(outline, size), fill=255)
        if CHANGED_SHARE[0] <= np.asarray(region).mean() / 255 <= CHANGED_SHARE[1]:
            return region


def paste(rng: np.random.Generator, before: Image.Image, other: Image.Image) -> tuple[Image.Image, Array]:
    """A region of `other` laid into `before`, in the light of `before`; and its mask `(size, size)`."""
    region = _region(rng, before.size[0])
    means = [np.asarray(image, np.float32).mean((0, 1)) for image in (before, other)]
    light = 1 + rng.uniform(0.2, 0.9) * (means[0].mean() / max(means[1].mean(), 1) - 1)
    piece = Image.fromarray(np.clip(np.asarray(other, np.float32) * light, 0, 255).astype(np.uint8))
    return Image.composite(piece, before, region.filter(ImageFilter.GaussianBlur(0.7))), np.asarray(region) > 0


ROOFS = (
    (168, 92, 72),
    (188, 122, 96),
    (128, 126, 126),
    (96, 96, 102),
    (206, 200, 190),
    (124, 100, 84),
    (88, 104, 130),
)


def build_houses(rng: np.random.Generator, before: Image.Image) -> tuple[Image.Image, Array, str]:
    """Houses, with or without a road, painted over a real scene: rows of one kind, as in a new estate.

    Returns:
        The picture, the mask `(size, size)` of what was built, and a name of `BUILT`.
    """
    size = before.size[0]
    scale = 2 * size  # drawn twice as large, then reduced: soft edges
    canvas = before.resize((scale, scale), Image.Resampling.BICUBIC)
    land, shadow, roofs = Image.new("L", canvas.size), Image.new("L", canvas.size), Image.new("RGBA", canvas.size)
    draw, shade, paint = ImageDraw.Draw(land), ImageDraw.Draw(shadow), ImageDraw.Draw(roofs)

    line, road = crossing_line(rng, 0.15), bool(rng.random() < 0.45)
    if road:
        outline = ribbon(line, rng.uniform(0.03, 0.08))
        grey = int(rng.integers(95, 190))
        draw.polygon(points(outline, scale), fill=255)
        ImageDraw.Draw(canvas).polygon(points(outline, scale), fill=(grey, grey, grey - 4))
    long, wide = rng.uniform(0.05, 0.16), rng.uniform(0.04, 0.1)
    if rng.random() < 0.2:
        long, wide = long * 2, wide * 1.8  # halls
    sun = rng.uniform(0, 2 * np.pi)
    cast = np.array([np.cos(sun), np.sin(sun)]) * rng.uniform(0.01, 0.035)
    base = np.array(ROOFS[rng.integers(len(ROOFS))], np.float32) * rng.uniform(0.75, 1.2)
    angle, origin = rng.uniform(0, np.pi), rng.uniform(0.1, 0.9, 2)
    count = int(rng.geometric(0.22))
    step = np.array([np.cos(angle), np.sin(angle)])
    for number in range(min(count, 16)):
        row, place = divmod(number, max(2, int(np.sqrt(count) + 1)))
        centre = origin + step * place * long * 1.35 + np.array([-step[1], step[0]]) * row * wide * 1.7
        centre = centre + rng.normal(0, 0.006, 2)
        if not (0 < centre[0] < 1 and 0 < centre[1] < 1):
            centre = rng.uniform(0.08, 0.92, 2)
        length, width = long * rng.uniform(0.85, 1.1), wide * rng.uniform(0.85, 1.1)
        house = rectangle(centre[0], centre[1], length, width, angle)
        ridge = np.stack([(house[0] + house[3]) / 2, (house[1] + house[2]) / 2])
        draw.polygon(points(house, scale), fill=255)
        for corner in range(4):
            side = np.stack([house[corner], house[(corner + 1) % 4]])
            shade.polygon(points(np.concatenate([side, side[::-1] + cast]), scale), fill=150)
        shade.polygon(points(house + cast, scale), fill=150)
        tone = base * rng.uniform(0.9, 1.1)
        for edge, light in ((house[:2], 1.12), (house[3:1:-1], 0.84)):
            half = np.concatenate([edge, ridge[::-1]])
            red, green, blue = (int(v) for v in np.clip(tone * light, 0, 255))
            paint.polygon(points(half, scale), fill=(red, green, blue, 255))
    shadow = shadow.filter(ImageFilter.GaussianBlur(1.2))
    canvas.paste((14, 18, 28), mask=shadow)
    canvas.paste(roofs.convert("RGB"), mask=roofs.getchannel("A"))
    after, mask = _laid_over(rng, before, canvas, land, shadow)
    return after, mask, ("a house" if count == 1 else "houses") + " and a road" * road


GROUNDS = ((176, 150, 118), (150, 132, 112), (188, 180, 168), (128, 122, 116), (206, 190, 160), (118, 104, 88))
PLAIN_ROOFS = (*ROOFS, (226, 226, 222), (176, 182, 190), (150, 168, 190), (84, 88, 92))


def clear_and_build(rng: np.random.Generator, before: Image.Image) -> tuple[Image.Image, Array, str]:
    """Large plain areas, which neither houses nor other scenes teach: bare ground, halls, or halls on bare ground.

    Returns:
        The picture, the mask `(size, size)` of what changed, and its name: one of `BUILT`, or `BARE`.
    """
    while True:
        after, mask, name = _clear_and_build(rng, before)
        if CHANGED_SHARE[0] <= mask.mean() <= CHANGED_SHARE[1]:
            return after, mask, name


def _clear_and_build(rng: np.random.Generator, before: Image.Image) -> tuple[Image.Image, Array, str]:
    size = before.size[0]
    scale = 2 * size  # drawn twice as large, then reduced: soft edges
    canvas = before.resize((scale, scale), Image.Resampling.BICUBIC)
    land, shadow = Image.new("L", canvas.size), Image.new("L", canvas.size)

    halls = int(rng.choice((0, 1, 1, 2, 3)))
    if not halls or rng.random() < 0.5:
        region = _region(rng, size).resize(canvas.size, Image.Resampling.NEAREST)
        tone = np.array(GROUNDS[rng.integers(len(GROUNDS))], np.float32) * rng.uniform(0.75, 1.15)
        texture = 1 + rng.uniform(0.02, 0.1) * soft_field(rng, size) + rng.uniform(0, 0.06) * soft_field(rng, size, 16)
        ground = Image.fromarray(np.clip(texture[..., None] * tone, 0, 255).astype(np.uint8)).resize(canvas.size)
        canvas.paste(ground, mask=region)
        land.paste(255, mask=region)
    angle, sun = rng.uniform(0, np.pi, 2) * (1, 2)
    cast = np.array([np.cos(sun), np.sin(sun)]) * rng.uniform(0.015, 0.05)
    base = np.array(PLAIN_ROOFS[rng.integers(len(PLAIN_ROOFS))], np.float32) * rng.uniform(0.85, 1.1)
    long, wide = rng.uniform(0.2, 0.55), rng.uniform(0.12, 0.3)
    origin, across = rng.uniform(0.2, 0.8, 2), np.array([-np.sin(angle), np.cos(angle)])
    draw, shade, roofs = ImageDraw.Draw(land), ImageDraw.Draw(shadow), Image.new("RGBA", canvas.size)
    paint = ImageDraw.Draw(roofs)
    for number in range(halls):
        centre = origin + across * (number - (halls - 1) / 2) * wide * rng.uniform(1.1, 1.4)
        length, width = long * rng.uniform(0.8, 1.1), wide * rng.uniform(0.8, 1.1)
        hall = rectangle(centre[0], centre[1], length, width, angle)
        draw.polygon(points(hall, scale), fill=255)
        for corner in range(4):
            side = np.stack([hall[corner], hall[(corner + 1) % 4]])
            shade.polygon(points(np.concatenate([side, side[::-1] + cast]), scale), fill=150)
        seams = int(rng.integers(1, 14))  # plain, or of as many sheets
        tone, contrast = base * rng.uniform(0.93, 1.07), rng.uniform(0, 0.05)
        for seam in range(seams):
            first, last = (hall[0] + (hall[1] - hall[0]) * share for share in (seam / seams, (seam + 1) / seams))
            far = hall[3] - hall[0]
            light = 1 + contrast * (-1) ** seam
            red, green, blue = (int(value) for value in np.clip(tone * light, 0, 255))
            paint.polygon(
                points(np.stack([first, last, last + far, first + far]), scale), fill=(red, green, blue, 255)
            )
    shadow = shadow.filter(ImageFilter.GaussianBlur(1.2))
    canvas.paste((14, 18, 28), mask=shadow)
    canvas.paste(roofs.convert("RGB"), mask=roofs.getchannel("A"))
    after, mask = _laid_over(rng, before, canvas, land, shadow)
    return after, mask, (BARE, "a large building", "large buildings", "large buildings")[halls]


def _laid_over(
    rng: np.random.Generator, before: Image.Image, canvas: Image.Image, land: Image.Image, shadow: Image.Image
) -> tuple[Image.Image, Array]:
    """What was painted on `canvas`, twice as large, where `land` and `shadow` are marked; and the mask of `land`.

    The rest stays `before` itself: enlarging and reducing has softened it, which would tell of a change.
    """
    size = before.size[0]
    grain = rng.normal(0, rng.uniform(1, 4), (size, size, 1))
    painted = Image.fromarray(np.clip(np.asarray(canvas.reduce(2)) + grain, 0, 255).astype(np.uint8))
    touched = ImageChops.lighter(land, shadow.point(lambda value: 255 * (value > 0))).reduce(2)
    return Image.composite(painted, before, touched), np.asarray(land.reduce(2)) > 127
