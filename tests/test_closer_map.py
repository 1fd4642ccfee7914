"""The change map at two scales, against what a model that sees single pixels must give."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from unirs.processing import UniRSImageProcessor

from unirs.closer_map import closer_change_map


class Differences:
    """A model whose change map is the difference of each patch, the more the lower it lies in what is shown."""

    device = torch.device("cpu")

    def __init__(self, grid: int, patch: int, rest: int):
        vision = SimpleNamespace(image_size=grid * patch + rest, patch_size=patch)
        self.config = SimpleNamespace(vision_config=vision, vision_grid=grid)

    def get_change_map(self, pixels):
        grid, patch = self.config.vision_grid, self.config.vision_config.patch_size
        apart = (pixels[:, 0] - pixels[:, 1]).abs().mean(1)[:, : grid * patch, : grid * patch]
        cells = apart.unflatten(2, (grid, patch)).unflatten(1, (grid, patch)).mean((2, 4))  # (1, grid, grid)
        return cells * torch.from_numpy(ramp(grid))


def ramp(grid: int) -> np.ndarray:
    return np.linspace(0.1, 1, grid, dtype=np.float32)[:, None]


# Grids of both kinds; SigLIP's patches leave pixels at the edge, 384 = 27 x 14 + 6.
@pytest.mark.parametrize(("grid", "rest", "middle"), [(4, 0, 2), (7, 3, 3)])
def test_the_whole_and_nine_overlapping_parts_are_looked_at_where_they_lie(grid, rest, middle):
    patch = 4
    side = grid * patch + rest
    model = Differences(grid, patch, rest)
    encode = UniRSImageProcessor(size={"height": side, "width": side}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    rng = np.random.default_rng(0)
    before, after = (Image.fromarray(rng.integers(0, 256, (2 * side, 2 * side, 3), np.uint8)) for _ in range(2))
    found = closer_change_map(model, SimpleNamespace(image_processor=encode), before, after)
    # By numpy: the pictures have the large size already, so a cell is a block of their pixels.
    apart = np.abs(np.asarray(before, np.float64) - np.asarray(after, np.float64)).mean(-1) / 127.5
    cells = apart[: 2 * grid * patch, : 2 * grid * patch].reshape(2 * grid, patch, 2 * grid, patch).mean((1, 3))
    parts = np.full((9, 2 * grid, 2 * grid), np.nan)
    for number, (top, left) in enumerate(itertools.product((0, middle, grid), repeat=2)):
        window = np.s_[top : top + grid, left : left + grid]
        parts[number][window] = cells[window] * ramp(grid)
    small = model.get_change_map(encode([before, after], return_tensors="pt")["pixel_values"][None])[0].numpy()
    coarse = np.asarray(Image.fromarray(small).resize((2 * grid, 2 * grid), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(found, (np.nanmean(parts, 0) + coarse) / 2, atol=1e-5)


def test_equal_dates_are_the_same_everywhere_and_the_map_stays_between_0_and_1(model, processor):
    picture, other = (
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (60, 90, 3), np.uint8)) for seed in (1, 2)
    )
    np.testing.assert_allclose(closer_change_map(model, processor, picture, picture), 0, atol=1e-5)
    found = closer_change_map(model, processor, picture, other)
    assert 0 <= found.min() <= found.max() <= 1
