"""Where a pair changed, for the training of the embedded checkpoint: in a ninth, in several places, or nowhere."""

from __future__ import annotations

import numpy as np

from .scene_questions import CLEAR
from .scene_shapes import Array
from .tiny_places import PLACES, ninths

WHERE_CHANGED = "Where did it change?"
NOWHERE, SEVERAL, EVERYWHERE = "nowhere", "in several places", "everywhere"
NEAR = 0.3  # of the side, from the middle of a change
MOST, LESS = 0.9, 0.7  # share of the change so near, from which it is at one place, and up to which it is not
HELD = 0.5  # share of it from which a ninth is where it is
ALL = 0.95  # of the picture


def changed_place(shares: Array) -> str:
    """The ninth that holds the middle of what changed, and at least half of it.

    Args:
        shares: Changed share of each patch, `(side, side)`, for a side of whole thirds.

    Returns:
        One of PLACES; SEVERAL if the change has parts that lie apart; EVERYWHERE, NOWHERE; or nothing if it is wide,
        between these, or its middle lies near the border of a ninth.
    """
    shares = np.asarray(shares, np.float32)
    if not shares.any() or shares.mean() > ALL:
        return EVERYWHERE if shares.any() else NOWHERE
    middles = (np.arange(len(shares)) + 0.5) / len(shares)
    x, y = (float(shares.sum(axis) @ middles / shares.sum()) for axis in (0, 1))
    near = np.hypot(middles[None] - x, middles[:, None] - y) <= NEAR
    share = shares[near].sum() / shares.sum()
    if share <= LESS:
        return SEVERAL if _largest(shares) <= LESS * shares.sum() else ""
    if share < MOST or any(abs(at - third) < CLEAR for at in (x, y) for third in (1 / 3, 2 / 3)):
        return ""
    held = ninths(shares.reshape(1, -1))[0]
    place = min(int(y * 3), 2) * 3 + min(int(x * 3), 2)
    return PLACES[place] if held[place] >= HELD * held.sum() else ""


def _largest(shares: Array) -> float:
    """How much of the change the largest of its parts holds; patches of one part join at sides or corners."""
    most, left = 0.0, shares.copy()
    while left.any():
        part = _part(left)
        most = max(most, float(left[part].sum()))
        left[part] = 0
    return most


def _part(shares: Array) -> Array:
    """The part that the first changed patch belongs to, `(side, side)`."""
    part = np.zeros(shares.shape, bool)
    part.ravel()[(shares > 0).argmax()] = True
    while True:
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(part, 1), (3, 3))
        grown = windows.any((-2, -1)) & (shares > 0)
        if (grown == part).all():
            return part
        part = grown
