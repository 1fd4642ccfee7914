"""The change map at two scales, against what a model that sees single pixels must give."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from unirs.processing import UniRSImageProcessor

from unirs.closer_map import closer_change_map


class Differences:
    """A model whose change map is the mean difference of each patch, whatever lies around it."""

    device = torch.device("cpu")

    def __init__(self, grid: int, patch: int, rest: int):
        vision = SimpleNamespace(image_size=grid * patch + rest, patch_size=patch)
        self.config, self.looks = SimpleNamespace(vision_config=vision, vision_grid=grid), 0

    def get_change_map(self, pixels):
        self.looks += 1
        apart = (pixels[:, 0] - pixels[:, 1]).abs().mean(1, keepdim=True)
        grid, patch = self.config.vision_grid, self.config.vision_config.patch_size
        return torch.nn.functional.avg_pool2d(apart[..., : grid * patch, : grid * patch], patch)[:, 0]


# Both grids halve differently; SigLIP's patches leave pixels at the edge, 384 = 27 x 14 + 6.
@pytest.mark.parametrize(("grid", "rest"), [(4, 0), (7, 3)])
def test_each_cell_lies_where_it_was_looked_at(grid, rest):
    patch = 4
    side = grid * patch + rest
    model = Differences(grid, patch, rest)
    encode = UniRSImageProcessor(size={"height": side, "width": side}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    rng = np.random.default_rng(0)
    before, after = (Image.fromarray(rng.integers(0, 256, (2 * side, 2 * side, 3), np.uint8)) for _ in range(2))
    found = closer_change_map(model, SimpleNamespace(image_processor=encode), before, after)
    assert model.looks == 10
    # By numpy: the pictures have the large size already, so a cell is a block of their pixels.
    apart = np.abs(np.asarray(before, np.float64) - np.asarray(after, np.float64)).mean(-1) / 127.5
    cells = apart[: 2 * grid * patch, : 2 * grid * patch].reshape(2 * grid, patch, 2 * grid, patch).mean((1, 3))
    small = model.get_change_map(encode([before, after], return_tensors="pt")["pixel_values"][None])[0].numpy()
    coarse = np.asarray(Image.fromarray(small).resize((2 * grid, 2 * grid), Image.Resampling.BILINEAR))
    assert found.shape == (2 * grid, 2 * grid)
    np.testing.assert_allclose(found, (cells + coarse) / 2, atol=1e-5)


def test_equal_dates_are_the_same_everywhere_and_the_map_stays_between_0_and_1(model, processor):
    picture, other = (
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (60, 90, 3), np.uint8)) for seed in (1, 2)
    )
    np.testing.assert_allclose(closer_change_map(model, processor, picture, picture), 0, atol=1e-5)
    found = closer_change_map(model, processor, picture, other)
    assert 0 <= found.min() <= found.max() <= 1
