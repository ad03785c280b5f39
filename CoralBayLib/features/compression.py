"""Feature maps made small for the disk: a byte a number, and only where the patient is.

Half of a CT's box is air and table, and a channel is kept in 97 even steps between its extremes: these lying six standard
deviations from the middle, an error of four hundredths of one, which costs the Dice next to nothing (The store,
Testing/benchmarks/RESULTS.md). What is kept is then deflated.
"""

from __future__ import annotations

import math
import zlib

import numpy as np
import torch
from numpy.typing import NDArray

from CoralBayLib.imaging.grid import Grid, Volume

_STEPS, _FEW, _STEPS_OF_FEW = 48, 16, 127
"""On each side of the middle; twice as many take a fifth more room. Maps of few channels have all that a byte holds: there
the errors of many do not cancel out, and the room is small anyway."""

_MOST_DEFLATED = 1100
"""Bytes that one byte of a deflated stream can stand for, at most: 1032 (https://zlib.net/zlib_tech.html)."""


def deflate(array: NDArray) -> torch.Tensor:
    """The bytes of an array, deflated (RFC 1951), as a flat uint8 tensor.

    Numbers of several bytes go as all their first bytes, then all their second ones, and only runs are looked for:
    among the noise of a CT or of features there is little else to find, and this is smaller and twice as quick.
    """
    planes = np.ascontiguousarray(array).reshape(-1, 1).view(np.uint8).T
    deflater = zlib.compressobj(strategy=zlib.Z_RLE)
    data = deflater.compress(np.ascontiguousarray(planes).data) + deflater.flush()
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def inflate(packed: torch.Tensor, dtype: str, shape: tuple[int, ...]) -> NDArray:
    """The array that `deflate` was given.

    Raises:
        ValueError: the bytes are damaged or of another array.
    """
    expected = math.prod(shape) * np.dtype(dtype).itemsize
    if expected > _MOST_DEFLATED * (packed.numel() + 1):
        raise ValueError(f"{packed.numel()} bytes cannot hold an array of shape {tuple(shape)}")
    inflater = zlib.decompressobj()
    try:
        # One byte more than expected is allowed, so that a longer array is noticed and none fills the memory.
        data = inflater.decompress(packed.numpy().data, expected + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if len(data) != expected or not inflater.eof or inflater.unused_data:
        raise ValueError(f"the deflated bytes are not of an array of shape {tuple(shape)}")
    planes = np.frombuffer(data, np.uint8)
    return planes.reshape(np.dtype(dtype).itemsize, -1).T.copy().view(dtype).reshape(shape)


def support_mask(body: Volume, grid: Grid) -> NDArray[np.bool_]:
    """Which voxels of a level take part when it is interpolated at the body's voxels, or up to one voxel beside them.

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
    """A feature map as small tensors.

    Args:
        features: (C, K, J, I).
        kept: (K, J, I), where it is kept; elsewhere one average vector stands for all.

    Returns:
        Tensors by name, as `unpack` takes them.
    """
    inside = torch.from_numpy(kept.ravel())
    flat = features.reshape(len(features), -1).float()
    values = flat[:, inside]
    low, high = values.aminmax(dim=1)
    steps_aside = _STEPS_OF_FEW if len(features) < _FEW else _STEPS
    centre, scale = (low + high) / 2, ((high - low) / (2 * steps_aside)).clamp_min(1e-12)
    steps = ((values - centre[:, None]) / scale[:, None]).round_().to(torch.int8)
    return {
        "kept": torch.from_numpy(np.packbits(kept)),
        "steps": deflate(steps.numpy()),
        "centre": centre,
        "scale": scale,
        "elsewhere": flat[:, ~inside].mean(dim=1) if not kept.all() else centre.clone(),
    }


def unpack(packed: dict[str, torch.Tensor], shape: tuple[int, ...]) -> torch.Tensor:
    """The (C, K, J, I) half-precision map of `pack`, to half a step where it was kept.

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
    centre, scale, elsewhere = (packed[name].numpy() for name in ("centre", "scale", "elsewhere"))
    steps = inflate(packed["steps"], "u1", (len(centre), int(kept.sum())))
    numbers = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.float32)
    whole = np.empty((len(centre), count), np.float16)
    for channel, row in enumerate(whole):
        with np.errstate(over="ignore"):  # of numbers that do not occur
            values = (numbers * scale[channel] + centre[channel]).astype(np.float16)
        row[:] = elsewhere[channel]
        row[kept] = values.take(steps[channel], mode="clip")
    return torch.from_numpy(whole).reshape(-1, *shape)
