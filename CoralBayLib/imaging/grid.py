"""Grids, volumes and their canonical orientation. Imports no torch.

World coordinates are RAS millimeters. Voxel centers are at integer IJK. Arrays are indexed [k, j, i], as in
SimpleITK and in `slicer.util.arrayFromVolume`, so `Grid.shape` is (K, J, I) while points and spacings are (i, j, k).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from CoralBayLib.core.deprecation import deprecated_attribute
from CoralBayLib.core.errors import VolumeError

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From the world of ITK and DICOM, whose x and y point to the left and to the back; its own inverse."""


@dataclass(frozen=True, eq=False)
class Grid:
    """A lattice of voxels in the patient's space; may be oblique, flipped, anisotropic or sheared.

    Attributes:
        shape: voxels along (K, J, I), the shape of an array on this grid.
        ijk_to_ras: (4, 4) matrix from (i, j, k, 1) to RAS mm.

    Raises:
        VolumeError: the shape is not three positive numbers, or the matrix is not affine and invertible.
    """

    shape: tuple[int, int, int]
    ijk_to_ras: NDArray[np.float64]

    sub = deprecated_attribute("sub", "subgrid")
    close_axes = deprecated_attribute("close_axes", "isotropic_axes")
    centre_ras = deprecated_attribute("centre_ras", "center_ras")

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        if any(float(n) != float(given) for n, given in zip(shape, self.shape, strict=True)):
            raise VolumeError(f"A grid's shape must be whole numbers, got {tuple(self.shape)}.")
        matrix = np.array(self.ijk_to_ras, dtype=np.float64)
        if len(shape) != 3 or min(shape) < 1:
            raise VolumeError(f"A grid needs three axes of at least one voxel each, got shape {shape}.")
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or not np.allclose(matrix[3], (0, 0, 0, 1)):
            raise VolumeError(
                "IJK-to-RAS must be a 4x4 matrix of finite numbers whose last row is 0 0 0 1. Check the spacing and "
                "the directions of the volume."
            )
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
        """(3,) distance between neighboring voxels along I, J and K, mm."""
        return np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0)

    @property
    def isotropic_axes(self) -> tuple[int, ...]:
        """Array axes (0 to 2 for K, J, I) whose spacing is at most twice the finest; others have thick slices."""
        spacing = self.spacing_mm[::-1]
        return tuple(axis for axis in range(3) if spacing[axis] <= 2 * spacing.min() + 1e-6)

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of a voxel in cubic mm."""
        return float(abs(np.linalg.det(self.ijk_to_ras[:3, :3])))

    @property
    def center_ras(self) -> NDArray[np.float64]:
        """Center of the grid, (3,) RAS mm."""
        return self.to_ras([(n - 1) / 2 for n in self.size])[0]

    def to_ras(self, ijk: ArrayLike) -> NDArray[np.float64]:
        """Transform (N, 3) or (3,) IJK points to RAS mm; returns (N, 3)."""
        return _apply(self.ijk_to_ras, ijk)

    def to_ijk(self, ras: ArrayLike) -> NDArray[np.float64]:
        """Transform (N, 3) or (3,) RAS mm points to continuous IJK; returns (N, 3)."""
        return _apply(np.linalg.inv(self.ijk_to_ras), ras)

    def centers(self) -> NDArray[np.float64]:
        """(voxels, 3) RAS mm of all voxel centers, in the order of a flattened array."""
        k, j, i = np.indices(self.shape)
        return self.to_ras(np.stack([i, j, k], axis=-1).reshape(-1, 3))

    def nearest_ijk(self, ras: ArrayLike) -> NDArray[np.intp]:
        """IJK of the voxel nearest to each of (N, 3) RAS mm points, clamped to the border; returns (N, 3)."""
        return np.clip(np.round(self.to_ijk(ras)).astype(np.intp), 0, np.array(self.size) - 1)

    def contains(self, ras: ArrayLike) -> NDArray[np.bool_]:
        """Whether each of (N, 3) RAS mm points lies inside a voxel of the grid; returns (N,)."""
        ijk = self.to_ijk(ras)
        inside: NDArray[np.bool_] = np.logical_and(ijk >= -0.5, ijk <= np.array(self.size) - 0.5)
        return np.all(inside, axis=1)

    def subgrid(self, start: ArrayLike, step: ArrayLike, shape: tuple[int, ...]) -> Grid:
        """A grid with parallel axes.

        Args:
            start: (3,) position of its voxel (0, 0, 0) in IJK of this grid; may be fractional.
            step: its spacing along I, J, K in voxels of this grid, one number or three.
            shape: its voxels along (K, J, I).
        """
        local = np.eye(4)
        local[:3, :3] = np.diag(np.broadcast_to(np.asarray(step, dtype=np.float64), 3))
        local[:3, 3] = start
        return Grid(shape, self.ijk_to_ras @ local)  # type: ignore[arg-type]

    def with_spacing(self, spacing_mm: ArrayLike) -> Grid:
        """A grid with other spacing, mm along I, J, K, but the same axes, center and (within half a voxel) field of view."""
        step = np.broadcast_to(np.asarray(spacing_mm, dtype=np.float64), 3) / self.spacing_mm
        size = np.maximum(1, np.round(np.array(self.size) / step)).astype(int)
        start = (np.array(self.size) - 1) / 2 - step * (size - 1) / 2
        return self.subgrid(start, step, tuple(size[::-1]))

    def orientation(self) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
        """The permutation and flips that point the IJK axes most nearly along R, A and S.

        Returns:
            axes: for each of R, A, S, the closest of the axes I, J, K (0, 1, 2).
            flips: for each of R, A, S, whether that axis points in the opposite direction.
        """
        cosines = self.ijk_to_ras[:3, :3] / self.spacing_mm
        axes = max(permutations(range(3)), key=lambda p: sum(abs(cosines[w, p[w]]) for w in range(3)))
        flips = tuple(bool(cosines[w, axes[w]] < 0) for w in range(3))
        return axes, flips  # type: ignore[return-value]

    @property
    def directions(self) -> str:
        """Where the axes I, J, K point, each as the nearest of R, L, A, P, S and I, such as "LPS"."""
        axes, flips = self.orientation()
        letters = {axis: "RAS"[w] if not flips[w] else "LPI"[w] for w, axis in enumerate(axes)}
        return "".join(letters[axis] for axis in range(3))

    @property
    def slice_plane(self) -> str:
        """The plane of I and J, "axial", "coronal" or "sagittal", or the nearest of them."""
        return {"R": "sagittal", "L": "sagittal", "A": "coronal", "P": "coronal"}.get(self.directions[2], "axial")

    @property
    def obliqueness_deg(self) -> float:
        """The largest angle between an axis and the anatomical one nearest to it, in degrees."""
        cosines = np.abs(self.ijk_to_ras[:3, :3] / self.spacing_mm)
        axes, _ = self.orientation()
        return float(np.degrees(np.arccos(np.clip([cosines[w, axes[w]] for w in range(3)], 0, 1)).max()))

    @property
    def shear_deg(self) -> float:
        """How far the angle between two axes is from a right one, at most, in degrees."""
        axes = self.ijk_to_ras[:3, :3] / self.spacing_mm
        return float(np.degrees(np.arcsin(np.clip(np.abs(axes.T @ axes - np.eye(3)).max(), 0, 1))))

    def canonical(self) -> Grid:
        """This grid with axes permuted and flipped (see `orientation`), but not rotated: an oblique grid stays oblique."""
        axes, flips = self.orientation()
        size = [self.size[a] for a in axes]
        local = np.zeros((4, 4))
        local[3, 3] = 1
        for new, (old, flip) in enumerate(zip(axes, flips, strict=True)):
            local[old, new] = -1 if flip else 1
            local[old, 3] = size[new] - 1 if flip else 0
        return Grid(tuple(size[::-1]), self.ijk_to_ras @ local)  # type: ignore[arg-type]

    def same_as(self, other: Grid, tolerance_mm: float = 1e-3) -> bool:
        """Whether two grids have the same shape, and corners within a tolerance."""
        if self.shape != other.shape:
            return False
        corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * (np.array(self.size) - 1)
        return bool(np.abs(self.to_ras(corners) - other.to_ras(corners)).max() <= tolerance_mm)


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3D array on a grid.

    Attributes:
        array: values indexed [k, j, i]; HU for a CT.
        grid: of the same shape.

    Raises:
        VolumeError: the array is not 3D or its shape is not the grid's.
    """

    array: NDArray
    grid: Grid

    values_at = deprecated_attribute("values_at", "nearest_values")

    def __post_init__(self) -> None:
        if self.array.ndim != 3:
            raise VolumeError(
                f"Expected a 3D volume, got {self.array.ndim} dimensions (shape {self.array.shape}). "
                "Choose one 3D series; for a time sequence, one of its frames."
            )
        if self.array.shape != self.grid.shape:
            raise VolumeError(f"The array has shape {self.array.shape}, but the grid has shape {self.grid.shape}.")

    def canonical(self) -> Volume:
        """A view of the volume with its axes pointing nearest to R, A, S (see `Grid.canonical`)."""
        axes, flips = self.grid.orientation()
        array = self.array.transpose([2 - axes[w] for w in (2, 1, 0)])
        array = array[tuple(slice(None, None, -1 if flips[w] else 1) for w in (2, 1, 0))]
        return Volume(array, self.grid.canonical())

    def nearest_values(self, ras: ArrayLike) -> NDArray:
        """Value of the voxel nearest to each of (N, 3) RAS mm points, clamped to the border; returns (N,)."""
        return self.array[tuple(self.grid.nearest_ijk(ras)[:, ::-1].T)]


def _apply(matrix: NDArray, points: ArrayLike) -> NDArray[np.float64]:
    points = np.asarray(points, dtype=np.float64).reshape(-1, 3)
    return points @ matrix[:3, :3].T + matrix[:3, 3]
