"""What the vision transformers share: self-attention and feed-forward layers in bounded memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional

CHUNK_BYTES = 64 * 2**20
"""What the hidden layer of one chunk of tokens may take."""


def attend(x: torch.Tensor, qkv: nn.Module, proj: nn.Module, heads: int, turns: torch.Tensor | None = None) -> torch.Tensor:
    """Multi-head self-attention of normalised tokens; no matrix of all scores is ever held.

    Args:
        x: (B, N, C).
        qkv: linear layer to queries, keys and values, 3C.
        proj: linear layer on the joined heads.
        heads: how many.
        turns: (P, C / heads / 2) complex rotations of the queries and keys of the last P tokens, each of pairs of
            neighbouring channels; none without.

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
    """Two linear layers with a GELU between them, on some of the normalised tokens (B, N, C) at a time."""
    rows = x.reshape(-1, x.shape[-1])
    step = max(1, CHUNK_BYTES // (4 * widen.out_features))  # type: ignore[operator]
    return torch.cat([narrow(functional.gelu(widen(part))) for part in rows.split(step)]).view(x.shape)


def depth_of(keys: Sequence[str] | Mapping[str, object]) -> int:
    """How many blocks a checkpoint with these keys has: those are `blocks.0.`, `blocks.1.` and so on."""
    return len({key.split(".")[1] for key in keys if key.startswith("blocks.") and key.count(".") > 1})
