"""Where voxels lie: grids, volumes, canonical orientation and resampling.

World coordinates are RAS millimetres. A voxel centre is at integer IJK. Arrays are indexed [k, j, i], as in
SimpleITK and in `slicer.util.arrayFromVolume`, so `Grid.shape` is (K, J, I) while points and spacings are (i, j, k).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from CoralBayLib.core.errors import VolumeError

_SLAB_FLOATS = 1 << 21
"""Voxels worked on at a time: smaller pieces cost more in calls than they save in memory traffic."""


@dataclass(frozen=True, eq=False)
class Grid:
    """A lattice of voxels in the patient's space; may be oblique, flipped, anisotropic or sheared.

    Attributes:
        shape: voxels along (K, J, I), the shape of an array on this grid.
        ijk_to_ras: (4, 4) matrix that takes (i, j, k, 1) to RAS mm.

    Raises:
        VolumeError: the shape is not three positive numbers, or the matrix is not affine and invertible.
    """

    shape: tuple[int, int, int]
    ijk_to_ras: NDArray[np.float64]

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        if any(float(n) != float(given) for n, given in zip(shape, self.shape, strict=True)):
            raise VolumeError(f"A grid's shape must be whole numbers, got {tuple(self.shape)}.")
        matrix = np.array(self.ijk_to_ras, dtype=np.float64)
        if len(shape) != 3 or min(shape) < 1:
            raise VolumeError(f"A grid needs three axes of at least one voxel each, got shape {shape}.")
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or not np.allclose(matrix[3], (0, 0, 0, 1)):
            raise VolumeError("IJK-to-RAS must be a finite 4x4 affine matrix whose last row is 0 0 0 1.")
        lengths = np.linalg.norm(matrix[:3, :3], axis=0)
        if lengths.min() <= 0 or abs(np.linalg.det(matrix[:3, :3] / lengths)) < 1e-4:
            raise VolumeError("IJK-to-RAS is singular: two axes of the volume coincide or a spacing is zero.")
        matrix.setflags(write=False)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "ijk_to_ras", matrix)

    @property
    def size(self) -> tuple[int, int, int]:
        """Voxels along (I, J, K)."""
        return self.shape[::-1]  # type: ignore[return-value]

    @property
    def spacing_mm(self) -> NDArray[np.float64]:
        """Distance in mm between neighbours along I, J and K."""
        return np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0)

    @property
    def close_axes(self) -> tuple[int, ...]:
        """The array axes (of K, J, I, as 0 to 2) along which neighbours are fit to be averaged: not those of thick slices,
        which lie more than twice as far apart as voxels within a slice."""
        spacing = self.spacing_mm[::-1]
        return tuple(axis for axis in range(3) if spacing[axis] <= 2 * spacing.min() + 1e-6)

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel in cubic mm."""
        return float(abs(np.linalg.det(self.ijk_to_ras[:3, :3])))

    @property
    def centre_ras(self) -> NDArray[np.float64]:
        """The middle of the grid, (3,) RAS mm."""
        return self.to_ras([(n - 1) / 2 for n in self.size])[0]

    def to_ras(self, ijk: ArrayLike) -> NDArray[np.float64]:
        """Take (N, 3) or (3,) points from IJK to RAS mm; returns (N, 3)."""
        return _apply(self.ijk_to_ras, ijk)

    def to_ijk(self, ras: ArrayLike) -> NDArray[np.float64]:
        """Take (N, 3) or (3,) points from RAS mm to continuous IJK; returns (N, 3)."""
        return _apply(np.linalg.inv(self.ijk_to_ras), ras)

    def contains(self, ras: ArrayLike) -> NDArray[np.bool_]:
        """Which (N, 3) RAS points lie inside a voxel of the grid; returns (N,)."""
        ijk = self.to_ijk(ras)
        inside: NDArray[np.bool_] = np.logical_and(ijk >= -0.5, ijk <= np.array(self.size) - 0.5)
        return np.all(inside, axis=1)

    def sub(self, start: ArrayLike, step: ArrayLike, shape: tuple[int, ...]) -> Grid:
        """The grid whose voxel (0, 0, 0) lies at `start` (IJK, may be fractional) of this one, with `step` voxels
        between neighbours along I, J, K."""
        local = np.eye(4)
        local[:3, :3] = np.diag(np.broadcast_to(np.asarray(step, dtype=np.float64), 3))
        local[:3, 3] = start
        return Grid(shape, self.ijk_to_ras @ local)  # type: ignore[arg-type]

    def with_spacing(self, spacing_mm: ArrayLike) -> Grid:
        """A grid with the same axes, centre and (to within half a voxel) field of view, of another spacing (I, J, K)."""
        step = np.broadcast_to(np.asarray(spacing_mm, dtype=np.float64), 3) / self.spacing_mm
        size = np.maximum(1, np.round(np.array(self.size) / step)).astype(int)
        start = (np.array(self.size) - 1) / 2 - step * (size - 1) / 2
        return self.sub(start, step, tuple(size[::-1]))

    def transformed(self, matrix: ArrayLike) -> Grid:
        """The grid after a linear (4, 4) RAS-to-RAS transform, such as a Slicer node's parent transform to world."""
        return Grid(self.shape, np.asarray(matrix, dtype=np.float64) @ self.ijk_to_ras)

    def orientation(self) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
        """How to permute and flip the IJK axes so that they point nearest to R, A and S.

        Returns:
            axes: for R, A, S in turn, which of I, J, K (0, 1, 2) runs along it.
            flips: for R, A, S in turn, whether that axis runs the other way.
        """
        cosines = self.ijk_to_ras[:3, :3] / self.spacing_mm
        axes = max(permutations(range(3)), key=lambda p: sum(abs(cosines[w, p[w]]) for w in range(3)))
        flips = tuple(bool(cosines[w, axes[w]] < 0) for w in range(3))
        return axes, flips  # type: ignore[return-value]

    def canonical(self) -> Grid:
        """This grid with its axes permuted and flipped to point nearest to R, A, S; never rotated, so an oblique or
        sheared grid stays oblique or sheared."""
        axes, flips = self.orientation()
        size = [self.size[a] for a in axes]
        local = np.zeros((4, 4))
        local[3, 3] = 1
        for new, (old, flip) in enumerate(zip(axes, flips, strict=True)):
            local[old, new] = -1 if flip else 1
            local[old, 3] = size[new] - 1 if flip else 0
        return Grid(tuple(size[::-1]), self.ijk_to_ras @ local)  # type: ignore[arg-type]

    def same_as(self, other: Grid, tolerance_mm: float = 1e-3) -> bool:
        """Whether two grids have the same shape and the same voxel centres, corner by corner."""
        if self.shape != other.shape:
            return False
        corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * (np.array(self.size) - 1)
        return bool(np.abs(self.to_ras(corners) - other.to_ras(corners)).max() <= tolerance_mm)


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3D array and where it lies.

    Attributes:
        array: values indexed [k, j, i]; HU for a CT.
        grid: the grid of the same shape.

    Raises:
        VolumeError: the array is not 3D or its shape is not the grid's.
    """

    array: NDArray
    grid: Grid

    def __post_init__(self) -> None:
        if self.array.ndim != 3:
            raise VolumeError(
                f"Expected a 3D volume, got {self.array.ndim} dimensions (shape {self.array.shape}). "
                "Choose one 3D series; for a time sequence, one of its frames."
            )
        if self.array.shape != self.grid.shape:
            raise VolumeError(f"The array's shape {self.array.shape} is not the grid's {self.grid.shape}.")

    def canonical(self) -> Volume:
        """A view of the volume with its axes pointing nearest to R, A, S (see `Grid.canonical`)."""
        axes, flips = self.grid.orientation()
        array = self.array.transpose([2 - axes[w] for w in (2, 1, 0)])
        array = array[tuple(slice(None, None, -1 if flips[w] else 1) for w in (2, 1, 0))]
        return Volume(array, self.grid.canonical())

    def values_at(self, ras: ArrayLike) -> NDArray:
        """The value of the voxel nearest to each (N, 3) RAS point, held to the border; returns (N,)."""
        ijk = np.clip(np.round(self.grid.to_ijk(ras)).astype(int), 0, np.array(self.grid.size) - 1)
        return self.array[ijk[:, 2], ijk[:, 1], ijk[:, 0]]


def resample(volume: Volume, grid: Grid, mode: str = "linear") -> Volume:
    """The volume on another grid; beyond its border the edge values go on.

    Args:
        volume: any numeric volume.
        grid: where to sample.
        mode: "linear" (float32 result) or "nearest" (the volume's own type; for labelmaps).
    """
    if mode == "nearest":
        return Volume(_resample_nearest(volume, grid), grid)
    # Views with negative strides (a flipped canonical volume) are not something torch can wrap.
    array = torch.from_numpy(np.ascontiguousarray(volume.array, dtype=np.float32))
    return Volume(interpolate(array[None], volume.grid, grid)[0].numpy(), grid)


def interpolate(maps: torch.Tensor, source: Grid, target: Grid) -> torch.Tensor:
    """Linear interpolation of channels from one grid to another; beyond the border the edge values go on.

    Where the axes of the two grids are parallel (up to order and direction) this is three small matrix products, one
    an axis: linear interpolation is separable. Otherwise it falls back to a general affine resampling.

    Args:
        maps: (C, K, J, I) float32 on `source`.
        source: the grid the maps are on.
        target: where to sample.

    Returns:
        (C, K, J, I) float32 on `target`.
    """
    separable = _separate(maps, source, target)
    if separable is None:
        return _interpolate_affine(maps, source, target)
    maps, taps = separable
    # The axis that shrinks most goes first, the one that grows most last: the least to carry between.
    for a in sorted(range(3), key=lambda a: len(taps[a].low) / taps[a].n):
        maps = _along_axis(maps, taps[a].matrix(), 3 - a)
    return maps.contiguous()


def sum_interpolated(parts: Sequence[tuple[torch.Tensor, Grid]], target: Grid) -> torch.Tensor:
    """Sum of channels that lie on several coarser grids, each interpolated straight to the target grid.

    Some slices at a time, so that what lies between stays in a CPU's cache: each part's few slices around them are
    enlarged in plane, and one matrix product along k adds all parts up.

    Args:
        parts: (C, K, J, I) float32 maps and the grid they are on, of the same C.
        target: where to sample.

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
        # Few large steps: threads that wait for each other after many small ones stand still where other programs run.
        together = max(1, _SLAB_FLOATS // ((rows.stop - rows.start) * target.shape[1] * target.shape[2]))
        for result, *some in zip(out.split(together), *(maps.split(together) for maps, _ in known), strict=True):
            planes = []
            for maps, (_, taps), matrix, n in zip(some, known, on_i, near, strict=True):
                wide = maps[:, n] @ matrix
                planes.append(torch.lerp(wide[:, :, taps[1].low], wide[:, :, taps[1].high], taps[1].fraction[:, None]))
            around = torch.cat(planes, dim=1).flatten(2)
            torch.bmm(weights.expand(len(around), -1, -1), around, out=result[:, rows].flatten(2))
    return out


@dataclass(frozen=True, eq=False)
class _Taps:
    """Linear interpolation between n samples: each position lies a fraction of the way from one to the next."""

    n: int
    low: torch.Tensor
    high: torch.Tensor
    fraction: torch.Tensor

    @classmethod
    def at(cls, n: int, positions: NDArray[np.float64], device: torch.device) -> _Taps:
        """Positions beyond the first and last sample are held to them."""
        where = torch.as_tensor(np.clip(positions, 0, n - 1))
        low = where.floor().long().clamp(max=max(n - 2, 0))
        high = (low + 1).clamp(max=n - 1)
        return cls(n, low.to(device), high.to(device), (where - low).float().to(device))

    def matrix(self) -> torch.Tensor:
        """(positions, n)."""
        matrix = torch.zeros(len(self.low), self.n, device=self.low.device)
        rows = torch.arange(len(self.low), device=self.low.device)
        matrix[rows, self.low] += 1 - self.fraction
        matrix[rows, self.high] += self.fraction
        return matrix


def _separate(maps: torch.Tensor, source: Grid, target: Grid) -> tuple[torch.Tensor, tuple[_Taps, _Taps, _Taps]] | None:
    """The maps with their axes in the target's order, and how to interpolate along I, J, K; None when the axes of the
    grids are not parallel."""
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
    """For each target axis the source axis it runs along, or None when any runs along a mixture."""
    # A step off-axis counts by how far it leads from first to last voxel, in source voxels.
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
    """Resample where the axes of the grids are not parallel; order 0 takes the nearest voxel, 1 is linear."""
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


def _apply(matrix: NDArray, points: ArrayLike) -> NDArray[np.float64]:
    points = np.asarray(points, dtype=np.float64).reshape(-1, 3)
    return points @ matrix[:3, :3].T + matrix[:3, 3]
