"""Positions of the slices of a series: in one line, and evenly spaced."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.core.errors import VolumeError

REGULARIZE = (
    "Import it in Slicer's DICOM module with 'Acquisition geometry regularization' switched on "
    "(Application Settings, DICOM), resample the volume and save it as NRRD, then use that file."
)
"""What to do about a series that is not regular."""

_ROUNDING_MM = 0.06
"""How far a position may be from an even one, wherever it is."""


def require_straight(positions: NDArray[np.float64], along: NDArray[np.float64], names: list[str], pixel_mm: float) -> None:
    """Refuse slices that do not lie in one line.

    Args:
        positions: (N, 3) LPS mm, in order.
        along: (N,) sorted distances in mm of the slices along their normal.
        names: of the slices.
        pixel_mm: the smaller spacing of their voxels.

    Raises:
        VolumeError: one lies beside the line from the first to the last.
    """
    share = (along - along[0]) / (along[-1] - along[0])
    aside = np.linalg.norm(positions - positions[0] - share[:, None] * (positions[-1] - positions[0]), axis=1)
    worst = int(aside.argmax())
    if aside[worst] > max(0.1, 0.2 * pixel_mm):
        raise VolumeError(
            f"The slices do not lie in one line: {names[worst]} is {aside[worst]:.1f} mm beside the others. They are probably "
            "of two reconstructions, or the table was moved. Split the series in Slicer's DICOM module (advanced loading)."
        )


def require_regular(along: NDArray[np.float64]) -> None:
    """Refuse slices that are not evenly spaced.

    Args:
        along: (N,) sorted distances in mm of the slices along their normal.

    Raises:
        VolumeError: two have one position, or the gaps differ.
    """
    gaps = np.diff(along)
    repeated = int((gaps < 1e-3).sum())
    if repeated:
        raise VolumeError(
            f"{repeated} of {len(along)} slices have the position of another one. The series is a time series or "
            "contains several acquisitions. Split it in Slicer's DICOM module (advanced loading) and save one volume as NRRD."
        )
    usual = float(np.median(gaps))
    wrong = np.flatnonzero(np.abs(gaps - usual) > max(0.05, 0.01 * usual))
    numbers = np.arange(len(along))
    off_mm = np.abs(along - np.polyval(np.polyfit(numbers, along, 1), numbers)).max()
    # Exporters round positions to 0.1 mm, so that gaps of 3.33 mm become 3.3 and 3.4 mm.
    if len(wrong) and off_mm > min(_ROUNDING_MM, 0.1 * usual):
        n = int(wrong[0])
        raise VolumeError(
            f"The slices are not evenly spaced: {len(wrong)} of {len(gaps)} gaps differ from {usual:.2f} mm; the first "
            f"is {gaps[n]:.2f} mm, after slice {n + 1} of {len(along)}. Slices are probably missing. Copy the whole "
            f"series again. If the scan was acquired like this, {REGULARIZE[0].lower()}{REGULARIZE[1:]}"
        )
