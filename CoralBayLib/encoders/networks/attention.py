"""Self-attention and feed-forward layers of vision transformers in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional

CHUNK_BYTES = 64 * 2**20
"""Maximum size in bytes of the hidden layer of one chunk of tokens."""


Map = Callable[[torch.Tensor], torch.Tensor]
"""A layer, or a function of layers."""


def attend(x: torch.Tensor, qkv: Map, proj: Map, heads: int, turns: torch.Tensor | None = None) -> torch.Tensor:
    """Multi-head self-attention of normalized tokens, without a matrix of all scores.

    Args:
        x: (B, N, C) tokens.
        qkv: linear layer from C to 3C: queries, keys and values.
        proj: linear layer on the concatenated heads.
        heads: number of heads.
        turns: (P, C / heads / 2) complex rotations of the queries and keys of the last P tokens, one for each pair of
            neighboring channels (rotary position embedding); None for no rotation.

    Returns:
        (B, N, C).
    """
    batch, n, channels = x.shape
    parts = qkv(x).view(batch, n, 3, heads, channels // heads)
    if turns is not None:
        pairs = torch.view_as_complex(parts[:, n - len(turns) :, :2].unflatten(-1, (-1, 2)))
        pairs.mul_(turns[:, None, None])
    query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
    joined = functional.scaled_dot_product_attention(query, key, value)
    return proj(joined.transpose(1, 2).reshape(batch, n, channels))


def feed_forward(x: torch.Tensor, widen: nn.Module, narrow: nn.Module) -> torch.Tensor:
    """Two linear layers with a GELU between them, on chunks of the normalized tokens (B, N, C); returns the same shape."""
    rows = x.reshape(-1, x.shape[-1])
    step = max(1, CHUNK_BYTES // (4 * widen.out_features))  # type: ignore[operator]
    return torch.cat([narrow(functional.gelu(widen(part))) for part in rows.split(step)]).view(x.shape)


def depth_of(keys: Sequence[str] | Mapping[str, object]) -> int:
    """Number of blocks in a checkpoint with these keys, which begin with `blocks.0.`, `blocks.1.` and so on."""
    return len({key.split(".")[1] for key in keys if key.startswith("blocks.") and key.count(".") > 1})
