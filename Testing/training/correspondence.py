"""Corresponding places of two patients, found without labels.

Each scan is registered with the other, as `fewshot.patients` does it with the features of the shipped network. Of points drawn
in the first body those are kept that come back to where they started, and whose place in the other scan is body.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from CoralBayLib.features.alignment import align
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.fewshot.patients.coarse import CoarseScan
from CoralBayLib.fewshot.patients.registration import Deformation, register
from CoralBayLib.similarity.comparable import BODY_POINTS, FeatureSpace

CYCLE_MM = 10.0
"""How far a point may come back from where it started."""
_LEAST_SHARE, _LEAST_POINTS = 0.15, 200
"""Of the points that must come back, or the scans are taken to be of different parts of the body."""


@dataclass(frozen=True, eq=False)
class Correspondence:
    """Places of one patient in another.

    Attributes:
        here: (N, 3) RAS mm in the first scan; there may be none.
        there: (N, 3) RAS mm in the second.
    """

    here: NDArray[np.float64]
    there: NDArray[np.float64]

    def save(self, path: Path) -> None:
        """Write as safetensors."""
        save_file({"here": self.here, "there": self.there}, path.with_suffix(".part"))
        path.with_suffix(".part").rename(path)

    @classmethod
    def load(cls, path: Path) -> Correspondence:
        """Read what `save` wrote."""
        return cls(**load_file(path))


@dataclass(frozen=True, eq=False)
class Body:
    """What is registered: points of a body, and the scan on a coarse grid."""

    pyramid: FeaturePyramid
    points_ras: NDArray[np.float64]
    coarse: CoarseScan

    @classmethod
    def of(cls, pyramid: FeaturePyramid) -> Body:
        """The body of a scan."""
        return cls(pyramid, pyramid.body_points(BODY_POINTS), CoarseScan.of(pyramid))

    def onto(self, other: Body) -> Deformation:
        """Where points of this body are in the other one."""
        space = FeatureSpace.of([self.pyramid, other.pyramid])
        ours, theirs = (space.sample(body.pyramid, body.points_ras) for body in (self, other))
        return register(self.coarse, other.coarse, align(other.points_ras, theirs, self.points_ras, ours))


def corresponding(one: Body, other: Body) -> tuple[Correspondence, Correspondence]:
    """Places of each body in the other; none if too few come back."""
    there, back = one.onto(other), other.onto(one)
    return consistent(one, other, there, back), consistent(other, one, back, there)


def consistent(one: Body, other: Body, there: Deformation, back: Deformation) -> Correspondence:
    """Those points of a body that come back, given where its points are in the other body and the reverse."""
    start = torch.from_numpy(one.points_ras).float()
    found = there.to_other(start)
    missed = (back.to_other(found) - start).norm(dim=1).numpy()
    places = found.double().numpy()
    kept = (missed < CYCLE_MM) & other.pyramid.grid.contains(places) & (other.pyramid.body.nearest_values(places) > 0)
    if kept.sum() < max(_LEAST_POINTS, _LEAST_SHARE * len(kept)):
        kept[:] = False
    return Correspondence(one.points_ras[kept], places[kept])
