"""Clips in which nothing happens, of real pictures: a camera that moves slowly over one of RSSCN7's training scenes.

The clips of RS-World are painted, and so is all that happens in them. Without real ones a model takes real land for an
event that it has seen painted in those colours.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from .real_scenes import relight
from .scene_clips import shoot
from .scene_shapes import Array

PAN, TURN, ZOOM = 0.09, 0.1, 0.05  # at most: of the picture's side, radians, share
GRAIN = 0.02  # of each frame's own, at most


def real_clip(rng: np.random.Generator, picture: Array, size: int, frames: int) -> Array:
    """Frames `(frames, size, size, 3)` uint8 of a window that moves over the picture, in one light.

    Args:
        picture: `(side, side, 3)`, at least a third larger than the window.
    """
    land = relight(rng, Image.fromarray(np.rot90(picture, int(rng.integers(4)))), 0.5)
    pan, turn, zoom = rng.uniform(-PAN, PAN, 2), rng.uniform(-TURN, TURN), rng.uniform(0, ZOOM)
    grain = rng.uniform(0, GRAIN) * 255
    shown = []
    for time in np.linspace(-0.5, 0.5, frames):
        middle = 0.5 + pan * time * 2 + rng.normal(0, 0.0015, 2)
        frame = np.asarray(shoot(land, middle, turn * time, 1 + zoom * (time + 0.5), size), np.float32)
        shown.append((frame + rng.normal(0, grain, frame.shape)).clip(0, 255).astype(np.uint8))
    return np.stack(shown)
