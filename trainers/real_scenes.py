"""Real pictures for the embedded checkpoint: RSSCN7's training scenes, and pairs of dates made from one of them.

One date is enough to make two (the single-temporal trick of Changen and of STAR): another light, season, haze, sensor
and a small shift give a pair in which nothing changed, and so does another picture of the same kind of grass, crops or
trees; a piece of another scene, or painted houses and roads, give a change whose mask is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from ..evaluation.change_flags import NO_CHANGE_SENTENCES
from .real_changes import ALONG, BUILT, build_estate, build_houses, clear_and_build, paste, soft_field
from .scene_shapes import Array

SIDE = 192  # pixels, as the pictures are stored


@dataclass(frozen=True)
class SceneClass:
    """A class of RSSCN7 (Zou et al., 2015), and what may be told of its pictures; or of a picture made of several
    (far_views.py), which has neither folder nor name.

    Args:
        folder: Where its pictures lie.
        name: In questions.
        noun: In captions.
        cover: Its main land cover, None where it may be any.
        urban: None where it may be either.
        shown, hidden: What such a scene surely shows, and surely does not.
        buildings: What a piece of it adds to another scene, a name of `BUILT`; None where it is mainly something else.
        grows: Whether it is grass, crops or trees, which look otherwise in another year and are the same land.
    """

    folder: str
    name: str
    noun: str
    cover: str | None
    urban: bool | None
    shown: tuple[str, ...]
    hidden: tuple[str, ...]
    buildings: str | None = None
    grows: bool = False


SCENE_CLASSES = (
    SceneClass(
        "grass",
        "grass",
        "grassland",
        "grassland",
        False,
        (),
        ("a parking lot", "a boat", "a storage tank"),
        grows=True,
    ),
    SceneClass(
        "field",
        "field",
        "a field",
        "cropland",
        False,
        ("a crop field",),
        ("a parking lot", "a boat", "a sports field"),
        grows=True,
    ),
    SceneClass(
        "industry",
        "industry",
        "an industrial area",
        "built-up area",
        True,
        ("a building",),
        ("a crop field", "a boat"),
        "large buildings",
    ),
    SceneClass(
        "river-lake", "river or lake", "water", "water", None, ("a water area",), ("a parking lot", "a sports field")
    ),
    SceneClass(
        "forest",
        "forest",
        "a forest",
        "forest",
        False,
        ("a forest",),
        ("a parking lot", "a storage tank", "a sports field"),
        grows=True,
    ),
    SceneClass(
        "residential",
        "residential area",
        "a residential area",
        "built-up area",
        True,
        ("a building", "a road"),
        ("a crop field", "a boat", "a storage tank"),
        "houses",
    ),
    SceneClass(
        "parking",
        "parking lot",
        "a parking lot",
        None,
        True,
        ("a parking lot", "a vehicle"),
        ("a crop field", "a boat", "a solar farm"),
    ),
)
CLASSES = tuple(one.name for one in SCENE_CLASSES)
RESIDENTIAL = CLASSES.index("residential area")
WITH_BUILDINGS = np.array([one.buildings is not None for one in SCENE_CLASSES])
GROWS = np.array([one.grows for one in SCENE_CLASSES])
# Shares of the changes: pieces of other scenes, houses along a road, houses in rows. The others are large and plain.
# Of the pairs of LEVIR-CC's training captions in which something changed, 82 % tell of houses, 84 % of roads and 9 %
# of large buildings; where these were a third of the changes, they were said of nearly every real pair.
SCENE_SHARE, ESTATE_SHARE, HOUSE_SHARE = 0.35, 0.25, 0.25
TOWN_SHARE = 0.4  # of the pieces, such as are drawn from residential areas whatever their share of the pictures
BACKWARDS = 0.15  # share of the changes in which something was taken away
WHOLE_SHARE = 0.15  # and of the pieces of scenes of another class, such as cover all of the picture
# Of all pairs: such as are made of grass, crops or trees whatever their share of the pictures, for towns mostly stay.
GROWING_SHARE = 0.4
# Of pairs of grass, crops or trees, changed or not: such as show others of their kind at the second date, and of these
# such as show nothing else.
REGROWN_SHARE, WHOLLY_REGROWN_SHARE = 0.6, 0.4


@dataclass(frozen=True)
class RealPair:
    """Two dates `(2, size, size, 3)` uint8, the mask `(size, size)` of what changed, and the names of both sides.

    `old` and `new` are nouns of the land before and after, both empty where nothing changed. `land` is the noun of the
    scene that both dates were made of.
    """

    pictures: Array
    mask: Array
    old: str = ""
    new: str = ""
    land: str = ""


def load_real(folder: Path, side: int = SIDE) -> tuple[Array, Array]:
    """Pictures of one split of RSSCN7 `(n, side, side, 3)` uint8 and their class numbers `(n,)`.

    RSSCN7: 2,800 scenes of 400x400 pixels from Google Earth at four scales, seven classes. A split is a folder that
    holds one folder of JPEG files for each of `SCENE_CLASSES`.

    Raises:
        FileNotFoundError: the folder, or a class of it, is not there.
    """
    pictures, labels = [], []
    for number, one in enumerate(SCENE_CLASSES):
        paths = sorted((folder / one.folder).glob("*.jpg"))
        if not paths:
            raise FileNotFoundError(
                f"{folder / one.folder}: no .jpg files; give --real the folder of RSSCN7 with train/"
            )
        for path in paths:
            picture = Image.open(path).convert("RGB")
            if picture.size != (side, side):
                picture = picture.resize((side, side), Image.Resampling.BICUBIC)
            pictures.append(np.asarray(picture))
            labels.append(number)
    return np.stack(pictures), np.array(labels)


def view(rng: np.random.Generator, picture: Array, size: int, smallest: float = 0.55) -> Image.Image:
    """A random square of the picture, turned and mirrored: seen from above, all are as good."""
    share = np.sqrt(rng.uniform(smallest**2, 1.0))
    side = picture.shape[0] * share
    left, top = rng.uniform(0, picture.shape[0] - side, 2)
    image = Image.fromarray(picture).resize(
        (size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side)
    )
    turns = (None, *list(Image.Transpose))
    turn = turns[rng.integers(len(turns))]
    return image if turn is None else image.transpose(turn)


def relight(rng: np.random.Generator, image: Image.Image, strength: float = 1.0) -> Image.Image:
    """Another light, season, haze and sensor over the same land. `strength` 1 is as far as two years may differ."""
    pixels = np.asarray(image, np.float32) / 255  # (height, width, 3)
    # 1. season: what is green turns brown or greener, more in some parts than in others
    green = np.clip((pixels[..., 1] - pixels[..., [0, 2]].mean(-1)) * 6 + 0.25, 0, 1)
    field = soft_field(rng, image.size[0])
    dry = np.clip(rng.normal(0, 0.5) + 0.5 * rng.random() * field, -0.6, 0.9) * strength * green
    tone = pixels.mean(-1, keepdims=True) * np.array((1.16, 1.0, 0.74), np.float32)
    pixels = pixels + dry[..., None] * (tone - pixels)
    # 2. light: gamma, contrast, cast, and a slow change across the picture
    pixels = np.clip(pixels, 1e-3, 1) ** np.exp(rng.normal(0, 0.28 * strength))
    pixels = (pixels - 0.4) * np.exp(rng.normal(0, 0.2 * strength)) + 0.4
    pixels *= np.exp(rng.normal(0, 0.16 * strength) + rng.normal(0, 0.07 * strength, 3)).astype(np.float32)
    pixels *= (1 + 0.07 * strength * rng.random() * soft_field(rng, image.size[0]))[..., None]
    # 3. haze and grain
    haze = max(0.0, rng.uniform(-0.3, 0.3)) * strength
    pixels = pixels * (1 - haze) + np.array((0.72, 0.75, 0.8), np.float32) * haze
    pixels += rng.normal(0, rng.uniform(0, 0.025) * strength, pixels.shape).astype(np.float32)
    relit = Image.fromarray((np.clip(pixels, 0, 1) * 255).astype(np.uint8))
    relit = ImageEnhance.Color(relit).enhance(float(np.exp(rng.normal(0, 0.3 * strength))))
    blur = max(0.0, rng.uniform(-0.6, 1.1)) * strength
    return relit.filter(ImageFilter.GaussianBlur(blur)) if blur > 0.2 else relit


def misregister(rng: np.random.Generator, image: Image.Image, shift: float = 2.0, turn: float = 1.0) -> Image.Image:
    """Moved by up to `shift` pixels, turned by up to `turn` degrees, and scaled by up to one per cent."""
    size = image.size[0]
    angle, scale = np.deg2rad(rng.uniform(-turn, turn)), rng.uniform(0.99, 1.01)
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    middle, (x, y) = size / 2, rng.uniform(-shift, shift, 2)
    matrix = (cos, -sin, middle - cos * middle + sin * middle + x, sin, cos, middle - sin * middle - cos * middle + y)
    wide = np.pad(np.asarray(image), ((8, 8), (8, 8), (0, 0)), mode="reflect")  # no black edge enters
    matrix = (*matrix[:2], matrix[2] + 8 - 8 * (cos - sin), *matrix[3:5], matrix[5] + 8 - 8 * (sin + cos))
    moved = Image.fromarray(wide).transform(
        (size + 16, size + 16), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC
    )
    return moved.crop((8, 8, size + 8, size + 8))


def regrow(rng: np.random.Generator, image: Image.Image, picture: Array) -> Image.Image:
    """The same land in another year: other grass, crops or trees of its kind, on all of `image` or on a part of it.

    That nobody would mark it as a change is an assumption: another field may have a path or a shed that the first has
    not. No light or haze makes the one of the other.

    Args:
        picture: `(side, side, 3)`, of the same class.
    """
    other = view(rng, picture, image.size[0])
    return other if rng.random() < WHOLLY_REGROWN_SHARE else paste(rng, image, other)[0]


def real_pair(rng: np.random.Generator, pictures: Array, labels: Array, size: int, changed: bool) -> RealPair:
    """Two dates made from one real scene; what changes is a piece of another, houses, or what is large and plain.

    A piece may cover all of it, as where a wood becomes an estate. A smaller one of a built-up scene is named by its
    class or by its buildings, and by these alone where the scene is of the same class: no land turns into itself.
    Around it grass, crops and trees may be others of their kind.
    """
    growing = np.flatnonzero(GROWS[labels])
    if len(growing) and rng.random() < GROWING_SHARE:
        number = int(rng.choice(growing))
    else:
        number = int(rng.integers(len(pictures)))
    before = after = view(rng, pictures[number], size)
    if GROWS[labels[number]] and rng.random() < REGROWN_SHARE:
        after = regrow(rng, before, pictures[rng.choice(np.flatnonzero(labels == labels[number]))])
    mask, old, new = np.zeros((size, size), bool), "", ""
    kind = rng.random() if changed else 1.0
    if kind < SCENE_SHARE:
        others = np.flatnonzero((labels != labels[number]) | WITH_BUILDINGS[labels])
        towns = others[labels[others] == RESIDENTIAL]
        other = int(rng.choice(towns if len(towns) and rng.random() < TOWN_SHARE else others))
        scene, piece = SCENE_CLASSES[labels[number]], SCENE_CLASSES[labels[other]]
        old, new = scene.noun, piece.noun
        if piece is not scene and rng.random() < WHOLE_SHARE:
            after, mask = view(rng, pictures[other], size), np.ones((size, size), bool)
        else:
            after, mask = paste(rng, after, view(rng, pictures[other], size))
            if piece.buildings and (piece is scene or rng.random() < 0.5):
                new = piece.buildings
    elif changed:
        if kind < SCENE_SHARE + ESTATE_SHARE:
            after, mask, new = build_estate(rng, after)
        elif kind < SCENE_SHARE + ESTATE_SHARE + HOUSE_SHARE:
            after, mask, new = build_houses(rng, after)
        else:
            after, mask, new = clear_and_build(rng, after)
        old = SCENE_CLASSES[labels[number]].noun
    if changed and rng.random() < BACKWARDS:  # the same, told backwards: something was taken away
        before, after, old, new = after, before, new, old
    dates = [relight(rng, before), misregister(rng, relight(rng, after))]
    return RealPair(np.stack([np.asarray(date) for date in dates]), mask, old, new, SCENE_CLASSES[labels[number]].noun)


def captions(pair: RealPair) -> tuple[str, ...]:
    """What may be said of a made pair, in LEVIR-CC's manner.

    What the land was before is not told: of real pairs it is mostly told wrongly, which spoils a sentence whose other
    words are right.
    """
    if not pair.new:
        return NO_CHANGE_SENTENCES
    if pair.new.endswith(ALONG):
        houses = pair.new.removesuffix(ALONG)
        return (
            f"{houses} are built along a new road",
            f"a new road with {houses} along it appears",
            f"{houses} and a road are added",
            f"{houses} appear along a new road",
            f"{houses} along a road are constructed",
        )
    if pair.new in BUILT:
        be, have, s = ("is", "has", "s") if BUILT[pair.new] else ("are", "have", "")
        return (
            f"{pair.new} {be} built",
            f"{pair.new} appear{s}",
            f"{pair.new} {have} been constructed",
            f"{pair.new} show{s} up",
            f"{pair.new} {be} added",
        )
    if pair.old in BUILT:
        be, s = ("is", "s") if BUILT[pair.old] else ("are", "")
        return (
            f"{pair.old} {be} removed",
            f"{pair.old} disappear{s}",
            f"{pair.old} {be} demolished",
            f"{pair.old} {be} cleared",
            f"{pair.old} {be} gone",
        )
    land = "the land" if pair.mask.all() else "a part of the land"
    return (
        f"{pair.new} appears",
        f"{land} becomes {pair.new}",
        f"{land} has been turned into {pair.new}",
        f"{land} is replaced by {pair.new}",
        f"there is {pair.new} where there was none",
    )
