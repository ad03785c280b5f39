"""Axis order of networks that were trained on arrays in S, P, L order."""

from __future__ import annotations

import torch

from CoralBayLib.core.errors import EncoderError


def to_spl(x: torch.Tensor) -> torch.Tensor:
    """Convert (B, C, R, A, S) to (B, C, S, P, L): permute the axes, then flip P and L."""
    return x.permute(0, 1, 4, 3, 2).flip(3, 4)


def from_spl(maps: torch.Tensor) -> torch.Tensor:
    """Convert (B, C, s, p, l) to (B, C, r, a, s), the inverse of `to_spl`."""
    return maps.flip(3, 4).permute(0, 1, 4, 3, 2)


def check_sides(x: torch.Tensor, multiple: int, title: str) -> None:
    """Check that every side of (B, C, ...) is a multiple of `multiple` voxels.

    Otherwise the features of a flipped image, flipped back, are not at the position that the level's offset states.

    Raises:
        EncoderError: a side is not a multiple.
    """
    if any(side % multiple for side in x.shape[2:]):
        raise EncoderError(
            f"{title} needs sides that are multiples of {multiple} voxels, got {tuple(x.shape[2:])}; pad the image with air."
        )


def strided_offset(stride: int) -> tuple[float, float, float]:
    """`LevelSpec.offset`, in voxels along R, A, S, of padded strided convolutions on an S, P, L image.

    In a chain of convolutions with odd kernel k, padding (k - 1) / 2 and stride 2, output i is centered on input voxel
    `stride * i`. Along S this is voxel 0 for i = 0. R and A are flipped: their first output is the last one of the flipped
    image, i = n / stride - 1, centered on flipped voxel n - stride, which is voxel stride - 1.
    """
    return (stride - 1.0, stride - 1.0, 0.0)
