"""What is kept of a landmark in a scan that shows it: its position, and what lies around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from CoralBayLib.features.alignment import AxisAlignment, align
from CoralBayLib.features.pyramid import FeaturePyramid

from .comparable import FeatureSpace
from .patches import cube, lattice, mind_ssc, sample_hu

COARSE_MM, AROUND = 6.0, 2
"""Steps and radius of the features around a landmark."""
FINE_MM, PATCH = 3.0, 6
"""Steps and radius of the self-similarity around a landmark."""
_BODY_POINTS = 1500


@dataclass(frozen=True, eq=False)
class Example:
    """One landmark in one scan.

    Attributes:
        ras: (3,) RAS mm.
        appearance: (n^3, D) half, directions of the features on a lattice around it.
        texture: (12, m, m, m) half, self-similarity around it.
    """

    ras: NDArray[np.float64]
    appearance: torch.Tensor
    texture: torch.Tensor

    @classmethod
    def of(cls, space: FeatureSpace, pyramid: FeaturePyramid, ras: NDArray[np.float64]) -> Example:
        """Sample a scan around a landmark (3,) RAS mm."""
        appearance = space.directions(pyramid, ras + lattice(AROUND, COARSE_MM))
        texture = mind_ssc(cube(sample_hu(pyramid, ras + lattice(PATCH + 2, FINE_MM))))[0]
        return cls(np.asarray(ras, dtype=np.float64), appearance.half(), texture.half())


@dataclass(frozen=True, eq=False)
class Patient:
    """The landmarks of one scan, and points of its body by which others are aligned with it.

    Attributes:
        points_ras: (P, 3) RAS mm, drawn from the body.
        vectors: (P, D) half, their features.
        examples: by name.
    """

    points_ras: NDArray[np.float64]
    vectors: torch.Tensor
    examples: dict[str, Example]

    @classmethod
    def of(cls, space: FeatureSpace, pyramid: FeaturePyramid, points: dict[str, NDArray[np.float64]]) -> Patient:
        """Sample a scan with named points, (3,) RAS mm each."""
        body = pyramid.body_points(_BODY_POINTS)
        examples = {name: Example.of(space, pyramid, ras) for name, ras in points.items()}
        return cls(body, space.sample(pyramid, body).half(), examples)

    def align(self, points_ras: NDArray[np.float64], vectors: torch.Tensor) -> AxisAlignment:
        """From this scan to another, of which points (N, 3) RAS mm and their features (N, D) are given."""
        return align(self.points_ras, self.vectors.float(), points_ras, vectors)
