"""Whether a volume can be a CT in Hounsfield units, looked at in chunks so that a large scan needs no more memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.core.errors import Remedy, VolumeError

from .grid import Volume

_CHUNK_VOXELS = 1 << 21


def check_ct(volume: Volume, assume_hu: bool = False) -> None:
    """Refuse a volume that cannot be a CT in Hounsfield units, with words about what to do.

    Args:
        volume: values indexed [k, j, i].
        assume_hu: skip only the question whether the values are HU (a crop inside soft tissue, a phantom).

    Raises:
        VolumeError: NaN or infinity, constant, thinner than two voxels, of an absurd size, or not in HU.
    """
    size, extent = volume.grid.size, np.array(volume.grid.size) * volume.grid.spacing_mm
    if min(size) < 2:
        raise VolumeError(f"The volume is too thin: {_by(size)} voxels, and every axis needs at least two. Choose a 3D series.")
    if extent.max() < 10 or extent.max() > 4000:
        raise VolumeError(
            f"The volume measures {_by(np.round(extent, 3))} mm, which no CT of a patient does. Its spacing is "
            "probably missing or in another unit: correct it in Slicer's Volumes module (Volume Information)."
        )
    low, high = value_range(volume.array)
    if low == high:
        raise VolumeError(f"Every voxel has the same value ({low:g}): this is an empty image. Choose another volume.")
    if not assume_hu:
        complaint = _not_hu(volume.array, low, high)
        if complaint:
            raise VolumeError(
                f"The values ({low:g} to {high:g}) are not Hounsfield units (air -1000, water 0): {complaint}",
                remedy=Remedy.ASSUME_HU,
            )


def slabs(array: NDArray) -> Iterator[NDArray]:
    """Slabs along the first axis, small enough that a temporary of each is nothing to worry about."""
    slices = max(1, _CHUNK_VOXELS // max(1, array[0].size))
    return (array[k : k + slices] for k in range(0, len(array), slices))


def value_range(array: NDArray) -> tuple[float, float]:
    """Smallest and largest value in one pass; VolumeError, with their number, when any is NaN or infinite."""
    low, high, bad = np.inf, -np.inf, 0
    for part in slabs(array):
        least, most = float(part.min()), float(part.max())
        if np.isfinite(least) and np.isfinite(most):
            low, high = min(low, least), max(high, most)
        else:
            bad += part.size - int(np.count_nonzero(np.isfinite(part)))
    if bad:
        raise VolumeError(
            f"{bad:,} of {array.size:,} voxels are NaN or infinite. Expected numbers: replace them where the file was "
            "made, or in Slicer's Python console with numpy.nan_to_num on slicer.util.arrayFromVolume (air is -1000)."
        )
    return low, high


def _not_hu(array: NDArray, low: float, high: float) -> str | None:
    """Why the values cannot be Hounsfield units, or None."""
    if low >= 0 and high <= 1:
        return "they look scaled to 0..1, or like a mask. Use the original CT."
    if low >= -10 and high <= 10:
        return "they look normalised. Use the original CT."
    if low >= 0 and high <= 255:
        return "they look like an 8-bit picture. Use the original CT, not a screenshot or a windowed export."
    if low >= 0 and high > 500:
        return "the rescale intercept seems not applied. Subtract 1024, or load the DICOM series again."
    step = max(1, round((array.size / 1e6) ** (1 / 3)))
    sample = array[::step, ::step, ::step]
    body = sample[sample > -1100]  # scanners pad outside their circle with -2000 or so
    if body.size and np.mean((body > 850) & (body < 1300)) > 0.1 and not np.any((body > -1100) & (body < -300)):
        return "soft tissue lies near 1024, so the rescale intercept seems not applied. Subtract 1024."
    if np.mean((sample > -250) & (sample < 300)) < 1e-3:
        return "hardly a voxel lies between -250 and 300, where soft tissue is. Choose a CT."
    return None


def _by(numbers) -> str:
    return " x ".join(f"{n:g}" for n in numbers)
