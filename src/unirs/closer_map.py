"""A change map of twice the detail: the pair looked at whole, and closer in nine overlapping parts."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from PIL import Image

    from .modeling_unirs import UniRSForConditionalGeneration
    from .processing import UniRSProcessor

    Picture = str | Image.Image


@torch.no_grad()
def closer_change_map(
    model: UniRSForConditionalGeneration, processor: UniRSProcessor, before: Picture, after: Picture
) -> np.ndarray:
    """`get_change_map` at two scales. It takes ten looks at the pair where that takes one.

    Args:
        before, after: Pictures or their files.

    Returns:
        `(2 grid, 2 grid)`, 54x54 for SigLIP at 384 pixels: 0 = same, 1 = different. A cell is the mean of what the
        whole pair says of that place and what the parts that hold it say, each half as wide and high as the picture.
    """
    config, grid = model.config, model.config.vision_grid
    side, patch = config.vision_config.image_size, config.vision_config.patch_size
    encode = processor.image_processor
    whole = encode([before, after], return_tensors="pt")["pixel_values"]  # (2, 3, side, side)
    large = encode([before, after], size={"height": 2 * side, "width": 2 * side}, return_tensors="pt")["pixel_values"]

    def look(pixels: torch.Tensor) -> torch.Tensor:
        """`(2, 3, side, side)` to `(grid, grid)`."""
        return model.get_change_map(pixels[None].to(model.device))[0].float().cpu()

    total, count = torch.zeros(2, 2 * grid, 2 * grid)
    starts = (0, grid // 2, grid)  # in cells of the large picture
    for row, column in itertools.product(starts, starts):
        top, left = row * patch, column * patch
        cells = slice(row, row + grid), slice(column, column + grid)
        total[cells] += look(large[..., top : top + side, left : left + side])
        count[cells] += 1
    coarse = F.interpolate(look(whole)[None, None], scale_factor=2, mode="bilinear")[0, 0]  # (2 grid, 2 grid)
    return ((coarse + total / count) / 2).numpy()
