"""Feature maps: the main directions of the features as colors, and clusters of similar features as labels.

Both are linear in the features up to the last step, so they are computed at native stride. Both use a small projection
that can be saved and applied to another scan, where equal colors then mean equal features.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from CoralBayLib.core import schemas
from CoralBayLib.core.deprecation import deprecated_names
from CoralBayLib.core.errors import EncoderError, Remedy
from CoralBayLib.core.progress import CancelToken, raise_if_cancelled
from CoralBayLib.core.tensor_files import read_tensors, write_tensors
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.imaging.grid import Volume

_COLOR_RANGE = 2.5
"""Range of the colors, in standard deviations on either side of the mean."""

__getattr__ = deprecated_names(
    __name__, {"LookBasis": "FeatureProjection", "colour_basis": "color_basis", "colour_map": "color_map"}
)


@dataclass(frozen=True, eq=False)
class FeatureProjection:
    """Linear functions of the features of one encoder.

    Attributes:
        weights: (M, channels) float32.
        bias: (M,) float32.
        signature: of the features.
    """

    weights: torch.Tensor
    bias: torch.Tensor
    signature: str

    def require_fit(self, pyramid: FeaturePyramid) -> None:
        """Refuse a scan with other features.

        Raises:
            EncoderError: the encoder, its weights, setting or levels differ.
        """
        if pyramid.signature != self.signature:
            raise EncoderError(
                "This basis was computed from features of another encoder, weights or setting.",
                remedy=Remedy.CHOOSE_ENCODER,
            )

    def save(self, path: str | os.PathLike) -> None:
        """Write the projection as safetensors.

        Raises:
            StoreError: the file could not be written; a file that existed before is unchanged.
        """
        write_tensors(path, "basis", {"signature": self.signature}, {"weights": self.weights, "bias": self.bias})

    @classmethod
    def load(cls, path: str | os.PathLike) -> FeatureProjection:
        """Read a file that `save` wrote.

        Raises:
            ProbeError: the file is missing, damaged, or not a basis.
        """
        header, tensors = read_tensors(path, "basis", schemas.PROJECTION)
        return cls(tensors["weights"], tensors["bias"], header["signature"])


def color_basis(pyramid: FeaturePyramid) -> FeatureProjection:
    """The first three principal components of the body's features, each with unit variance.

    Their signs are fixed, so that a scan always has the same colors.
    """
    weights, bias = pyramid.basis.projection[:3].clone(), pyramid.basis.offset[:3].clone()
    largest = weights.abs().argmax(dim=1, keepdim=True)
    sign = weights.gather(1, largest).sign()[:, 0]
    return FeatureProjection(weights * sign[:, None], bias * sign, pyramid.signature)


def color_map(pyramid: FeaturePyramid, basis: FeatureProjection) -> NDArray[np.uint8]:
    """The features as colors.

    Args:
        pyramid: of the scan that the basis was computed from, or of another with the same signature.
        basis: from `color_basis`.

    Returns:
        (K, J, I, 3) uint8 RGB on the working grid, black outside the body. A color that the basis lacks, because the scan
        has few features, is 128.

    Raises:
        EncoderError: the basis is for other features.
    """
    basis.require_fit(pyramid)
    if len(basis.weights) > 3:
        raise EncoderError(f"Expected a basis of colors, got one of {len(basis.weights)} rows, as of clusters.")
    colors = np.full((*pyramid.grid.shape, 3), 128, dtype=np.uint8)
    for number, (row, bias) in enumerate(zip(basis.weights, basis.bias, strict=True)):
        values = pyramid.linear_map(row[None], bias)[0].clamp_(-_COLOR_RANGE, _COLOR_RANGE)
        colors[..., number] = values.add_(_COLOR_RANGE).mul_(255 / (2 * _COLOR_RANGE)).byte().numpy()
    colors[pyramid.body.array == 0] = 0
    return colors


def cluster_basis(pyramid: FeaturePyramid, clusters: int = 8, seed: int = 0) -> FeatureProjection:
    """Clusters of similar locations, from k-means on the whitened features of the body.

    The nearest centroid c is the one with the largest `c.z - |c|^2 / 2`, which is linear in the whitened features z.

    Args:
        pyramid: of a scan.
        clusters: number of clusters, from 2 to 64.
        seed: of k-means.

    Raises:
        EncoderError: the number of clusters is out of range.
    """
    from sklearn.cluster import KMeans

    vectors = pyramid.basis.vectors.numpy()
    if not 2 <= clusters <= min(64, len(vectors)):
        raise EncoderError(f"Expected 2 to {min(64, len(vectors))} clusters, got {clusters}.")
    centers = KMeans(clusters, n_init=3, random_state=seed).fit(vectors).cluster_centers_
    # Sorted along the first component, so that similar clusters have neighboring numbers.
    centers = torch.from_numpy(centers[np.argsort(centers[:, 0])]).float()
    basis = pyramid.basis
    bias = centers @ basis.offset - centers.square().sum(dim=1) / 2
    return FeatureProjection(centers @ basis.projection, bias, pyramid.signature)


def cluster_map(pyramid: FeaturePyramid, basis: FeatureProjection, cancel: CancelToken | None = None) -> Volume:
    """The cluster of every voxel in the body.

    Args:
        pyramid: of the scan that the basis was computed from, or of another with the same signature.
        basis: from `cluster_basis`.
        cancel: checked between clusters.

    Returns:
        uint8 labelmap [k, j, i] on the working grid: 1 to the number of clusters, 0 outside the body.

    Raises:
        EncoderError: the basis is for other features.
        Cancelled: `cancel` was called.
    """
    basis.require_fit(pyramid)
    best = torch.full(pyramid.grid.shape, -torch.inf)
    labels = torch.zeros(pyramid.grid.shape, dtype=torch.uint8)
    for number, (row, bias) in enumerate(zip(basis.weights, basis.bias, strict=True)):
        raise_if_cancelled(cancel)
        score = pyramid.linear_map(row[None], bias)[0]
        labels[score > best] = number + 1
        torch.maximum(best, score, out=best)
    array = labels.numpy()
    array[pyramid.body.array == 0] = 0
    return Volume(array, pyramid.grid)
