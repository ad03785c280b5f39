"""Voxels that no answer to a click may touch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Locks:
    """Voxels that are not to be touched.

    Attributes:
        mask: on the working grid, [k, j, i]; None if there are none.
        points_ras: (N, 3) RAS mm in some of them, which show what the structures do not look like.
    """

    mask: NDArray[np.bool_] | None = None
    points_ras: NDArray[np.float64] | None = None

    def key(self) -> bytes:
        """Equal for equal masks."""
        return b"" if self.mask is None else hashlib.sha256(np.packbits(self.mask).tobytes()).digest()
