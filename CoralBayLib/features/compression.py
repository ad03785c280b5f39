"""Compression of feature maps for the store: one byte per number, and only inside the patient.

Half of the bounding box of a CT is air and table. The values of a channel are rounded to 97 evenly spaced steps between its
extremes. If these lie six standard deviations from the middle, the error is 0.04 standard deviations, which hardly changes
the Dice (section "The store" of Testing/benchmarks/RESULTS.md). The steps are then deflated.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from CoralBayLib.imaging.grid import Grid, Volume

from .deflated import deflate_array, inflate_array

_STEPS, _FEW, _STEPS_OF_FEW = 48, 16, 127
"""`_STEPS`: steps on each side of the middle; twice as many take 20 % more space. Maps of fewer than `_FEW` channels have
`_STEPS_OF_FEW`, all that fit into a byte, because there the errors of many channels do not cancel out."""


def deflate(array: NDArray) -> torch.Tensor:
    """The bytes of an array, deflated as by `deflated.deflate_array`, as a flat uint8 tensor."""
    return torch.frombuffer(bytearray(deflate_array(array)), dtype=torch.uint8)


def inflate(packed: torch.Tensor, dtype: str, shape: tuple[int, ...]) -> NDArray:
    """The array that `deflate` packed; arguments and errors are those of `deflated.inflate_array`."""
    return inflate_array(packed.numpy().data, dtype, shape)


def support_mask(body: Volume, grid: Grid) -> NDArray[np.bool_]:
    """The voxels of a level that are needed to interpolate it at the voxels of the body and their direct neighbors.

    Args:
        body: mask on the working grid.
        grid: of the level, with axes parallel to the working grid's.

    Returns:
        Boolean mask of the level's shape.
    """
    to_level = np.linalg.inv(grid.ijk_to_ras) @ body.grid.ijk_to_ras
    mask = torch.from_numpy(body.array > 0).float()
    for axis in range(3):
        step = to_level[axis, axis]
        at = to_level[axis, 3] + step * np.arange(body.grid.size[axis])
        low, high = (np.clip(bound, 0, grid.size[axis] - 1) for bound in (np.floor(at - abs(step)), np.ceil(at + abs(step))))
        cells = np.arange(grid.size[axis])[:, None]
        reached = torch.from_numpy((cells >= low) & (cells <= high)).float()
        mask = (torch.tensordot(mask, reached, dims=([2 - axis], [1])) > 0).float().movedim(-1, 2 - axis)
    return mask.numpy() > 0


def pack(features: torch.Tensor, kept: NDArray[np.bool_]) -> dict[str, torch.Tensor]:
    """Compress a feature map.

    Args:
        features: (C, K, J, I).
        kept: (K, J, I) mask of the voxels to keep; all others are replaced by their average.

    Returns:
        Tensors by name, for `unpack`.
    """
    inside = torch.from_numpy(kept.ravel())
    flat = features.reshape(len(features), -1).float()
    values = flat[:, inside]
    low, high = values.aminmax(dim=1)
    steps_per_side = _STEPS_OF_FEW if len(features) < _FEW else _STEPS
    center, scale = (low + high) / 2, ((high - low) / (2 * steps_per_side)).clamp_min(1e-12)
    steps = ((values - center[:, None]) / scale[:, None]).round_().to(torch.int8)
    return {
        "kept": torch.from_numpy(np.packbits(kept)),
        "steps": deflate(steps.numpy()),
        "centre": center,
        "scale": scale,
        "elsewhere": flat[:, ~inside].mean(dim=1) if not kept.all() else center.clone(),
    }


def unpack(packed: dict[str, torch.Tensor], shape: tuple[int, ...]) -> torch.Tensor:
    """Decompress a feature map: (C, K, J, I) half precision, accurate to half a step at the voxels that were kept.

    Args:
        packed: from `pack`.
        shape: (K, J, I).

    Raises:
        ValueError: the tensors do not fit together.
    """
    count = math.prod(shape)
    if packed["kept"].numel() != -(-count // 8):
        raise ValueError(f"the mask is not of shape {tuple(shape)}")
    kept = np.unpackbits(packed["kept"].numpy(), count=count).astype(bool)
    center, scale, elsewhere = (packed[name].numpy() for name in ("centre", "scale", "elsewhere"))
    steps = inflate(packed["steps"], "u1", (len(center), int(kept.sum())))
    numbers = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.float32)
    whole = np.empty((len(center), count), np.float16)
    for channel, row in enumerate(whole):
        with np.errstate(over="ignore"):  # of values that do not occur
            values = (numbers * scale[channel] + center[channel]).astype(np.float16)
        row[:] = elsewhere[channel]
        row[kept] = values.take(steps[channel], mode="clip")
    return torch.from_numpy(whole).reshape(-1, *shape)
