"""Feature maps, on the worker: a pyramid in, plain data out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.core.progress import CancelToken

if TYPE_CHECKING:
    from CoralBayLib.features.pyramid import FeaturePyramid
    from CoralBayLib.similarity.feature_maps import FeatureProjection


def colors(
    pyramid: FeaturePyramid, basis: FeatureProjection | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.float64], FeatureProjection]:
    """The features as RGB [k, j, i, 3], their IJK-to-RAS, and the basis (computed if none is given)."""
    from CoralBayLib.similarity.feature_maps import color_basis, color_map

    basis = basis or color_basis(pyramid)
    return color_map(pyramid, basis), np.array(pyramid.grid.ijk_to_ras), basis


def clusters(
    pyramid: FeaturePyramid, count: int, basis: FeatureProjection | None, cancel: CancelToken
) -> tuple[NDArray, NDArray[np.float64], FeatureProjection]:
    """The clusters as a labelmap [k, j, i], its IJK-to-RAS, and the basis (computed if none is given)."""
    from CoralBayLib.similarity.feature_maps import cluster_basis, cluster_map

    basis = basis or cluster_basis(pyramid, count)
    labels = cluster_map(pyramid, basis, cancel)
    return labels.array, np.array(labels.grid.ijk_to_ras), basis
