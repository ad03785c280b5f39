"""Checks whether a volume can be a CT in Hounsfield units, slab by slab to save memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.core.errors import Remedy, VolumeError

from .grid import Volume

_SLAB_VOXELS = 1 << 21
"""Size of a slab, in voxels."""
_LARGEST_SPACING_MM = 30.0
"""No CT has slices further apart."""
_PADDING = -1500
"""No tissue and no air is below this, in HU; what scanners put outside their field of view is."""
_FAT = -50
"""Fat is below this, in HU, so that every scan of a patient has voxels below it."""


def check_ct(volume: Volume, assume_hu: bool = False) -> None:
    """Refuse a volume that cannot be a CT in Hounsfield units.

    Args:
        volume: values indexed [k, j, i].
        assume_hu: skip only the check that the values look like HU (for a crop inside soft tissue, or a phantom).

    Raises:
        VolumeError: NaN or infinity, constant, thinner than two voxels, of an impossible size, or not in HU. The message
            says what to do; the remedy is ASSUME_HU when the values do not look like HU.
    """
    for fault in ct_faults(volume, assume_hu):
        raise fault


def ct_faults(volume: Volume, assume_hu: bool = False) -> Iterator[VolumeError]:
    """All that `check_ct` refuses a volume for; arguments as there."""
    size, extent = volume.grid.size, np.array(volume.grid.size) * volume.grid.spacing_mm
    if min(size) < 2:
        yield VolumeError(f"The volume is too thin: {_by(size)} voxels, but every axis needs at least two. Choose a 3D series.")
    if extent.max() < 10 or extent.max() > 4000:
        yield VolumeError(
            f"The volume measures {_by(np.round(extent, 3))} mm, which is impossible for a CT of a patient. Its "
            "spacing is probably missing or in another unit. Correct it in Slicer's Volumes module (Volume Information)."
        )
    elif volume.grid.spacing_mm.max() > _LARGEST_SPACING_MM:
        yield VolumeError(
            f"The voxels are {_by(np.round(volume.grid.spacing_mm, 3))} mm apart, which is impossible for a CT of a patient. "
            "The spacing is probably in another unit. Correct it in Slicer's Volumes module (Volume Information)."
        )
    try:
        low, high = value_range(volume.array)
    except VolumeError as fault:
        yield fault
        return
    if low == high:
        yield VolumeError(f"Every voxel has the same value ({low:g}), so this is an empty image. Choose another volume.")
        return
    reason = None if assume_hu else _not_hu(volume.array, low, high)
    if reason:
        yield VolumeError(
            f"The values ({low:g} to {high:g}) are not Hounsfield units (air -1000, water 0): {reason}",
            remedy=Remedy.ASSUME_HU,
        )


def slabs(array: NDArray) -> Iterator[NDArray]:
    """Slabs of an array along its first axis, of about two million voxels each, so that temporary arrays stay small."""
    slices = max(1, _SLAB_VOXELS // max(1, array[0].size))
    return (array[k : k + slices] for k in range(0, len(array), slices))


def value_range(array: NDArray) -> tuple[float, float]:
    """Smallest and largest value, in one pass.

    Raises:
        VolumeError: values are NaN or infinite; the message says how many.
    """
    low, high, bad = np.inf, -np.inf, 0
    for slab in slabs(array):
        least, most = float(slab.min()), float(slab.max())
        if np.isfinite(least) and np.isfinite(most):
            low, high = min(low, least), max(high, most)
        else:
            bad += slab.size - int(np.count_nonzero(np.isfinite(slab)))
    if bad:
        raise VolumeError(
            f"{bad:,} of {array.size:,} voxels are NaN or infinite. Replace them by numbers (air is -1000) in the "
            "program that made the file, or in Slicer's Python console with numpy.nan_to_num on slicer.util.arrayFromVolume."
        )
    return low, high


def _not_hu(array: NDArray, low: float, high: float) -> str | None:
    """Why the values cannot be Hounsfield units, or None."""
    if low >= 0 and high <= 1:
        return "they look scaled to 0..1, or like a mask. Choose the original CT."
    if low >= -10 and high <= 10:
        return "they look normalized. Choose the original CT."
    if low >= 0 and high <= 255:
        return "they look like an 8-bit picture. Choose the original CT, not a screenshot or a windowed export."
    if low >= 0 and high > 500:
        return "the rescale intercept was probably not applied. Subtract 1024, or load the DICOM series again."
    step = max(1, round((array.size / 1e6) ** (1 / 3)))
    sample = array[::step, ::step, ::step]
    body = sample[sample > -1100]  # scanners fill the outside of their field of view with values such as -2000
    if body.size and np.mean((body > 850) & (body < 1300)) > 0.1 and not np.any((body > -1100) & (body < -300)):
        return "soft tissue lies near 1024, so the rescale intercept was probably not applied. Subtract 1024."
    if np.mean((sample > -250) & (sample < 300)) < 1e-3:
        return "almost no voxel lies between -250 and 300, the range of soft tissue. Choose a CT."
    if low < _PADDING and _intercept_twice(sample):
        return "soft tissue lies near -1000, so the rescale intercept was probably applied twice. Add 1024."
    if np.mean((sample < _FAT) & (sample > _PADDING)) < 1e-3:
        return (
            f"almost no voxel is below {_FAT}, neither air nor fat. This may be an MR, a PET, or a CT without its rescale "
            "intercept. Choose a CT."
        )
    return None


def _intercept_twice(sample: NDArray) -> bool:
    """Whether air lies near -2024 and soft tissue near -1000.

    Padding outside a scanner's field of view has such values too, but all of it has the same one, and soft tissue is then
    near 0.
    """
    outside = sample[sample < _PADDING]
    soft = np.count_nonzero((sample > -250) & (sample < 300))
    near_air = np.count_nonzero((sample > -1150) & (sample < -850))
    one_value = outside.size > 0 and np.mean(outside == np.median(outside)) > 0.8
    return bool(near_air > 0 and soft < (0.01 if one_value else 0.1) * near_air)


def _by(numbers: Iterable[float]) -> str:
    return " x ".join(f"{n:g}" for n in numbers)
