"""Change Extraction (paper section III-B, equations 2-4): the features of two dates become one feature map."""

import torch
import torch.nn.functional as F
from torch import nn


class ChangeAttention(nn.Module):
    """Multi-head self-attention whose values are the keys.

    The released code projects values with the key matrix and never uses its own value matrix; weights trained by
    it only make sense that way, so there is no value matrix here.
    """

    def __init__(self, dim: int, attention_dim: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.q_proj = nn.Linear(dim, attention_dim, bias=False)
        self.k_proj = nn.Linear(dim, attention_dim, bias=False)
        self.out_proj = nn.Linear(attention_dim, dim)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        query = self.q_proj(hidden_states).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (n, heads, tokens, d)
        key = self.k_proj(hidden_states).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (n, heads, tokens, d)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, key, dropout_p=dropout)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))  # (n, tokens, dim)


class ChangeAttentionBlock(nn.Module):
    """Post-norm transformer block: attention, then a ReLU feed-forward network."""

    def __init__(self, dim: int, intermediate: int, attention_dim: int, heads: int, dropout: float):
        super().__init__()
        self.attention = ChangeAttention(dim, attention_dim, heads, dropout)
        self.attention_norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, intermediate)
        self.fc2 = nn.Linear(intermediate, dim)
        self.mlp_norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        attended = self.dropout(self.attention(hidden_states))
        hidden_states = self.attention_norm(attended + hidden_states)
        expanded = self.dropout(F.relu(self.fc1(hidden_states)))
        return self.mlp_norm(self.dropout(self.fc2(expanded)) + hidden_states)


class ChangeAttentionLayer(nn.Module):
    """One optional self-attention level: a block shared by both dates, then one over both dates together."""

    def __init__(self, dim: int, attention_dim: int, heads: int, dropout: float):
        super().__init__()
        self.per_date = ChangeAttentionBlock(dim, dim, attention_dim, heads, dropout)
        self.across_dates = ChangeAttentionBlock(2 * dim, dim, attention_dim, heads, dropout)

    def forward(self, hidden_states: torch.Tensor, embedded: torch.Tensor) -> torch.Tensor:
        """`hidden_states` and `embedded`, the position-embedded input: `(pairs, 2, tokens, dim)`."""
        per_date = self.per_date(hidden_states.flatten(0, 1)).unflatten(0, (-1, 2)) + hidden_states
        joined = torch.cat(per_date.unbind(1), dim=-1)  # (pairs, tokens, 2 * dim)
        across = torch.stack(self.across_dates(joined).chunk(2, dim=-1), dim=1)  # (pairs, 2, tokens, dim)
        # As released: added to the embedded input, not to the output of the first block.
        return across + embedded


class ChangeExtraction(nn.Module):
    """Fuses the vision features of a before/after pair into one map of the same size.

    `X = [F1 ; F2] + cos(F1, F2)`, `Y = Conv1x1(X)`, `Z = ReLU(Y + B(Y))` with a convolutional bottleneck `B`.
    """

    def __init__(self, dim: int, grid: int, num_layers: int, attention_dim: int, heads: int, dropout: float):
        super().__init__()
        if dim % 2:
            raise ValueError(f"Change Extraction needs an even number of channels, got {dim}")
        self.grid = grid
        # The released tables are crossed: the one called h is indexed by column and fills the first channels.
        self.column_embedding = nn.Embedding(grid, dim // 2)
        self.row_embedding = nn.Embedding(grid, dim // 2)
        self.layers = nn.ModuleList(
            ChangeAttentionLayer(dim, attention_dim, heads, dropout) for _ in range(num_layers)
        )
        self.fuse = nn.Conv2d(2 * dim, dim, kernel_size=1)
        self.bottleneck = nn.Sequential(
            nn.Conv2d(dim, dim // 2, kernel_size=1),
            nn.BatchNorm2d(dim // 2),
            nn.ReLU(),
            nn.Conv2d(dim // 2, dim // 2, kernel_size=3, padding=1),
            nn.BatchNorm2d(dim // 2),
            nn.ReLU(),
            nn.Conv2d(dim // 2, dim, kernel_size=1),
            nn.BatchNorm2d(dim),
        )

    def train(self, mode: bool = True) -> "ChangeExtraction":
        """A frozen module stays in eval mode: its BatchNorms must keep the statistics of stage 1."""
        super().train(mode and any(parameter.requires_grad for parameter in self.parameters()))
        for norm in self.bottleneck:
            # An adapter on a convolution makes the module learn, but is saved without the statistics.
            if isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm) and not norm.weight.requires_grad:
                norm.eval()
        return self

    def embed_positions(self, features: torch.Tensor) -> torch.Tensor:
        """Adds the position embedding, and the optional attention, to `(pairs, 2, tokens, dim)` features."""
        if features.ndim != 4 or features.shape[1] != 2 or features.shape[2] != self.grid**2:
            raise ValueError(
                f"Change Extraction takes features of shape (pairs, 2, {self.grid**2}, dim), "
                f"got {tuple(features.shape)}"
            )
        places = torch.arange(self.grid, device=features.device)
        # Called, not read: hooks of accelerate and FSDP bring the tables in when their modules run.
        columns = self.column_embedding(places)[None].expand(self.grid, -1, -1)
        rows = self.row_embedding(places)[:, None].expand(-1, self.grid, -1)
        position = torch.cat([columns, rows], dim=-1)  # (rows, columns, dim)
        embedded = features + position.flatten(0, 1)  # (pairs, 2, tokens, dim)
        hidden_states = embedded
        for layer in self.layers:
            hidden_states = layer(hidden_states, embedded)
        return hidden_states

    def similarity(self, features: torch.Tensor) -> torch.Tensor:
        """Cosine over channels at each location, in float32: `(pairs, 2, tokens, dim)` to `(pairs, tokens)`.

        Single precision, because near 1 a bfloat16 has steps of 1/256.
        """
        before, after = self.embed_positions(features).float().unbind(1)
        return F.cosine_similarity(before, after, dim=-1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Fuses `(pairs, 2, tokens, dim)`, before first, into `(pairs, tokens, dim)`."""
        before, after = self.embed_positions(features).unbind(1)
        similarity = F.cosine_similarity(before, after, dim=-1)  # (pairs, tokens)
        joined = torch.cat([before, after], dim=-1) + similarity.unsqueeze(-1)  # (pairs, tokens, 2 * dim)
        joined = joined.transpose(1, 2).unflatten(-1, (self.grid, self.grid))  # (pairs, 2 * dim, rows, columns)
        fused = self.fuse(joined)  # (pairs, dim, rows, columns)
        fused = F.relu(fused + self.bottleneck(fused))
        return fused.flatten(2).transpose(1, 2)  # (pairs, tokens, dim)


__all__ = ["ChangeExtraction"]
