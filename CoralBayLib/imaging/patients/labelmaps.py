"""The labels of one patient on the grid of the scan. Imports no torch, except to move labels from one grid to another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.core.errors import VolumeError
from CoralBayLib.imaging.grid import Grid, Volume
from CoralBayLib.imaging.segmentation_io import names_its_segments, read_segmentation
from CoralBayLib.imaging.volume_io import read_grid, read_labelmap

from .folders import LabeledPatient
from .structures import require_distinct

_TOLERANCE_MM = 0.1
"""How far corners of two grids may be apart that count as the same: formats round positions differently."""


@dataclass(frozen=True, eq=False)
class LabeledScan:
    """What is labeled in one scan.

    Attributes:
        labelmap: whole numbers on the grid of the scan.
        names: of the structures that were looked for, by label, also of those of which there is no voxel.
    """

    labelmap: Volume
    names: dict[int, str]


def read_labels(patient: LabeledPatient, scan_grid: Grid | None = None) -> LabeledScan:
    """Read the labels of a patient.

    Args:
        patient: with labels.
        scan_grid: of the scan, if it is known already.

    Returns:
        The labels. Without names, structures are called "Structure 1" and so on, and only those with voxels were looked for.

    Raises:
        VolumeError: the labels or the scan's geometry cannot be read, the grids differ, or a label has no name. A segmentation
            (`.seg.nrrd`, DICOM SEG) may be on another grid, because Slicer crops it.
    """
    path = patient.labels
    if path is None:
        raise VolumeError("There are no labels of this scan.")
    grid = read_grid(patient.scan) if scan_grid is None else scan_grid
    if names_its_segments(path):
        labelmap, segments = read_segmentation(path, scan_grid=grid)
        names = {segment.label: segment.name for segment in segments}
        require_distinct(names.values(), path.name)
        return LabeledScan(_moved(labelmap, grid, path.name), names)
    labelmap = read_labelmap(path)
    if labelmap.grid.shape != grid.shape:
        sizes = ["x".join(map(str, each.size)) for each in (labelmap.grid, grid)]
        raise VolumeError(f"{path.name} has {sizes[0]} voxels, and the scan {patient.scan.name} has {sizes[1]}.")
    if not labelmap.grid.same_as(grid, _TOLERANCE_MM):
        raise VolumeError(
            f"{path.name} lies elsewhere than the scan {patient.scan.name}: position, spacing or orientation differ. Save both "
            "with the same geometry."
        )
    found = _labels_in(labelmap.array)
    unnamed = [] if patient.names is None else [label for label in found if label not in patient.names]
    if unnamed:
        raise VolumeError(f"{path.name} has voxels with label {unnamed[0]}, which has no name. Name it, or remove it.")
    names = {label: f"Structure {label}" for label in found} if patient.names is None else patient.names
    return LabeledScan(Volume(labelmap.array, grid), dict(names))


def _labels_in(array: NDArray) -> list[int]:
    """The labels in a labelmap, without the background."""
    return [label for label in np.unique(array).tolist() if label]


def _moved(labelmap: Volume, grid: Grid, name: str) -> Volume:
    """A segmentation on the grid of the scan, by nearest neighbor; nothing where it ends."""
    if labelmap.grid.same_as(grid, _TOLERANCE_MM):
        return Volume(labelmap.array, grid)
    from CoralBayLib.imaging.resampling import resample

    # Resampling continues the values at the border, so that a border of zeros ends the labels.
    padded = np.pad(labelmap.array, 1)
    moved = resample(Volume(padded, labelmap.grid.subgrid([-1, -1, -1], 1, padded.shape)), grid, "nearest")
    if labelmap.array.any() and not moved.array.any():
        raise VolumeError(f"{name} lies outside of the scan. Check that both are of the same patient.")
    return moved
