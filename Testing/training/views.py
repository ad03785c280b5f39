"""The two crops of a step: of the same place of one patient, or of corresponding places of two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .crops import Example
from .material import Material, Source
from .retrieval import POINTS

_SHARE_ACROSS = 0.5
"""Of the steps, if there are pairs of patients."""
_SAME_MM, _ACROSS_MM = 6.0, 12.0
"""How exact the correspondence is taken to be, in one patient and across two."""


@dataclass(frozen=True, eq=False)
class Pair:
    """Two crops and places that correspond.

    Attributes:
        examples: the crops, of one size.
        ijk: of each crop, (N, 3) voxels along R, A, S, in the same order; there may be none.
        sigma_mm: how exact the correspondence is.
        scans: of each crop.
        zooms: of each crop, RAS mm of its pass by RAS mm of its scan.
    """

    examples: list[Example]
    ijk: list[NDArray[np.float64]]
    sigma_mm: float
    scans: tuple[int, int]
    zooms: tuple[float, float]


def draw_pair(
    material: Material,
    crops: Callable[[tuple[Source, Source], tuple[NDArray[np.float64], NDArray[np.float64]]], list[Example]],
    random: np.random.Generator,
) -> Pair:
    """Two crops at random.

    Args:
        material: of passes and pairs.
        crops: draws one of each of two passes around a point of each, (3,) RAS mm.
        random: of the places.
    """
    one, other, found = material.drawn(random, _SHARE_ACROSS)
    if found is None:
        source = material.source(one, random)
        here = there = source.points_ras
        sources, sigma = (source, source), _SAME_MM
    else:
        sources, sigma = (material.source(one, random), material.source(other, random)), _ACROSS_MM
        here, there = found.here * sources[0].zoom, found.there * sources[1].zoom
    middle = int(random.integers(len(here)))
    examples = crops(sources, (here[middle], there[middle]))
    ijk = [example.grid.to_ijk(points) for example, points in zip(examples, (here, there), strict=True)]
    both = np.flatnonzero(examples[0].holds(ijk[0]) & examples[1].holds(ijk[1]))
    chosen = random.permutation(both)[:POINTS]
    zooms = sources[0].zoom, sources[1].zoom
    return Pair(examples, [where[chosen] for where in ijk], sigma, (one, other), zooms)
