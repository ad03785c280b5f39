"""Numbers that describe a scan, and which scans are unlike the others. Imports no torch.

A number is unlike the others when it is far from their median, in units of the robust standard deviation (1.4826 times the
median absolute deviation), as in Iglewicz and Hoaglin (1993). The others are those without the scan itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.imaging.grid import Volume

_MOST_VOXELS = 500_000
_BODY_HU = -300.0
FEWEST_OTHERS = 4
"""Scans that a scan must be compared with at least."""
_MOST_DEVIATIONS = 5.0
FLOORS = {"HU": 15.0, "mm": 25.0, "%": 5.0}
"""Least robust standard deviation that is assumed, by unit: a few alike scans would flag every other one."""
VOLUME_FLOOR = np.log(1.25)
_MOST_VOLUME_DEVIATIONS = 4.0
"""Of the logarithm of a volume."""
WORDS = {
    "low_hu": ("5 % of the body's voxels are below", "HU"),
    "median_hu": ("the median of the body's voxels is", "HU"),
    "high_hu": ("5 % of the body's voxels are above", "HU"),
    "body_percent": ("the body's share of the scan is", "%"),
    "right_left_mm": ("the scan's extent from right to left is", "mm"),
    "front_back_mm": ("the scan's extent from front to back is", "mm"),
    "head_feet_mm": ("the scan's extent from head to feet is", "mm"),
}
"""What each number of a scan says, and its unit."""


def measure(volume: Volume) -> dict[str, float]:
    """Percentiles of the HU in the body, and the extent of the scan.

    Args:
        volume: a CT in HU, on any grid. At most about `_MOST_VOXELS` of its voxels are looked at.

    Returns:
        By the names in `WORDS`, in the units there.
    """
    step = max(1, round((volume.array.size / _MOST_VOXELS) ** (1 / 3)))
    values = volume.array[::step, ::step, ::step].astype(np.float32).ravel()
    body = values[values > _BODY_HU]
    low, median, high = np.percentile(body, (5, 50, 95)) if body.size else (0.0, 0.0, 0.0)
    # The extent of a box around the voxels, along the patient's axes.
    extent = np.abs(volume.grid.ijk_to_ras[:3, :3]) @ np.array(volume.grid.size, np.float64)
    share = 100 * body.size / values.size
    numbers = (low, median, high, share, *extent)
    return {name: round(float(number), 1) for name, number in zip(WORDS, numbers, strict=True)}


def is_measured(numbers: Any) -> bool:
    """Whether a value from a file is what `measure` returns."""
    return isinstance(numbers, dict) and all(type(numbers.get(name)) in (int, float) for name in WORDS)


def unlike_others(name: str, measured: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Sentences on how a scan differs from the others; none when there are too few others.

    Args:
        name: of the scan.
        measured: the numbers of all scans that were read, by name.
    """
    others = [numbers for other, numbers in measured.items() if other != name]
    if name not in measured or len(others) < FEWEST_OTHERS:
        return []
    flags = []
    for key, (words, unit) in WORDS.items():
        value, theirs = measured[name][key], np.array([numbers[key] for numbers in others])
        middle, deviation = robust(theirs, FLOORS[unit])
        if abs(value - middle) > _MOST_DEVIATIONS * deviation:
            flags.append(f"Unlike the other scans: {words} {value:.0f} {unit} (others: about {middle:.0f} {unit}).")
    return flags


def unlike_volumes(name: str, volumes_ml: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Sentences on structures whose volume is unlike that in the other scans.

    Args:
        name: of the scan.
        volumes_ml: the volume of each structure by its name, by name of the scan.
    """
    flags = []
    for structure, volume in volumes_ml.get(name, {}).items():
        theirs = np.array([v[structure] for other, v in volumes_ml.items() if other != name and structure in v])
        if len(theirs) < FEWEST_OTHERS:
            continue
        if volume <= 0:
            if (theirs > 0).mean() > 0.75:
                flags.append(f"{structure}: nothing was found, unlike in the other scans.")
            continue
        logs = np.log(theirs[theirs > 0])
        if len(logs) < FEWEST_OTHERS:
            continue
        middle, deviation = robust(logs, float(VOLUME_FLOOR))
        if abs(np.log(volume) - middle) > _MOST_VOLUME_DEVIATIONS * deviation:
            flags.append(f"{structure}: {volume:.3g} ml, unlike in the other scans (about {np.exp(middle):.3g} ml).")
    return flags


def distances(measured: Mapping[str, Mapping[str, float]]) -> tuple[list[str], NDArray[np.float64]]:
    """How unlike each other scans are.

    Args:
        measured: as in `unlike_others`.

    Returns:
        names: of the scans, (N).
        distances: (N, N), root mean square of the differences in robust standard deviations, at most 3 each.
    """
    names = sorted(measured)
    table = np.array([[measured[name][key] for key in WORDS] for name in names], np.float64).reshape(len(names), len(WORDS))
    scale = np.array([robust(column, FLOORS[unit])[1] for column, (_, unit) in zip(table.T, WORDS.values(), strict=True)])
    scaled = table / scale if len(names) else table
    differences = np.minimum(np.abs(scaled[:, None] - scaled[None]), 3.0)
    return names, np.sqrt((differences**2).mean(axis=2))


def robust(values: NDArray[np.float64], floor: float) -> tuple[float, float]:
    """Median and robust standard deviation, at least `floor`; 0 and `floor` without values."""
    if not len(values):
        return 0.0, floor
    middle = float(np.median(values))
    return middle, max(1.4826 * float(np.median(np.abs(values - middle))), floor)
