"""What lies around the peaks of a similarity map: their extent, and the same query in another scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from CoralBayLib.core.errors import EncoderError
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.imaging.grid import Volume

from .search import Region


@dataclass(frozen=True, eq=False)
class Extents:
    """The pieces of a similarity map that belong to some regions.

    Attributes:
        labelmap: uint16 on the map's grid; the region's rank from 1, 0 elsewhere. A piece with several peaks belongs to
            the highest of them.
        volumes_ml: millilitres of the piece around each region, in their order; peaks in one piece share its volume,
            and a peak below the threshold has 0.
    """

    labelmap: Volume
    volumes_ml: tuple[float, ...]


def extents(simmap: Volume, regions: Sequence[Region], threshold: float) -> Extents:
    """Connected pieces of `simmap >= threshold` that hold a region's peak.

    Args:
        simmap: from `similarity_map`.
        regions: from `find_regions`, by falling score.
        threshold: similarity from which a voxel belongs to a piece.
    """
    pieces, count = ndimage.label(simmap.array >= threshold)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    rank = np.zeros(count + 1, dtype=np.uint16)
    volumes = []
    labels = Volume(pieces, simmap.grid)
    for number, region in enumerate(regions, start=1):
        piece = int(labels.values_at(np.reshape(region.ras, (1, 3)))[0])
        volumes.append(float(sizes[piece]) * simmap.grid.voxel_volume_mm3 / 1000 if piece else 0.0)
        if piece and not rank[piece]:
            rank[piece] = number
    return Extents(Volume(rank[pieces], simmap.grid), tuple(volumes))


def in_basis_of(pyramid: FeaturePyramid, other: FeaturePyramid) -> FeaturePyramid:
    """The scan with the similarity basis of another, so that the other's query vector can be looked for in it.

    Raises:
        EncoderError: the two scans have other features.
    """
    if pyramid.signature != other.signature:
        raise EncoderError(
            "The two scans were embedded with different encoders, weights or settings. Embed both in the same way."
        )
    return replace(pyramid, known_similarity_basis=other.for_similarity.basis)
