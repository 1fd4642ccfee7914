"""The `mlp_downsample` projector: 27x27 vision features become 196 language-model tokens."""

import torch
import torch.nn.functional as F
from torch import nn


class DownsampleProjector(nn.Module):
    """Gathers 2x2 neighbours into one token and maps it to the language model's width.

    An odd grid is padded with zeros at its bottom and right. Tokens leave column by column, as released.
    """

    def __init__(self, vision_dim: int, text_dim: int):
        super().__init__()
        self.norm = nn.LayerNorm(4 * vision_dim)
        self.linear_1 = nn.Linear(4 * vision_dim, text_dim)
        self.act = nn.GELU()
        self.linear_2 = nn.Linear(text_dim, text_dim)

    def gather(self, features: torch.Tensor) -> torch.Tensor:
        """`(n, side**2, dim)` to `(n, ceil(side / 2)**2, 4 * dim)`."""
        side = int(features.shape[1] ** 0.5)
        if side * side != features.shape[1]:
            raise ValueError(f"the projector takes square grids, got {features.shape[1]} tokens")
        grid = features.unflatten(1, (side, side))  # (n, rows, columns, dim)
        if side % 2:
            grid = F.pad(grid, (0, 0, 0, 1, 0, 1))
        grid = grid.unflatten(2, (-1, 2)).unflatten(1, (-1, 2))  # (n, rows, 2, columns, 2, dim)
        # One block is top-left, top-right, bottom-left, bottom-right; blocks are ordered column first.
        return grid.permute(0, 3, 1, 2, 4, 5).flatten(3).flatten(1, 2)  # (n, columns * rows, 4 * dim)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """`(n, side**2, vision_dim)` to `(n, ceil(side / 2)**2, text_dim)`."""
        hidden_states = self.norm(self.gather(features))
        return self.linear_2(self.act(self.linear_1(hidden_states)))


__all__ = ["DownsampleProjector"]
