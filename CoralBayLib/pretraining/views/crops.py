"""Where the crops of a scan lie: their position, physical size and orientation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from CoralBayLib.imaging.grid import Grid
from CoralBayLib.imaging.resampling import interpolate

AIR_HU = -1024.0
"""What crops have beyond the scan."""

SCALES = (0.8, 1.25)
"""Voxels of a crop are this many times larger than those of the encoder's input, along all axes."""

ANISOTROPY = 0.06
"""How much the factors of the three axes differ from each other, as a part."""

MOST_DEGREES = 10.0
"""Largest rotation about each axis. There are no reflections: left and right are different anatomy."""

_GLOBAL_SHIFT = 0.2
"""How far the center of a global crop may be from the common place, as a part of its side."""


@dataclass(frozen=True, eq=False)
class PreparedScan:
    """A scan at the encoder's spacing, with axes nearest to R, A, S.

    Attributes:
        hu: int16 HU [k, j, i]; may be a file that is mapped into memory.
        grid: of the scan.
        points: (N, 3) IJK of random voxels of the patient.
    """

    hu: NDArray[np.int16]
    grid: Grid
    points: NDArray[np.int16]


@dataclass(frozen=True)
class CropSizes:
    """Sides of the crops in voxels, and how many small ones there are.

    Attributes:
        spacing_mm: nominal size of a voxel, mm.
        global_size: side of the two global crops, in voxels.
        local_size: side of the local crops, in voxels.
        local_crops: number of local crops.
    """

    spacing_mm: float
    global_size: int
    local_size: int
    local_crops: int


def draw_grids(scan: PreparedScan, sizes: CropSizes, random: np.random.Generator) -> list[Grid]:
    """The grids of two global crops around a random place of the patient, then those of the local crops around it.

    Local crops lie, up to their rotation, within the region of a global crop around the place.
    """
    ras = scan.grid.to_ras(scan.points)
    place = ras[random.integers(len(ras))]
    global_mm, local_mm = sizes.global_size * sizes.spacing_mm, sizes.local_size * sizes.spacing_mm
    axes = scan.grid.ijk_to_ras[:3, :3] / scan.grid.spacing_mm
    grids = []
    for _ in range(2):
        center = place + axes @ (random.uniform(-_GLOBAL_SHIFT, _GLOBAL_SHIFT, 3) * global_mm)
        grids.append(_crop(scan.grid, center, sizes.global_size, sizes.spacing_mm, random))
    # Centers in the patient, so that no crop holds only air.
    offsets = np.abs((ras - place) @ np.linalg.inv(axes).T)
    near = ras[(offsets <= (global_mm - local_mm) / 2).all(axis=1)]
    near = near if len(near) else place[None]
    for _ in range(sizes.local_crops):
        grids.append(_crop(scan.grid, near[random.integers(len(near))], sizes.local_size, sizes.spacing_mm, random))
    return grids


def _crop(scan: Grid, center: NDArray, side: int, spacing_mm: float, random: np.random.Generator) -> Grid:
    """A cubic grid around a place, jittered in spacing and rotation, and moved into the scan where it reaches beyond it."""
    factor = np.exp(random.uniform(*np.log(SCALES))) * np.exp(random.uniform(-1, 1, 3) * ANISOTROPY / 2)
    spacing = spacing_mm * factor
    # Center of the crop in the scan's voxels, at most so far out that the crop ends where the scan does.
    reach = side * spacing / scan.spacing_mm / 2
    size = np.array(scan.size)
    ijk = scan.to_ijk(center)[0]
    inside = np.clip(ijk, reach - 0.5, np.maximum(size - 0.5 - reach, reach - 0.5))
    ijk = np.where(2 * reach > size, (size - 1) / 2, inside)
    axes = scan.ijk_to_ras[:3, :3] / scan.spacing_mm
    matrix = np.eye(4)
    matrix[:3, :3] = axes @ _rotation(random.uniform(-MOST_DEGREES, MOST_DEGREES, 3)) * spacing
    matrix[:3, 3] = scan.to_ras(ijk)[0] - matrix[:3, :3] @ np.full(3, (side - 1) / 2)
    return Grid((side, side, side), matrix)


def _rotation(degrees: NDArray) -> NDArray[np.float64]:
    from scipy.spatial.transform import Rotation

    return Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()


def sample(scan: PreparedScan, crop: Grid) -> NDArray[np.float32]:
    """The HU of a scan on the grid of a crop, [k, j, i], interpolated linearly, with air beyond the scan.

    Only the part of the scan that the crop needs is read.
    """
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * (np.array(crop.size) - 1)
    where = scan.grid.to_ijk(crop.to_ras(corners))
    size = np.array(scan.grid.size)
    # One voxel of air around the scan, which interpolation continues.
    low = np.clip(np.floor(where.min(axis=0)).astype(int), -1, size)
    high = np.clip(np.ceil(where.max(axis=0)).astype(int), low, size)
    block = np.full(tuple((high - low + 1)[::-1]), AIR_HU, dtype=np.float32)
    first, last = np.maximum(low, 0), np.minimum(high, size - 1)
    if (last >= first).all():
        into = tuple(slice(a, b) for a, b in zip((first - low)[::-1], (last - low + 1)[::-1], strict=True))
        source = tuple(slice(a, b) for a, b in zip(first[::-1], (last + 1)[::-1], strict=True))
        block[into] = scan.hu[source]
    grid = scan.grid.subgrid(low, 1, block.shape)
    return interpolate(torch.from_numpy(block)[None], grid, crop)[0].numpy()
