"""The axis order of networks that were trained on arrays whose indices rise towards S, P, L."""

from __future__ import annotations

import torch

from CoralBayLib.core.errors import EncoderError


def to_spl(x: torch.Tensor) -> torch.Tensor:
    """(B, C, R, A, S) as (B, C, S, P, L): permuted, then flipped where P and L run against A and R."""
    return x.permute(0, 1, 4, 3, 2).flip(3, 4)


def from_spl(maps: torch.Tensor) -> torch.Tensor:
    """(B, C, s, p, l) as (B, C, r, a, s), the inverse of `to_spl`."""
    return maps.flip(3, 4).permute(0, 1, 4, 3, 2)


def check_sides(x: torch.Tensor, multiple: int, title: str) -> None:
    """See that every side of (B, C, ...) is a multiple: only then do features of a flipped image, flipped back, lie
    where their level's offset says.

    Raises:
        EncoderError: a side is not.
    """
    if any(side % multiple for side in x.shape[2:]):
        raise EncoderError(
            f"{title} needs sides that are multiples of {multiple} voxels, got {tuple(x.shape[2:])}; pad the image with air."
        )


def strided_offset(stride: int) -> tuple[float, float, float]:
    """`LevelSpec.offset` of padded convolutions that ran on an S, P, L image.

    Output i of a chain of convolutions of odd kernel k, padding (k - 1) / 2 and stride 2 is centred on input
    `stride * i`. Along S that is voxel 0 for i = 0. Along R and A the last output, i = n / stride - 1, becomes the
    first: it is centred on flipped voxel n - stride, which is voxel stride - 1.
    """
    return (stride - 1.0, stride - 1.0, 0.0)
