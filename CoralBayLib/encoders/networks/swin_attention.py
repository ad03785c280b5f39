"""Shifted-window attention with the parameters of MONAI's Swin blocks, in bounded memory.

MONAI's own forward allocates a mask of windows x 343 x 343 floats and the scores of all windows at once: 19 GB for a
512 x 512 x 400 scan. Only windows at the far border of a shifted axis need a mask, and all windows at the same border
share it, so there are at most seven masks. Here the windows run in chunks, grouped by the borders that they touch.

Method: Liu et al., Swin Transformer (arXiv 2103.14030), as in MONAI's `SwinTransformerBlock`. Results equal MONAI's up to
rounding for every input size.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, TypeAlias

import torch
from torch.nn import functional

Axes = tuple[int, int, int]

MonaiModule: TypeAlias = Any
"""A module whose submodules are accessed by name, which torch's type hints do not support."""

MASKED = -100.0
"""Added to the score of two tokens from different regions, as in the code of the Swin paper and MONAI."""

CHUNK_BYTES = 64 * 2**20
"""Maximum size in bytes of the scores, or of the hidden layer, of one chunk. Larger chunks were not faster."""


class PositionBias:
    """Relative position bias of each attention module as (heads, n, n), cached until its table changes."""

    def __init__(self) -> None:
        self._cache: dict[MonaiModule, tuple[tuple, torch.Tensor]] = {}

    def __call__(self, attention: MonaiModule, n: int) -> torch.Tensor:
        """The bias between the n tokens of a window, (heads, n, n).

        For a window smaller than the trained one, the first n rows and columns of the index of the trained window are
        used. They are not its true offsets, but MONAI trains and runs with them, so the weights expect them.
        """
        table = attention.relative_position_bias_table
        version = (n, table._version, table.data_ptr(), table.device, table.dtype)
        cached = self._cache.get(attention)
        if cached is not None and cached[0] == version and not torch.is_grad_enabled():
            return cached[1]
        index = attention.relative_position_index[:n, :n].reshape(-1)
        bias = table[index].reshape(n, n, -1).permute(2, 0, 1).contiguous()
        if not torch.is_grad_enabled():
            self._cache[attention] = (version, bias)
        return bias

    def clear(self) -> None:
        """Empty the cache."""
        self._cache.clear()


def run_stage(stage: MonaiModule, x: torch.Tensor, bias: PositionBias) -> torch.Tensor:
    """Run one stage of a MONAI Swin trunk (a `BasicLayer`): its blocks, then the patch merging.

    Args:
        stage: the MONAI module.
        x: (B, C, d, h, w) token map.
        bias: cache of position biases.

    Returns:
        (B, 2C, ceil(d / 2), ceil(h / 2), ceil(w / 2)).
    """
    x = x.permute(0, 2, 3, 4, 1)
    for block in stage.blocks:
        x = run_block(block, x, bias)
    return stage.downsample(x).permute(0, 4, 1, 2, 3)


def run_block(block: MonaiModule, x: torch.Tensor, bias: PositionBias) -> torch.Tensor:
    """Run one MONAI `SwinTransformerBlock` on tokens (B, d, h, w, C); returns the same shape."""
    x = x + _windowed_attention(block, block.norm1(x), bias)
    tokens = x.reshape(-1, x.shape[-1])
    rows = max(1, CHUNK_BYTES // (4 * block.mlp.linear1.out_features))
    return torch.cat([part + block.mlp(block.norm2(part)) for part in tokens.split(rows)]).view(x.shape)


def effective_window(size: Axes, window: Axes, shift: Axes) -> tuple[Axes, Axes]:
    """Window and shift for a map of this size: an axis that fits in the window is one window and is not shifted."""
    fits = [s <= w for s, w in zip(size, window, strict=True)]
    new_window = tuple(s if f else w for s, w, f in zip(size, window, fits, strict=True))
    new_shift = tuple(0 if f else s for s, f in zip(shift, fits, strict=True))
    return new_window, new_shift  # type: ignore[return-value]


def _windowed_attention(block: MonaiModule, x: torch.Tensor, bias: PositionBias) -> torch.Tensor:
    """Attention within (shifted) windows of normalized tokens (B, d, h, w, C); returns the same shape."""
    batch, *size, channels = x.shape
    window, shift = effective_window(tuple(size), tuple(block.window_size), tuple(block.shift_size))  # type: ignore[arg-type]
    shifted = any(shift)
    padding = [-s % w for s, w in zip(size, window, strict=True)]
    if any(padding):
        x = functional.pad(x, (0, 0, 0, padding[2], 0, padding[1], 0, padding[0]))
    if shifted:
        x = torch.roll(x, tuple(-s for s in shift), (1, 2, 3))

    counts = tuple(s // w for s, w in zip(x.shape[1:4], window, strict=True))
    x = x.view(batch, counts[0], window[0], counts[1], window[1], counts[2], window[2], channels)
    windows = x.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, window[0] * window[1] * window[2], channels)
    done = torch.empty_like(windows)
    position = bias(block.attn, windows.shape[1])[None]  # with four axes; otherwise torch uses a slow attention on a CPU
    for chosen, mask in _groups(batch, counts, window, shift, x.device):  # type: ignore[arg-type]
        _attend(block.attn, windows, done, chosen, position if mask is None else position + mask)

    x = done.view(batch, *counts, *window, channels).permute(0, 1, 4, 2, 5, 3, 6, 7)
    x = x.reshape(batch, *(c * w for c, w in zip(counts, window, strict=True)), channels)
    if shifted:
        x = torch.roll(x, shift, (1, 2, 3))
    return x[:, : size[0], : size[1], : size[2]]


def _groups(
    batch: int, counts: Axes, window: Axes, shift: Axes, device: torch.device
) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
    """Yield the indices of the windows that touch the same borders, and their common (n, n) mask or None.

    After the roll, the last window of a shifted axis holds tokens from both ends of the map, which must not attend to each
    other. All other windows hold tokens of one region.
    """
    order = torch.arange(batch * counts[0] * counts[1] * counts[2], device=device).view(batch, *counts)
    for borders in product(*((False, True) if s else (False,) for s in shift)):
        chosen = order
        for axis, (border, s) in enumerate(zip(borders, shift, strict=True), start=1):
            last = counts[axis - 1] - 1
            if s:
                chosen = chosen.narrow(axis, last if border else 0, 1 if border else last)
        if chosen.numel():
            yield chosen.reshape(-1), _mask(window, shift, borders, device) if any(borders) else None


def _mask(window: Axes, shift: Axes, borders: tuple[bool, ...], device: torch.device) -> torch.Tensor:
    """(n, n) float mask of a window that crosses the given borders."""
    region = torch.zeros(window, dtype=torch.int8, device=device)
    for axis, (w, s, border) in enumerate(zip(window, shift, borders, strict=True)):
        if border:
            region.narrow(axis, w - s, s).add_(2**axis)
    region = region.reshape(-1)
    return (region[:, None] != region[None, :]).float() * MASKED


def _attend(
    attention: MonaiModule,
    windows: torch.Tensor,
    done: torch.Tensor,
    chosen: torch.Tensor,
    bias: torch.Tensor,
) -> None:
    """Multi-head attention in the chosen windows of (N, n, C) tokens, written into `done`."""
    n, channels = windows.shape[1:]
    heads = attention.num_heads
    step = max(1, CHUNK_BYTES // (4 * n * max(heads * n, 3 * channels)))
    for part in chosen.split(step):
        qkv = attention.qkv(windows[part]).view(len(part), n, 3, heads, channels // heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        if query.requires_grad:
            # With a gradient for the bias, torch's attention searches for fully masked rows, which do not occur here; on a
            # CPU this takes an eighth of a training step.
            scores = (query * attention.scale) @ key.transpose(-1, -2) + bias
            out = scores.softmax(dim=-1) @ value
        else:
            mask = bias.to(query.dtype)
            out = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=attention.scale)
        # Mixed precision computes in another type than that of the tokens.
        done[part] = attention.proj(out.transpose(1, 2).reshape(len(part), n, channels)).to(done.dtype)
