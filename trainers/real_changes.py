"""What is painted into a real picture to make a change whose mask is known (real_scenes.py makes pairs of it)."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from .scene_shapes import Array, along_line, blob, crossing_line, points, rectangle, ribbon

CHANGED_SHARE = (0.03, 0.55)  # of the picture
ALONG = " along a road"
SOME_ALONG, MANY_ALONG = f"some houses{ALONG}", f"many houses{ALONG}"
FEWEST, MANY_HOUSES = 3, 8  # along a road; from how many on they are many
# What is built, and whether one thing is said to be.
BUILT = {
    "a house": True,
    "houses": False,
    "a house and a road": False,
    "houses and a road": False,
    "a large building": True,
    "large buildings": False,
    SOME_ALONG: False,
    MANY_ALONG: False,
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


class _Canvas:
    """What is painted over a picture, twice as large, then reduced: soft edges."""

    def __init__(self, rng: np.random.Generator, before: Image.Image):
        self.rng, self.before, self.scale = rng, before, 2 * before.size[0]
        self.picture = before.resize((self.scale, self.scale), Image.Resampling.BICUBIC)
        self.land, self.shadow = (Image.new("L", self.picture.size) for _ in range(2))
        self.roofs = Image.new("RGBA", self.picture.size)
        sun = rng.uniform(0, 2 * np.pi)
        self.cast = np.array([np.cos(sun), np.sin(sun)])  # times the length of a shadow

    def ground(self, outline: Image.Image) -> None:
        """Soft, nearly plain ground of one tone where `outline` (size, size) is marked."""
        rng, size = self.rng, self.before.size[0]
        region = outline.resize(self.picture.size, Image.Resampling.NEAREST)
        tone = np.array(GROUNDS[rng.integers(len(GROUNDS))], np.float32) * rng.uniform(0.75, 1.15)
        texture = 1 + rng.uniform(0.02, 0.1) * soft_field(rng, size) + rng.uniform(0, 0.06) * soft_field(rng, size, 16)
        plain = Image.fromarray(np.clip(texture[..., None] * tone, 0, 255).astype(np.uint8)).resize(self.picture.size)
        self.picture.paste(plain, mask=region)
        self.land.paste(255, mask=region)

    def road(self, line: Array, width: float) -> None:
        outline, grey = points(ribbon(line, width), self.scale), int(self.rng.integers(95, 190))
        ImageDraw.Draw(self.land).polygon(outline, fill=255)
        ImageDraw.Draw(self.picture).polygon(outline, fill=(grey, grey, grey - 4))

    def block(self, outline: Array, height: float) -> None:
        """The place `(4, 2)` of a building and the shadow that it casts."""
        ImageDraw.Draw(self.land).polygon(points(outline, self.scale), fill=255)
        shade, cast = ImageDraw.Draw(self.shadow), self.cast * height
        for corner in range(4):
            side = np.stack([outline[corner], outline[(corner + 1) % 4]])
            shade.polygon(points(np.concatenate([side, side[::-1] + cast]), self.scale), fill=150)
        shade.polygon(points(outline + cast, self.scale), fill=150)

    def roof(self, outline: Array, tone: Array) -> None:
        red, green, blue = (int(value) for value in np.clip(tone, 0, 255))
        ImageDraw.Draw(self.roofs).polygon(points(outline, self.scale), fill=(red, green, blue, 255))

    def house(self, outline: Array, height: float, tone: Array) -> None:
        """A house with a ridge along edge 0-1 of `outline` `(4, 2)`, one side of its roof in the light."""
        self.block(outline, height)
        ridge = np.stack([(outline[0] + outline[3]) / 2, (outline[1] + outline[2]) / 2])
        for edge, light in ((outline[:2], 1.12), (outline[3:1:-1], 0.84)):
            self.roof(np.concatenate([edge, ridge[::-1]]), tone * light)

    def done(self) -> tuple[Image.Image, Array]:
        """The picture, and the mask `(size, size)` of what was painted."""
        shadow = self.shadow.filter(ImageFilter.GaussianBlur(1.2))
        self.picture.paste((14, 18, 28), mask=shadow)
        self.picture.paste(self.roofs.convert("RGB"), mask=self.roofs.getchannel("A"))
        return _laid_over(self.rng, self.before, self.picture, self.land, shadow)


def build_houses(rng: np.random.Generator, before: Image.Image) -> tuple[Image.Image, Array, str]:
    """Houses, with or without a road, painted over a real scene: rows of one kind.

    Returns:
        The picture, the mask `(size, size)` of what was built, and a name of `BUILT`.
    """
    canvas, line, road = _Canvas(rng, before), crossing_line(rng, 0.15), bool(rng.random() < 0.45)
    if road:
        canvas.road(line, rng.uniform(0.03, 0.08))
    long, wide = rng.uniform(0.05, 0.16), rng.uniform(0.04, 0.1)
    if rng.random() < 0.2:
        long, wide = long * 2, wide * 1.8  # halls
    height = rng.uniform(0.01, 0.035)
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
        canvas.house(rectangle(centre[0], centre[1], length, width, angle), height, base * rng.uniform(0.9, 1.1))
    return *canvas.done(), ("a house" if count == 1 else "houses") + " and a road" * road


def build_estate(rng: np.random.Generator, before: Image.Image) -> tuple[Image.Image, Array, str]:
    """Houses along a road, on one side of it or on both, at times on ground that was cleared for them.

    Returns:
        As `build_houses`.
    """
    while True:
        canvas, line, width = _Canvas(rng, before), crossing_line(rng, 0.2), rng.uniform(0.03, 0.07)
        long, wide = rng.uniform(0.05, 0.14), rng.uniform(0.05, 0.12)
        yard = rng.uniform(0.01, 0.05)  # between road and house
        first, last = sorted(rng.uniform(-0.2, 1.2, 2))
        sides = ((-1, 1), (-1, 1), (1,))[rng.integers(3)]
        if rng.random() < 0.6:
            cleared = Image.new("L", before.size)
            depth = width + 2 * (yard + wide) * rng.uniform(1.0, 1.4)
            inside = line[int(max(first, 0) * 31) : int(min(last, 1) * 31) + 1]
            if len(inside) > 2:
                ImageDraw.Draw(cleared).polygon(points(ribbon(inside, depth), before.size[0]), fill=255)
                canvas.ground(cleared)
        canvas.road(line, width)
        base = np.array(ROOFS[rng.integers(len(ROOFS))], np.float32) * rng.uniform(0.75, 1.2)
        height, spacing, count = rng.uniform(0.01, 0.035), long * rng.uniform(1.15, 1.7), 0
        reach = np.linalg.norm(np.diff(line, axis=0), axis=1).sum()
        for side in sides:
            for at in np.arange(max(first, 0) + rng.uniform(0, spacing), min(last, 1), spacing / reach):
                if rng.random() < 0.15:
                    continue
                offset = side * (width / 2 + yard + wide / 2 + rng.normal(0, 0.006))
                x, y, angle = along_line(line, at, offset)
                if 0.02 < x < 0.98 and 0.02 < y < 0.98:
                    length, across = long * rng.uniform(0.8, 1.1), wide * rng.uniform(0.8, 1.1)
                    tone = base * rng.uniform(0.85, 1.15)
                    canvas.house(rectangle(x, y, length, across, angle + rng.normal(0, 0.05)), height, tone)
                    count += 1
        if count >= FEWEST:
            after, mask = canvas.done()
            return after, mask, MANY_ALONG if count >= MANY_HOUSES else SOME_ALONG


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
    canvas, halls = _Canvas(rng, before), int(rng.choice((0, 1, 1, 2, 3)))
    if not halls or rng.random() < 0.5:
        canvas.ground(_region(rng, before.size[0]))
    angle, height = rng.uniform(0, np.pi), rng.uniform(0.015, 0.05)
    base = np.array(PLAIN_ROOFS[rng.integers(len(PLAIN_ROOFS))], np.float32) * rng.uniform(0.85, 1.1)
    long, wide = rng.uniform(0.2, 0.55), rng.uniform(0.12, 0.3)
    origin, across = rng.uniform(0.2, 0.8, 2), np.array([-np.sin(angle), np.cos(angle)])
    for number in range(halls):
        centre = origin + across * (number - (halls - 1) / 2) * wide * rng.uniform(1.1, 1.4)
        length, width = long * rng.uniform(0.8, 1.1), wide * rng.uniform(0.8, 1.1)
        hall = rectangle(centre[0], centre[1], length, width, angle)
        canvas.block(hall, height)
        seams = int(rng.integers(1, 14))  # plain, or of as many sheets
        tone, contrast = base * rng.uniform(0.93, 1.07), rng.uniform(0, 0.05)
        for seam in range(seams):
            first, last = (hall[0] + (hall[1] - hall[0]) * share for share in (seam / seams, (seam + 1) / seams))
            far = hall[3] - hall[0]
            canvas.roof(np.stack([first, last, last + far, first + far]), tone * (1 + contrast * (-1) ** seam))
    return *canvas.done(), (BARE, "a large building", "large buildings", "large buildings")[halls]


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
