"""The frames of a DICOM SEG file in space (DICOM PS3.3, A.51 and C.7.6.16).

A file has a frame only for slices with voxels, in any order, and one for each segment in a slice. Positions are centers of
voxels, in LPS mm, so that nothing is ever shifted by half a voxel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.core.errors import VolumeError
from CoralBayLib.imaging.grid import LPS_TO_RAS, Grid

if TYPE_CHECKING:
    from pydicom import Dataset

_SAME_SLICE_MM = 0.01
"""Frames that are less apart along their normal are of one slice."""
_OFF_SLICE = 0.1
"""Largest distance of a frame from a slice of the grid, as a share of the spacing of slices."""
_MOST_SLICES = 100_000
"""More tell of a damaged position or spacing."""


@dataclass(frozen=True, eq=False)
class Frames:
    """Where the frames of a file lie.

    Attributes:
        shape: rows and columns.
        spacing_mm: between columns, and between rows.
        row, column: unit vectors along i and along j, LPS.
        positions: (N, 3) centers of the first voxels, LPS mm.
        numbers: of the segment in each frame; 0 where a frame holds several.
        slice_spacing_mm: between slices, as the file tells it; 0 if it does not.
        thickness_mm: of a slice; 0 if the file does not tell it.
    """

    shape: tuple[int, int]
    spacing_mm: tuple[float, float]
    row: NDArray[np.float64]
    column: NDArray[np.float64]
    positions: NDArray[np.float64]
    numbers: tuple[int, ...]
    slice_spacing_mm: float
    thickness_mm: float

    @property
    def aside_mm(self) -> float:
        """How far a frame may lie beside the line of the slices, as in a series of CT."""
        return max(0.1, 0.2 * min(self.spacing_mm))

    def slices_of(self, grid: Grid) -> NDArray[np.intp] | None:
        """The slice (k) of each frame in a grid; None where the frames do not lie on its voxels."""
        if grid.shape[1:] != self.shape:
            return None
        lps = LPS_TO_RAS @ grid.ijk_to_ras
        rows, columns = self.shape
        ends = [
            np.linalg.norm((lps[:3, axis] - direction * spacing) * (count - 1))
            for axis, direction, spacing, count in zip(
                (0, 1), (self.row, self.column), self.spacing_mm, (columns, rows), strict=True
            )
        ]
        along = (np.linalg.inv(lps) @ np.column_stack([self.positions, np.ones(len(self.positions))]).T)[2]
        k = np.rint(along)
        aside = np.linalg.norm(self.positions - lps[:3, 3] - along[:, None] * lps[:3, 2], axis=1)
        off = max(float(ends[0]), float(ends[1]), float(aside.max())) > self.aside_mm or np.abs(along - k).max() > _OFF_SLICE
        if off or k.min() < 0 or k.max() >= grid.shape[0]:
            return None
        return k.astype(np.intp)

    def own_grid(self, name: str) -> tuple[Grid, NDArray[np.intp]]:
        """The grid of the frames, from the first to the last slice with one; slices without a frame are part of it.

        Args:
            name: of the file, for messages.

        Returns:
            grid: its k is along the normal of the frames, as in a series of CT.
            slices: k of each frame.

        Raises:
            VolumeError: they do not make a regular grid, or the file does not tell how thick its only slice is.
        """
        normal = np.cross(self.row, self.column)
        along = self.positions @ normal
        order = np.argsort(along, kind="stable")
        gaps = np.diff(along[order])
        gaps = gaps[gaps > _SAME_SLICE_MM]
        first, last = self.positions[order[0]], self.positions[order[-1]]
        if not len(gaps):
            spacing = self.slice_spacing_mm or self.thickness_mm
            if not spacing:
                raise VolumeError(
                    f"{name} has one slice, and neither SpacingBetweenSlices nor SliceThickness, so the size of its voxels is "
                    "not known. Put it beside the slices of the series that it refers to."
                )
            step, k = normal * spacing, np.zeros(len(along), np.intp)
        else:
            k = self._levels(along - along[order[0]], float(gaps.min()), name)
            step = (last - first) / k.max()
        aside = np.linalg.norm(self.positions - first - k[:, None] * step, axis=1)
        if aside.max() > max(self.aside_mm, _OFF_SLICE * float(np.linalg.norm(step))):
            raise VolumeError(
                f"The frames of {name} do not lie in one line: one is {aside.max():.1f} mm beside the others. Export the "
                "segmentation again from where it comes."
            )
        rows, columns = self.shape
        lps = np.eye(4)
        lps[:3, 0], lps[:3, 1], lps[:3, 2] = self.row * self.spacing_mm[0], self.column * self.spacing_mm[1], step
        lps[:3, 3] = first
        return Grid((int(k.max()) + 1, rows, columns), LPS_TO_RAS @ lps), k

    def _levels(self, along: NDArray[np.float64], smallest: float, name: str) -> NDArray[np.intp]:
        """The slice of each frame, from distances along the normal that begin with 0 mm."""
        # Gaps alone leave open how many slices without a segment are within them, so that the file's word comes first. Some
        # files tell the thickness of slices in its place, which then does not fit, and some tell nothing else.
        for spacing in (self.slice_spacing_mm, smallest, self.thickness_mm):
            if not spacing or not 0.5 < along.max() / spacing < _MOST_SLICES:
                continue
            steps = round(along.max() / spacing)
            exact = along / (along.max() / steps)
            if np.abs(along / spacing - exact).max() < 0.5 and np.abs(exact - np.rint(exact)).max() <= _OFF_SLICE:
                return np.rint(exact).astype(np.intp)
        raise VolumeError(
            f"The frames of {name} are not evenly spaced (the smallest gap is {smallest:.2f} mm). Put it beside the slices of "
            "the series that it refers to, or export it from Slicer as .seg.nrrd."
        )


def read_frames(dataset: Dataset, several_segments: bool, name: str) -> Frames:
    """Where the frames lie, from the header of a file.

    Args:
        dataset: its header.
        several_segments: whether a frame holds several segments, so that it names none.
        name: of the file, for messages.

    Raises:
        VolumeError: a frame has no position or no segment, or frames differ in orientation or spacing.
    """
    shared = _item(dataset, "SharedFunctionalGroupsSequence")
    groups = dataset.get("PerFrameFunctionalGroupsSequence") or []
    count = int(dataset.get("NumberOfFrames") or 0)
    if not count or len(groups) != count:
        raise VolumeError(
            f"{name} has {count} frames, and positions for {len(groups)}. It is empty or damaged: export it again."
        )

    def field(group: Any, sequence: str, keyword: str) -> Any:
        value = _item(group, sequence).get(keyword) if sequence in group else None
        return value if value not in (None, "") else _item(shared, sequence).get(keyword)

    def numbers(group: Any, sequence: str, keyword: str, length: int) -> tuple[float, ...]:
        value = field(group, sequence, keyword)
        given = tuple(map(float, value)) if isinstance(value, (list, tuple)) or hasattr(value, "__iter__") else ()
        if len(given) != length or not np.isfinite(given).all():
            raise VolumeError(
                f"A frame of {name} has no {keyword} of {length} numbers, so where its voxels are in the patient is not known. "
                "Export the segmentation again from its source."
            )
        return given

    positions, planes, segments = [], set(), []
    for group in groups:
        positions.append(numbers(group, "PlanePositionSequence", "ImagePositionPatient", 3))
        planes.add(
            (
                *numbers(group, "PlaneOrientationSequence", "ImageOrientationPatient", 6),
                *numbers(group, "PixelMeasuresSequence", "PixelSpacing", 2),
            )
        )
        segment = 0 if several_segments else field(group, "SegmentIdentificationSequence", "ReferencedSegmentNumber")
        if segment is None:
            raise VolumeError(f"A frame of {name} does not name its segment. Export the segmentation again.")
        segments.append(int(segment))
    plane = np.array(sorted(planes))
    orientation, (down, across) = plane[0, :6].reshape(2, 3), plane[0, 6:]
    lengths = np.linalg.norm(orientation, axis=1)
    if np.abs(plane - plane[0]).max() > 1e-3 or np.abs(lengths - 1).max() > 0.01 or min(down, across) <= 0:
        raise VolumeError(
            f"The frames of {name} differ in orientation or pixel spacing, or these are damaged. Export the segmentation again "
            "from where it comes, as one with parallel slices."
        )
    if abs(float(orientation[0] @ orientation[1])) > 1e-3:
        raise VolumeError(f"{name} is damaged: the rows and columns of its frames are not perpendicular. Copy it again.")
    row, column = orientation / lengths[:, None]
    return Frames(
        shape=(int(dataset.Rows), int(dataset.Columns)),
        spacing_mm=(float(across), float(down)),
        row=row,
        column=column,
        positions=np.array(positions),
        numbers=tuple(segments),
        slice_spacing_mm=_positive(field(groups[0], "PixelMeasuresSequence", "SpacingBetweenSlices")),
        thickness_mm=_positive(field(groups[0], "PixelMeasuresSequence", "SliceThickness")),
    )


def _item(dataset: Any, keyword: str) -> Any:
    """The item of a sequence; an empty one where there is none."""
    sequence = dataset.get(keyword)
    return sequence[0] if sequence else {}


def _positive(value: Any) -> float:
    number = float(value) if value not in (None, "") else 0.0
    return number if np.isfinite(number) and number > 0 else 0.0
