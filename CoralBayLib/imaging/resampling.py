"""Resampling of volumes and feature maps to other grids by linear or nearest-neighbor interpolation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from .grid import Grid, Volume

_SLAB_FLOATS = 1 << 21
"""Voxels processed at a time; for smaller slabs the calls cost more time than the cache saves."""


def resample(volume: Volume, grid: Grid, mode: str = "linear") -> Volume:
    """Resample a volume to another grid; edge values are continued beyond its border.

    Args:
        volume: any numeric volume.
        grid: of the result.
        mode: "linear" (float32 result) or "nearest" (result of the volume's own type; for labelmaps).
    """
    if mode == "nearest":
        return Volume(_resample_nearest(volume, grid), grid)
    # torch does not support views with negative strides, such as a flipped canonical volume.
    array = torch.from_numpy(np.ascontiguousarray(volume.array, dtype=np.float32))
    return Volume(interpolate(array[None], volume.grid, grid)[0].numpy(), grid)


def interpolate(maps: torch.Tensor, source: Grid, target: Grid) -> torch.Tensor:
    """Linear interpolation of channels from one grid to another; edge values are continued beyond the border.

    If the axes of the grids are parallel (up to order and direction), this is one small matrix product for each axis, because
    linear interpolation is separable. Otherwise it is a general affine resampling.

    Args:
        maps: (C, K, J, I) float32 on `source`.
        source: grid of the maps.
        target: grid of the result.

    Returns:
        (C, K, J, I) float32 on `target`.
    """
    separable = _separate(maps, source, target)
    if separable is None:
        return _interpolate_affine(maps, source, target)
    maps, taps = separable
    # The axis that shrinks most is first and the one that grows most is last, so that intermediate results are smallest.
    for a in sorted(range(3), key=lambda a: len(taps[a].low) / taps[a].n):
        maps = _along_axis(maps, taps[a].matrix(), 3 - a)
    return maps.contiguous()


def sum_interpolated(parts: Sequence[tuple[torch.Tensor, Grid]], target: Grid) -> torch.Tensor:
    """Sum of maps on several coarser grids, each interpolated linearly to the target grid.

    Slabs of slices are computed one after another, so that intermediate results stay in the cache of a CPU: the slices of each
    part around the slab are interpolated in plane, and one matrix product along K sums all parts.

    Args:
        parts: (C, K, J, I) float32 maps with their grids; C is the same for all.
        target: grid of the result.

    Returns:
        (C, K, J, I) float32 on `target`.
    """
    separated = [_separate(maps, source, target) for maps, source in parts]
    if any(s is None for s in separated):
        return torch.stack([interpolate(maps, source, target) for maps, source in parts]).sum(dim=0)
    known = [s for s in separated if s is not None]
    out = torch.empty(len(parts[0][0]), *target.shape, device=parts[0][0].device)
    on_i = [taps[0].matrix().T.contiguous() for _, taps in known]
    on_k = [taps[2].matrix() for _, taps in known]
    thickness = max(1, _SLAB_FLOATS // (target.shape[1] * target.shape[2]))
    for k in range(0, target.shape[0], thickness):
        rows = slice(k, min(k + thickness, target.shape[0]))
        near = [slice(int(taps[2].low[rows].min()), int(taps[2].high[rows].max()) + 1) for _, taps in known]
        weights = torch.cat([matrix[rows, n] for matrix, n in zip(on_k, near, strict=True)], dim=1)
        # Few large steps, because threads wait for each other after each step.
        channels = max(1, _SLAB_FLOATS // ((rows.stop - rows.start) * target.shape[1] * target.shape[2]))
        for result, *some in zip(out.split(channels), *(maps.split(channels) for maps, _ in known), strict=True):
            planes = []
            for maps, (_, taps), matrix, n in zip(some, known, on_i, near, strict=True):
                wide = maps[:, n] @ matrix
                planes.append(torch.lerp(wide[:, :, taps[1].low], wide[:, :, taps[1].high], taps[1].fraction[:, None]))
            around = torch.cat(planes, dim=1).flatten(2)
            torch.bmm(weights.expand(len(around), -1, -1), around, out=result[:, rows].flatten(2))
    return out


@dataclass(frozen=True, eq=False)
class _Taps:
    """Indices and weights of linear interpolation between n samples; each position is a fraction of the way to the next."""

    n: int
    low: torch.Tensor
    high: torch.Tensor
    fraction: torch.Tensor

    @classmethod
    def at(cls, n: int, positions: NDArray[np.float64], device: torch.device) -> _Taps:
        """Taps of some positions, clamped to the first and last sample."""
        where = torch.as_tensor(np.clip(positions, 0, n - 1))
        low = where.floor().long().clamp(max=max(n - 2, 0))
        high = (low + 1).clamp(max=n - 1)
        return cls(n, low.to(device), high.to(device), (where - low).float().to(device))

    def matrix(self) -> torch.Tensor:
        """The (positions, n) interpolation matrix."""
        matrix = torch.zeros(len(self.low), self.n, device=self.low.device)
        rows = torch.arange(len(self.low), device=self.low.device)
        matrix[rows, self.low] += 1 - self.fraction
        matrix[rows, self.high] += self.fraction
        return matrix


def _separate(maps: torch.Tensor, source: Grid, target: Grid) -> tuple[torch.Tensor, tuple[_Taps, _Taps, _Taps]] | None:
    """The maps with axes in the target's order, and the taps along I, J, K; None if the axes of the grids are not parallel."""
    to_source = np.linalg.inv(source.ijk_to_ras) @ target.ijk_to_ras
    axes = _parallel_axes(to_source, target)
    if axes is None:
        return None
    i, j, k = (
        _Taps.at(source.size[axes[a]], to_source[axes[a], 3] + to_source[axes[a], a] * np.arange(target.size[a]), maps.device)
        for a in range(3)
    )
    return maps.permute(0, *(3 - axes[a] for a in (2, 1, 0))), (i, j, k)


def _along_axis(maps: torch.Tensor, weights: torch.Tensor, axis: int) -> torch.Tensor:
    if weights.shape[0] == weights.shape[1] and torch.equal(weights, torch.eye(len(weights), device=weights.device)):
        return maps
    if axis == 3:
        return maps @ weights.T
    return torch.matmul(weights, maps.flatten(axis + 1)).unflatten(-1, maps.shape[axis + 1 :])


def _parallel_axes(to_source: NDArray[np.float64], target: Grid) -> tuple[int, int, int] | None:
    """For each target axis the parallel source axis, or None if an axis is oblique to the source axes."""
    # The deviation of an axis is measured from its first to its last voxel, in source voxels.
    reach = np.abs(to_source[:3, :3]) * np.array(target.size)
    axes = tuple(int(a) for a in reach.argmax(axis=0))
    if sorted(axes) != [0, 1, 2]:
        return None
    reach[list(axes), range(3)] = 0
    return axes if reach.max() < 1e-4 else None  # type: ignore[return-value]


def _interpolate_affine(maps: torch.Tensor, source: Grid, target: Grid) -> torch.Tensor:
    done = [_affine(channel, source, target, order=1) for channel in maps.cpu().numpy()]
    return torch.from_numpy(np.stack(done)).to(maps.device)


def _affine(array: NDArray, source: Grid, target: Grid, order: int) -> NDArray:
    """Resample to a grid whose axes are not parallel; order 0 takes the nearest voxel, order 1 is linear."""
    from scipy.ndimage import affine_transform

    to_source = np.linalg.inv(source.ijk_to_ras) @ target.ijk_to_ras
    matrix, offset = to_source[:3, :3][::-1, ::-1], to_source[:3, 3][::-1]
    return affine_transform(array, matrix, offset, output_shape=target.shape, order=order, mode="nearest")


def _resample_nearest(volume: Volume, grid: Grid) -> NDArray:
    to_source = np.linalg.inv(volume.grid.ijk_to_ras) @ grid.ijk_to_ras
    axes = _parallel_axes(to_source, grid)
    if axes is None:
        return _affine(volume.array, volume.grid, grid, order=0)
    array = volume.array.transpose([2 - axes[a] for a in (2, 1, 0)])
    indices = []
    for a in (2, 1, 0):
        where = to_source[axes[a], 3] + to_source[axes[a], a] * np.arange(grid.size[a])
        indices.append(np.clip(np.round(where).astype(int), 0, volume.grid.size[axes[a]] - 1))
    return np.ascontiguousarray(array[np.ix_(*indices)])
