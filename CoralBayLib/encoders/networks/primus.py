"""Primus: the vision transformer of the package dynamic-network-architectures, for one window at a time (arXiv 2503.01835).

Patches are tokens; the blocks are those of EVA-02 as in timm: rotary positions, a norm inside the attention, and a gated
feed-forward layer. Positions are numbers of patches, counted from the first patch of the window.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from .attention import CHUNK_BYTES, attend

HEAD_CHANNELS = 72
"""Channels of each attention head in the published sizes from "M" on; not recorded in checkpoints."""


class Positions:
    """Rotary position embedding in 3D, with the periods of EVA-02.

    Args:
        pairs: number of channel pairs of a head that each axis rotates.
    """

    def __init__(self, pairs: int) -> None:
        self._speeds = 10000.0 ** -(torch.arange(pairs, dtype=torch.float64, device="cpu") / pairs)

    def __call__(self, counts: tuple[int, int, int], like: torch.Tensor) -> torch.Tensor:
        """Complex rotations (patches, 3 pairs) for these numbers of patches along the axes, on the device of `like`."""
        axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float64, device="cpu") for n in counts), indexing="ij")
        angles = (torch.stack(axes, dim=-1).reshape(-1, 3, 1) * self._speeds).flatten(1)
        turns = torch.polar(torch.ones_like(angles), angles)
        return turns.to(torch.complex128 if like.dtype == torch.float64 else torch.complex64).to(like.device)


class Attention(nn.Module):
    """Self-attention with separate queries, keys and values, and a norm before the output layer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = channels // HEAD_CHANNELS
        self.q_proj, self.v_proj = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.k_proj = nn.Linear(channels, channels, bias=False)
        self.norm, self.proj = nn.LayerNorm(channels), nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
        """Map (B, N, C) normalized tokens to the same shape; for `turns` see `attend`."""
        return attend(x, self._joined, self._out, self.heads, turns)

    def _joined(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat((self.q_proj(x), self.k_proj(x), self.v_proj(x)), dim=-1)

    def _out(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(self.norm(x))


class GatedFeedForward(nn.Module):
    """SwiGLU: two linear layers, one of them the gate of the other, a norm and a linear layer."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1_g, self.fc1_x = nn.Linear(channels, hidden), nn.Linear(channels, hidden)
        self.norm, self.fc2 = nn.LayerNorm(hidden), nn.Linear(hidden, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, N, C) normalized tokens to the same shape, in chunks of tokens."""
        rows = x.reshape(-1, x.shape[-1])
        step = max(1, CHUNK_BYTES // (8 * self.fc1_g.out_features))
        made = [self.fc2(self.norm(functional.silu(self.fc1_g(part)) * self.fc1_x(part))) for part in rows.split(step)]
        return torch.cat(made).view(x.shape)


class Block(nn.Module):
    """Attention and feed-forward layers with residual connections, each after layer norm and before a learned scale."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.attn, self.gamma_1 = nn.LayerNorm(channels), Attention(channels), nn.Parameter(torch.ones(channels))
        self.norm2, self.mlp = nn.LayerNorm(channels), GatedFeedForward(channels, hidden)
        self.gamma_2 = nn.Parameter(torch.ones(channels))

    def forward(self, x: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
        """Map (B, N, C) tokens to the same shape; for `turns` see `attend`."""
        x = x + self.gamma_1 * self.attn(self.norm1(x), turns)
        return x + self.gamma_2 * self.mlp(self.norm2(x))


class Primus(nn.Module):
    """The encoder of a `Primus` without its decoder, with the same state-dict keys.

    Args:
        channels: channels C of every token; a multiple of `HEAD_CHANNELS`.
        depth: number of blocks.
        hidden: channels inside the feed-forward layers.
        patch: side of a patch in voxels.
    """

    def __init__(self, channels: int = 864, depth: int = 16, hidden: int = 2304, patch: int = 8) -> None:
        super().__init__()
        self.channels = channels
        self.down_projection = nn.ModuleDict({"proj": nn.Conv3d(1, channels, patch, patch)})
        blocks = nn.ModuleList(Block(channels, hidden) for _ in range(depth))
        self.eva = nn.ModuleDict({"blocks": blocks, "norm": nn.LayerNorm(channels)})
        self.register_buffer("mask_token", torch.zeros(1, 1, channels))  # used in training only
        self._positions = Positions(HEAD_CHANNELS // 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map a window (B, 1, x, y, z), each side a multiple of the patch, to its normalized tokens (B, C, i, j, k)."""
        maps = self.down_projection["proj"](x)
        counts = tuple(maps.shape[2:])
        tokens = maps.flatten(2).transpose(1, 2)
        turns = self._positions(counts, tokens)
        for block in self.eva["blocks"]:  # type: ignore[attr-defined]
            tokens = block(tokens, turns)
        return self.eva["norm"](tokens).transpose(1, 2).unflatten(2, counts)
