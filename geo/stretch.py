"""Values of any sensor to 0..255, by one stretch for all dates, so that a real change of brightness stays one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LOW, HIGH = 2.0, 98.0  # percentiles, as QGIS's cumulative cut


@dataclass(frozen=True)
class Stretch:
    """A straight line for each channel: `low` becomes 0 and `high` 255; what lies outside is clipped."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]

    def __call__(self, channels: np.ndarray) -> np.ndarray:
        """`(3, H, W)` channels to `(H, W, 3)` bytes."""
        low = np.asarray(self.low, np.float32)[:, None, None]
        high = np.asarray(self.high, np.float32)[:, None, None]
        scaled = (channels - low) * (255 / (high - low))
        return np.nan_to_num(scaled, nan=0.0).clip(0, 255).round().astype(np.uint8).transpose(1, 2, 0)


AS_THEY_ARE = Stretch((0.0, 0.0, 0.0), (255.0, 255.0, 255.0))  # bytes are pictures already


def joint_stretch(samples: Sequence[np.ndarray]) -> Stretch:
    """The stretch of several dates together.

    Args:
        samples: For each date channels `(3, n)` of the same places, so that no date weighs more than another.
    """
    values = np.concatenate(samples, axis=1) if samples else np.empty((3, 0))
    values = values[:, np.isfinite(values).all(0)]
    if not values.shape[1]:
        return AS_THEY_ARE
    low, high = np.percentile(values, (LOW, HIGH), axis=1)
    high = np.where(high > low, high, low + 1)  # one value throughout: it becomes black, not a division by zero
    return Stretch(tuple(map(float, low)), tuple(map(float, high)))  # type: ignore[arg-type]
