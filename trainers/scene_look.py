"""How one date of a scene of the SYNTHETIC aerial world looks, apart from its land."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .scene_shapes import Array


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
    # A picture (side, side, 3) in place of painted grass and soil; here, for all that paints takes the look along.
    ground: Array | None = field(default=None, compare=False)


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
