"""Masks cut to their bounding box. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


def bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, slice, slice] | None:
    """The (k, j, i) slices of the smallest box around a mask; None for an empty mask."""
    spans = [np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    if not len(spans[0]):
        return None
    k, j, i = (slice(int(indices[0]), int(indices[-1]) + 1) for indices in spans)
    return k, j, i


@dataclass(frozen=True, eq=False)
class CroppedMask:
    """The voxels of a structure, cut to their bounding box: small enough to be written at once.

    Attributes:
        start: (i, j, k) of the first voxel in the whole grid.
        mask: uint8 [k, j, i]; may be empty.
    """

    start: tuple[int, int, int]
    mask: NDArray[np.uint8]

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> CroppedMask:
        """Cut a [k, j, i] mask of a whole grid."""
        box = bounding_box(mask)
        if box is None:
            return cls((0, 0, 0), np.empty((0, 0, 0), np.uint8))
        k, j, i = (side.start for side in box)
        return cls((i, j, k), np.ascontiguousarray(mask[box], dtype=np.uint8))
