"""How far a date lies beside BEFORE's grid, although its georeference says that it fits: by phase correlation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from rasterio.windows import Window

from .coregistration import AlignedDates
from .raster_files import RasterError

PATCH = 128  # pixels a side
PATCHES_A_SIDE = 4
FINEST = 20  # steps of a pixel
SHARP = 8.0  # height of a correlation peak, in standard deviations, that no chance makes in PATCH^2 values
AGREEING = 1.0  # pixels from the median


@dataclass(frozen=True)
class Shift:
    """What AFTER would have to be moved back by, in pixels of BEFORE's grid, to lie on BEFORE.

    Args:
        spread: Median distance of the patches that agree from `(east, south)`.
        patches: How many patches agree, of all that were tried.
    """

    east: float
    south: float
    spread: float
    patches: tuple[int, int]


def estimate_shift(aligned: AlignedDates, date: int) -> Shift | None:
    """The shift of a date against the first one, or None where too few patches agree on one."""
    found, tried = [], 0
    for window in _patches(aligned.overlap):
        try:
            first, other = aligned.dates[0].read(window), aligned.dates[date].read(window)
        except RasterError:  # a broken tile is told where it is mapped
            continue
        if not (first[1] & other[1]).all():
            continue
        tried += 1
        moved = phase_correlation(first[0].mean(0), other[0].mean(0))
        if moved is not None:
            found.append(moved)
    if len(found) < max(1, tried / 3):
        return None
    shifts = np.array(found)  # (patches, 2)
    distances = np.linalg.norm(shifts - np.median(shifts, axis=0), axis=1)
    agreeing = distances <= AGREEING
    if agreeing.sum() < max(1, tried / 3):
        return None
    east, south = np.median(shifts[agreeing], axis=0)
    return Shift(float(east), float(south), float(np.median(distances[agreeing])), (int(agreeing.sum()), tried))


def _patches(area: Window) -> list[Window]:
    side = min(PATCH, area.width, area.height)
    columns = np.unique(np.linspace(area.col_off, area.col_off + area.width - side, PATCHES_A_SIDE).round())
    rows = np.unique(np.linspace(area.row_off, area.row_off + area.height - side, PATCHES_A_SIDE).round())
    return [Window(int(column), int(row), side, side) for row in rows for column in columns]


def phase_correlation(before: np.ndarray, after: np.ndarray) -> tuple[float, float] | None:
    """The shift (right, down) from one picture to another, `(H, W)` both, in parts of a pixel.

    The whole-pixel peak is refined by a Fourier transform of its neighbourhood alone (Guizar-Sicairos et al. 2008).
    None where no peak stands out.
    """
    height, width = before.shape
    taper = np.hanning(height)[:, None] * np.hanning(width)[None]
    spectra = [np.fft.fft2((one - one.mean()) * taper) for one in (before.astype(float), after.astype(float))]
    cross = spectra[1] * spectra[0].conj()
    strength = np.abs(cross)
    if not strength.max():
        return None
    # A little of the amplitude is kept: frequencies without any signal have phases of pure noise.
    cross = cross / (strength + 1e-3 * strength.max())
    correlation = np.fft.ifft2(cross).real
    peak = np.unravel_index(correlation.argmax(), correlation.shape)
    if correlation[peak] < SHARP * correlation.std():
        return None
    down, right = (
        int(place) - size if place > size // 2 else int(place)
        for place, size in zip(peak, correlation.shape, strict=True)
    )
    steps = np.arange(-FINEST, FINEST + 1) / FINEST  # one pixel to each side
    frequencies_down, frequencies_right = np.fft.fftfreq(height), np.fft.fftfreq(width)
    rows = np.exp(2j * np.pi * np.outer(down + steps, frequencies_down))  # (steps, H)
    columns = np.exp(2j * np.pi * np.outer(frequencies_right, right + steps))  # (W, steps)
    fine = (rows @ cross @ columns).real  # (steps, steps)
    fine_down, fine_right = np.unravel_index(fine.argmax(), fine.shape)
    return right + float(steps[fine_right]), down + float(steps[fine_down])
