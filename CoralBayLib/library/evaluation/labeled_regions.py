"""The regions of a labeled scan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class LabeledRegions:
    """The regions of one scan.

    Attributes:
        patient: whom the scan is of.
        points_ras: (N, 3) RAS mm.
        vectors: (N, D) float32 of unit length.
        structures: (N,) name of the structure at each point; "" for none.
        known: structures that were looked for in the scan.
    """

    patient: str
    points_ras: NDArray
    vectors: NDArray[np.float32]
    structures: NDArray[np.str_]
    known: frozenset[str]
