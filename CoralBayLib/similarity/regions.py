"""Extents of similar regions, and queries in another scan."""

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
    """The connected components of a similarity map that contain the regions' peaks.

    Attributes:
        labelmap: uint16 [k, j, i] on the map's grid: the region's rank from 1, 0 elsewhere. A component with several peaks
            has the rank of the highest.
        volumes_ml: volume of the component around each region, in the regions' order; peaks in one component have the same
            volume, and a peak below the threshold has 0.
    """

    labelmap: Volume
    volumes_ml: tuple[float, ...]


def extents(simmap: Volume, regions: Sequence[Region], threshold: float) -> Extents:
    """Connected components of `simmap >= threshold` that contain a region's peak.

    Args:
        simmap: from `similarity_map`.
        regions: from `find_regions`, in the order of falling score.
        threshold: similarity from which a voxel belongs to a component.
    """
    components, count = ndimage.label(simmap.array >= threshold)
    sizes = np.bincount(components.ravel(), minlength=count + 1)
    rank = np.zeros(count + 1, dtype=np.uint16)
    volumes = []
    labels = Volume(components, simmap.grid)
    for number, region in enumerate(regions, start=1):
        component = int(labels.nearest_values(np.reshape(region.ras, (1, 3)))[0])
        volumes.append(float(sizes[component]) * simmap.grid.voxel_volume_mm3 / 1000 if component else 0.0)
        if component and not rank[component]:
            rank[component] = number
    return Extents(Volume(rank[components], simmap.grid), tuple(volumes))


def in_basis_of(pyramid: FeaturePyramid, other: FeaturePyramid) -> FeaturePyramid:
    """A scan with the similarity basis of another scan, so that the other's query vector can be searched for in it.

    Args:
        pyramid: of the scan to search.
        other: of the scan with the query.

    Raises:
        EncoderError: the features of the two scans have different signatures.
    """
    if pyramid.signature != other.signature:
        raise EncoderError(
            "The two scans were embedded with different encoders, weights or settings. Embed both in the same way."
        )
    return replace(pyramid, stored_similarity_basis=other.for_similarity.basis)
