"""Attention pooling: one vector of all tokens, and the part of it that each token has by itself."""

from __future__ import annotations

import torch
from torch import nn

HEAD_CHANNELS = 64
"""Channels of each attention head; not recorded in checkpoints."""


class AttentionPool(nn.Module):
    """Attention whose only query is the mean of the tokens, with the state-dict keys of COLIPRI's `AttentionPool1D`.

    Args:
        channels: channels D of tokens; a multiple of `HEAD_CHANNELS`.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(channels, channels // HEAD_CHANNELS, batch_first=True)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map (B, N, D) tokens to (B, D)."""
        pooled, _weights = self.attn(tokens.mean(dim=1, keepdim=True), tokens, tokens, need_weights=False)
        return pooled[:, 0]

    def dense(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights (D, D) and bias (D,) of the linear map that pooling is when a token attends to itself only."""
        size = self.attn.embed_dim
        value, value_bias = self.attn.in_proj_weight[2 * size :], self.attn.in_proj_bias[2 * size :]
        out = self.attn.out_proj
        return out.weight @ value, out.weight @ value_bias + out.bias
