"""Points drawn from masks, which count as prompts, and masks on other grids."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from CoralBayLib.imaging.cropping import bounding_box
from CoralBayLib.imaging.grid import Grid, Volume
from CoralBayLib.imaging.resampling import resample

_Result = TypeVar("_Result")

_LOCK_POINTS = 100
"""Most points of locked voxels that count as background."""
_LOCK_CELL_MM = 4.0
"""Edge length of the cubes from each of which one locked point is taken."""
_START_POINTS, _SETTLED_POINTS = 300, 30
"""Most points inside each structure of the start, and most around it: of one that a prompt contradicts, and of others, whose
points would outnumber the few clicks on structures beside them."""
_START_SHELL_MM = (3.0, 8.0)
"""Distances from the start's border of the points around it that count as background."""
_CORRECTED_MM, _CORRECTED_PART = 20.0, 0.25
"""Points of the start this close to a prompt that contradicts it are left out, because the start may be wrong there; for a
small structure, those closer than this fraction of its diagonal."""

_kept: WeakKeyDictionary[Volume, dict[str, tuple[Grid | None, Any]]] = WeakKeyDictionary()
"""What was computed of masks that are in use, by its name, and the grid that it is for. Masks stay the same while prompts
change."""

Points = tuple[NDArray[np.float64], NDArray[np.int64]]
"""(N, 3) RAS mm and (N,) labels; 0 is background."""


def _once(mask: Volume, what: str, grid: Grid | None, make: Callable[[], _Result]) -> _Result:
    """What was made of a mask before for the same grid, or else make it."""
    kept = _kept.setdefault(mask, {})
    known = kept.get(what)
    if known is None or known[0] is not grid:
        known = kept[what] = grid, make()
    result: _Result = known[1]
    return result


def labels_in(start: Volume) -> dict[int, tuple[slice, ...]]:
    """The labels of a labelmap, and the box of (k, j, i) slices around each."""

    def find() -> dict[int, tuple[slice, ...]]:
        return {label: box for label, box in enumerate(ndimage.find_objects(start.array), start=1) if box is not None}

    return _once(start, "labels", None, find)


def misses(mask: Volume, scan: Grid) -> bool:
    """Whether a mask has voxels, but none inside a scan."""

    def find() -> bool:
        box = bounding_box(mask.array != 0)
        if box is None:
            return False
        kji = np.argwhere(mask.array[box] != 0)
        kji = kji[:: max(1, len(kji) // 100_000)] + [side.start for side in box]
        return not scan.contains(mask.grid.to_ras(kji[:, ::-1])).any()

    return _once(mask, "misses", scan, find)


def points_of_locks(locked: Volume, grid: Grid, near_ras: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points in locked voxels, those nearest to some points first.

    Args:
        locked: not 0 where locked.
        grid: whose voxels are drawn.
        near_ras: (N, 3) RAS mm; may be empty.

    Returns:
        (M, 3) RAS mm.
    """
    points = _once(locked, "locked points", grid, lambda: _all_locked_points(labels_on(locked, grid) != 0, grid))
    if len(near_ras) and len(points):
        points = points[np.argsort(cKDTree(near_ras).query(points)[0], kind="stable")]
    return points[:_LOCK_POINTS]


def _all_locked_points(locked: NDArray[np.bool_], grid: Grid) -> NDArray[np.float64]:
    """One point of each cube of space, (N, 3) RAS mm."""
    box = bounding_box(locked)
    if box is None:
        return np.empty((0, 3))
    part = np.pad(locked[box], 1)
    # Where a segment is thick enough, its outermost voxels are left out, which may belong to its neighbor.
    inner = ndimage.binary_erosion(part)
    chosen = (inner | (part & ~ndimage.binary_dilation(inner, iterations=2)))[1:-1, 1:-1, 1:-1]
    points = grid.to_ras((np.argwhere(chosen) + [side.start for side in box])[:, ::-1])
    cells = np.floor(points / _LOCK_CELL_MM).astype(np.int64)
    return points[np.unique(cells, axis=0, return_index=True)[1]]


def points_of_start(start: Volume, points_ras: NDArray[np.float64], labels: NDArray[np.int64], body: Volume) -> Points:
    """Points inside the structures of a labelmap, and background points around them.

    Args:
        start: labels of structures; 0 is background.
        points_ras: (N, 3) RAS mm of prompts, which show where the labelmap is wrong.
        labels: (N,) of them.
        body: mask of the patient.
    """
    points, kinds = [np.empty((0, 3))], [np.empty(0, np.int64)]
    at_prompts = values_at(start, points_ras)
    drawn = _once(start, "start points", body.grid, lambda: {n: _drawn(start, n, body) for n in labels_in(start)})
    for label, box in labels_in(start).items():
        contradicting = points_ras[(labels == label) != (at_prompts == label)]
        count = _START_POINTS if len(contradicting) else _SETTLED_POINTS
        diagonal = np.linalg.norm([side.stop - side.start for side in reversed(box)] * start.grid.spacing_mm)
        reach = min(_CORRECTED_MM, _CORRECTED_PART * float(diagonal))
        for part, value in zip(drawn[label], (label, 0), strict=True):
            part = part[:count]
            if len(contradicting) and len(part):
                part = part[cKDTree(contradicting).query(part)[0] > reach]
            points.append(part)
            kinds.append(np.full(len(part), value))
    return np.concatenate(points), np.concatenate(kinds)


def _drawn(start: Volume, label: int, body: Volume) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points of a structure in a labelmap and around it, each (N, 3) RAS mm, in random order."""
    box, random = labels_in(start)[label], np.random.default_rng(label)
    voxels = np.argwhere(start.array[box] == label) + [side.start for side in box]
    some = voxels[random.choice(len(voxels), min(_START_POINTS, len(voxels)), replace=False)]
    inside = start.grid.to_ras(some[:, ::-1])
    return inside[body.grid.contains(inside)], _around(start, voxels, body, random)


def labels_on(labelmap: Volume, grid: Grid) -> NDArray:
    """A labelmap on another grid, [k, j, i]: the value at the center of each voxel, 0 outside of the labelmap.

    The result is kept and must not be changed.
    """
    if labelmap.grid.same_as(grid):
        return labelmap.array
    # The working grid, for every preview; it may take as long as a fit.
    return _once(labelmap, "resampled", grid, lambda: _nearest_on(labelmap, grid))


def _nearest_on(labelmap: Volume, grid: Grid) -> NDArray:
    out = np.zeros(grid.shape, dtype=labelmap.array.dtype)
    box = bounding_box(labelmap.array != 0)
    if box is None:
        return out
    # Resampling continues the values at the border, so that a border of zeros ends the labelmap.
    start = np.array([side.start for side in reversed(box)]) - 1
    padded = np.pad(labelmap.array[box], 1)
    source = Volume(padded, labelmap.grid.subgrid(start, 1, padded.shape))
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * (np.array(source.grid.size) - 1)
    ijk = grid.to_ijk(source.grid.to_ras(corners))
    low = np.clip(np.floor(ijk.min(axis=0)).astype(int), 0, grid.size)
    high = np.clip(np.ceil(ijk.max(axis=0)).astype(int) + 1, low, grid.size)
    if (high > low).all():
        part = tuple(slice(a, b) for a, b in zip(low[::-1], high[::-1], strict=True))
        out[part] = resample(source, grid.subgrid(low, 1, out[part].shape), "nearest").array
    return out


def values_at(labelmap: Volume, points_ras: NDArray[np.float64]) -> NDArray:
    """Values of a labelmap at (N, 3) RAS mm points, (N,); 0 outside of it."""
    return np.where(labelmap.grid.contains(points_ras), labelmap.nearest_values(points_ras), 0)


def _around(start: Volume, voxels: NDArray[np.intp], body: Volume, random: np.random.Generator) -> NDArray[np.float64]:
    """Points around some voxels of a labelmap that are in no structure of it, (N, 3) RAS mm."""
    grid = body.grid
    kji = np.unique(np.round(grid.to_ijk(start.grid.to_ras(voxels[:, ::-1]))).astype(int)[:, ::-1], axis=0)
    kji = kji[((kji >= 0) & (kji < grid.shape)).all(axis=1)]
    if not len(kji):
        return np.empty((0, 3))
    reach = np.ceil(_START_SHELL_MM[1] / grid.spacing_mm[::-1]).astype(int)
    low = np.maximum(kji.min(axis=0) - reach, 0)
    high = np.minimum(kji.max(axis=0) + reach + 1, grid.shape)
    outside = np.ones(high - low, dtype=bool)
    outside[tuple((kji - low).T)] = False
    distance = ndimage.distance_transform_edt(outside, sampling=grid.spacing_mm[::-1])
    part = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    rim = (distance >= _START_SHELL_MM[0]) & (distance <= _START_SHELL_MM[1]) & (body.array[part] > 0)
    found = np.argwhere(rim)
    found = found[random.choice(len(found), min(_START_POINTS, len(found)), replace=False)]
    points = grid.to_ras((found + low)[:, ::-1])
    return points[values_at(start, points) == 0] if len(points) else points
