"""How well a segmentation agrees with the labels: Dice coefficient and distances between the surfaces."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.imaging.cropping import bounding_box
from CoralBayLib.imaging.grid import Grid, Volume

_RIGHT_ANGLE_DEG = 0.1
"""Axes that are farther from a right angle have no spacing to measure distances with."""


@dataclass(frozen=True)
class Agreement:
    """Agreement on one structure of one scan.

    Attributes:
        dice: Dice coefficient, 0 to 1; None where the structure is in neither.
        mean_mm: mean distance from the surface of either to the other's, mm; None where the structure is not in both, or where
            the axes of the scan are not at right angles.
        p95_mm: the 95th percentile of these distances, mm: the larger one of both directions (as in the Hausdorff distance).
        found: whether the segmentation has a voxel of the structure.
        present: whether the labels have one.
    """

    dice: float | None
    mean_mm: float | None
    p95_mm: float | None
    found: bool
    present: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values by name."""
        return asdict(self)


def compare(predicted: Volume, truth: Volume, label: int) -> Agreement:
    """Compare one structure of two labelmaps on the same grid.

    A structure that is absent from the labels and found all the same has a Dice coefficient of 0.

    Args:
        predicted: the segmentation.
        truth: the labels.
        label: of the structure in both.
    """
    ours, theirs = predicted.array == label, truth.array == label
    box = bounding_box(ours | theirs)
    if box is None:
        return Agreement(None, None, None, found=False, present=False)
    ours, theirs = ours[box], theirs[box]
    found, present = int(ours.sum()), int(theirs.sum())
    dice = 2 * int((ours & theirs).sum()) / (found + present)
    mean_mm, p95_mm = _surface_distances(ours, theirs, truth.grid) if found and present else (None, None)
    return Agreement(dice, mean_mm, p95_mm, bool(found), bool(present))


def _surface_distances(ours: NDArray[np.bool_], theirs: NDArray[np.bool_], grid: Grid) -> tuple[float | None, float | None]:
    """Mean symmetric surface distance and 95th percentile, mm, as MONAI defines them."""
    if grid.shear_deg > _RIGHT_ANGLE_DEG:
        return None, None
    import torch
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

    one, other = (torch.from_numpy(mask)[None, None] for mask in (ours, theirs))
    # MONAI's spacing is in the order of the array's axes, K, J, I.
    options: dict[str, Any] = {"include_background": True, "spacing": grid.spacing_mm[::-1].tolist()}
    with warnings.catch_warnings():
        # MONAI 1.6 warns of an argument that it passes itself.
        warnings.filterwarnings("ignore", message=".*always_return_as_numpy")
        mean = compute_average_surface_distance(one, other, symmetric=True, **options)
        p95 = compute_hausdorff_distance(one, other, percentile=95, **options)
    return float(mean), float(p95)
