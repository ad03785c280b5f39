"""MIND-SSC descriptors of coarse scans, and interpolation by index."""

from __future__ import annotations

import torch
from torch.nn import functional

from CoralBayLib.features.mind import NEIGHBORS, PAIRS, descriptors

_REACH, _PATCH = 2, 1
"""Distance in voxels of the patches that MIND-SSC compares, and their radius."""


def sample(maps: torch.Tensor, kji: torch.Tensor) -> torch.Tensor:
    """Linear interpolation of (C, K, J, I) maps at (N, 3) or (k, j, i, 3) indices, clamped; (C, N) or (C, k, j, i)."""
    size = torch.tensor(maps.shape[1:], dtype=torch.float32)
    where = ((2 * kji + 1) / size - 1).flip(-1)
    lead = where.shape[:-1]
    where = where.reshape(1, *lead, 3) if len(lead) == 3 else where.reshape(1, 1, 1, -1, 3)
    return functional.grid_sample(maps[None], where, padding_mode="border", align_corners=False).reshape(len(maps), *lead)


def indices(shape: tuple[int, ...]) -> torch.Tensor:
    """(K, J, I, 3) the indices (k, j, i) of every voxel."""
    return torch.stack(torch.meshgrid(*[torch.arange(n, dtype=torch.float32) for n in shape], indexing="ij"), dim=-1)


def mind(image: torch.Tensor) -> torch.Tensor:
    """MIND-SSC descriptors (see `features.mind`) of a (K, J, I) image, (12, K, J, I); its border is continued."""
    padded = functional.pad(image[None, None], (_REACH,) * 6, mode="replicate")[0, 0]

    def shifted(offset: tuple[int, int, int]) -> torch.Tensor:
        return padded[tuple(slice(o * _REACH, o * _REACH + n) for o, n in zip(offset, image.shape, strict=True))]

    def distance(a: int, b: int) -> torch.Tensor:
        difference = shifted(NEIGHBORS[a]) - shifted(NEIGHBORS[b])
        squared = functional.pad((difference**2)[None, None], (_PATCH,) * 6, mode="replicate")
        return functional.avg_pool3d(squared, 2 * _PATCH + 1, stride=1)[0, 0]

    return descriptors(torch.stack([distance(a, b) for a, b in PAIRS]))
