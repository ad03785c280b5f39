"""Converts a CT to the encoder's tensor: canonical axes, the encoder's spacing, cropped to the patient.

Only this module changes the axis order to (R, A, S), by reversing the axes of a canonical [k, j, i] array.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from scipy import ndimage

from CoralBayLib.core.errors import MemoryLimitError, Remedy
from CoralBayLib.encoders.base import Axes, InputSpec, LevelSpec
from CoralBayLib.imaging.grid import Grid, Volume
from CoralBayLib.imaging.resampling import resample

from .pyramid import Level

CROP_MARGIN_MM = 12.0
WORKING_MM = 2.0
"""Smallest spacing of the working grid: a compromise between the borders of small structures and speed (see DECISIONS.md)."""
_BYTES_PER_VOXEL = 12
"""Memory for each voxel at the encoder's spacing: the CT and its smoothed copy (float32), labels of parts, and masks."""
_TISSUE_HU = -500.0
_AIR_HU = -950.0
_HALF_MAX = 65504.0
"""The largest finite number in half precision (IEEE 754)."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A CT and its body mask on one grid.

    Attributes:
        image: float32 HU.
        body: uint8 mask of the patient.
    """

    image: Volume
    body: Volume


def prepare(volume: Volume, spec: InputSpec) -> Prepared:
    """Resample a CT to the encoder's spacing and crop it to the patient.

    Axes are permuted and flipped to canonical order, but never rotated. The crop has a margin of `CROP_MARGIN_MM`. If the
    encoder needs a fixed size (`InputSpec.fit`), there is no margin and the crop is averaged to that size.

    Args:
        volume: a CT in HU on any grid.
        spec: the encoder's requirements.

    Raises:
        MemoryLimitError: the resampled CT does not fit into memory.
    """
    canonical = volume.canonical()
    finest = canonical.grid.spacing_mm.min() if spec.at_least else 0.0
    target = canonical.grid.with_spacing(np.maximum(spec.spacing_mm, finest))
    _require_memory(target)
    working = resample(canonical, target)
    body = body_mask(working.array, working.grid.spacing_mm)
    margin = np.ceil((CROP_MARGIN_MM if spec.fit is None else 0.0) / working.grid.spacing_mm).astype(int)[::-1]
    box = []
    for axis, n in enumerate(body.shape):
        where = np.flatnonzero(body.any(axis=tuple(a for a in range(3) if a != axis)))
        box.append(slice(max(0, where[0] - margin[axis]), min(n, where[-1] + 1 + margin[axis])))
    shape = tuple(s.stop - s.start for s in box)
    grid = working.grid.subgrid([s.start for s in reversed(box)], 1, shape)  # type: ignore[arg-type]
    image = Volume(np.ascontiguousarray(working.array[tuple(box)]), grid)
    patient = Volume(np.ascontiguousarray(body[tuple(box)]).astype(np.uint8), grid)
    if spec.fit is not None:
        image, shares = _averaged(image, spec.fit), _averaged(patient, spec.fit)
        patient = Volume((shares.array >= 0.5).astype(np.uint8), shares.grid)
    return Prepared(image, patient)


def _require_memory(grid: Grid) -> None:
    """Refuse a grid whose CT and masks do not fit into memory, before they are allocated."""
    need, free = _BYTES_PER_VOXEL * float(np.prod(grid.size, dtype=float)), psutil.virtual_memory().available
    if need > free:
        raise MemoryLimitError(
            f"At the encoder's spacing the CT has {grid.size[0]}x{grid.size[1]}x{grid.size[2]} voxels, which need about "
            f"{need / 2**30:.1f} GB of memory; {free / 2**30:.1f} GB are free.",
            remedy=Remedy.FREE_MEMORY,
        )


def on_working_grid(volume: Volume, prepared: Prepared) -> Prepared:
    """The CT and the body mask on the working grid, which covers the field of view of the network's grid.

    The spacing along each axis is `WORKING_MM`, or the scan's own if that is larger. The scan's own voxels are then used
    unchanged, because interpolation between thick slices would give HU that no tissue has.
    """
    given, canonical = prepared.image.grid, volume.canonical()
    native = canonical.grid.spacing_mm
    spacing = np.maximum(native, WORKING_MM)
    if np.allclose(spacing, given.spacing_mm):
        return prepared
    scaled = given.with_spacing(spacing)
    start, size = canonical.grid.to_ijk(scaled.to_ras(np.zeros((1, 3))))[0], np.array(scaled.size)
    ends = canonical.grid.to_ijk(given.to_ras(np.stack([np.full(3, -0.5), np.array(given.size) - 0.5])))
    first = np.maximum(np.ceil(ends[0] - 1e-6), 0)
    last = np.minimum(np.floor(ends[1] + 1e-6), np.array(canonical.grid.size) - 1)
    is_native = np.isclose(spacing, native)
    start, size = np.where(is_native, first, start), np.where(is_native, last - first + 1, size).astype(int)
    grid = canonical.grid.subgrid(start, spacing / native, (int(size[2]), int(size[1]), int(size[0])))
    return Prepared(resample(canonical, grid), resample(prepared.body, grid, "nearest"))


def _averaged(volume: Volume, size: Axes) -> Volume:
    """Averages (float32) over `size` equal blocks along I, J, K; the edges of the blocks may lie between voxels."""
    step = np.array(volume.grid.size) / size
    parts = np.ceil(step).astype(int)
    fine = volume.grid.subgrid((step / parts - 1) / 2, step / parts, tuple((parts * size)[::-1]))
    samples = torch.from_numpy(resample(volume, fine).array)[None]
    blocks = torch.nn.functional.avg_pool3d(samples, tuple(parts[::-1].tolist()))[0]
    return Volume(blocks.numpy(), volume.grid.subgrid((step - 1) / 2, step, size[::-1]))


def body_mask(hu: NDArray, spacing_mm: NDArray) -> NDArray[np.bool_]:
    """Mask of the patient without table and surrounding air, [k, j, i]; the whole image if no tissue is found.

    It is the largest component of tissue, filled slice by slice along S, because in 3D the airways connect the lungs with the
    outside. A lung that the field of view cuts is not filled in this way; there, voxels that are denser than outside air are
    added.

    Args:
        hu: [k, j, i] with canonical axes.
        spacing_mm: (3,) along I, J, K.
    """
    parts, count = ndimage.label(_opened(hu > _TISSUE_HU, max(1, round(2.0 / float(spacing_mm[:2].min())))))
    if not count:
        return np.ones(hu.shape, dtype=bool)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    body = np.stack([ndimage.binary_fill_holes(s) for s in parts == sizes.argmax()])
    smooth = ndimage.uniform_filter(hu, 3)
    missed_lung = (smooth > _AIR_HU) & (smooth < _TISSUE_HU) & ~body
    if missed_lung.mean() > 0.1:
        body |= _opened(smooth > _AIR_HU, 1)
    return body


def _opened(mask: NDArray[np.bool_], iterations: int) -> NDArray[np.bool_]:
    """Opening with edge values continued beyond the border, so that a body that the field of view cuts keeps its border."""
    inner = (slice(iterations, -iterations),) * 3
    return ndimage.binary_opening(np.pad(mask, iterations, mode="edge"), iterations=iterations)[inner]


def padded_size(grid: Grid, spec: InputSpec, window: Axes | None) -> Axes:
    """Size (R, A, S) of the tensor: that of the grid, padded to the encoder's multiple, minimum size and window."""
    size = []
    for axis, n in enumerate(grid.size):
        least = max(n, spec.minimum[axis], window[axis] if window else 1)
        size.append(-(-least // spec.multiple[axis]) * spec.multiple[axis])
    return size[0], size[1], size[2]


def to_tensor(image: Volume, spec: InputSpec, size: Axes) -> torch.Tensor:
    """The encoder's input (1, 1, R, A, S), HU scaled to [0, 1] and padded with air at the far ends to `size`."""
    low, high = spec.window_hu
    tensor = torch.zeros(1, 1, *size)
    inside = torch.from_numpy(np.ascontiguousarray(image.array.transpose(2, 1, 0), dtype=np.float32))
    r, a, s = inside.shape
    tensor[0, 0, :r, :a, :s] = ((inside - low) / (high - low)).clamp_(0, 1)
    return tensor


def to_level(maps: torch.Tensor, spec: LevelSpec, grid: Grid) -> Level:
    """A level from the encoder's (C, r, a, s) map, with axes [k, j, i] and without padding."""
    maps = maps.permute(0, 3, 2, 1)
    keep = [min(maps.shape[3 - a], -(-grid.size[a] // spec.stride[a])) for a in range(3)]
    maps = maps[:, : keep[2], : keep[1], : keep[0]].clamp(-_HALF_MAX, _HALF_MAX).half().contiguous()
    return Level(spec.name, grid.subgrid(spec.offset, spec.stride, tuple(maps.shape[1:])), maps)
