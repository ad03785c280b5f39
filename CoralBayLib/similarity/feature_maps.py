"""A look inside the features: their main directions as colours, and clusters of like places as labels.

Both are linear in the features up to the last step, so they are computed at native stride like everything else, and
both rest on a small basis that can be kept and used on another scan, where equal colours then mean equal features.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from CoralBayLib.core.errors import EncoderError, ProbeError
from CoralBayLib.core.progress import CancelToken, raise_if_cancelled
from CoralBayLib.core.tensor_files import read_tensors, write_tensors
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.imaging.grid import Volume

_SPREAD = 2.5
"""Standard deviations from the mean that still get a colour of their own."""


@dataclass(frozen=True, eq=False)
class LookBasis:
    """Linear functions of the features to look at, and the features they are for.

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
            EncoderError: encoder, weights, setting or levels differ.
        """
        if pyramid.signature != self.signature:
            raise EncoderError(
                "This basis was made on features of another encoder, weights or setting. Embed the scan with the same "
                "encoder, or make a new basis on it."
            )

    def save(self, path: str | os.PathLike) -> None:
        """Write the basis as safetensors.

        Raises:
            StoreError: the file could not be written; whatever stood there before is untouched.
        """
        write_tensors(path, "basis", {"signature": self.signature}, {"weights": self.weights, "bias": self.bias})

    @classmethod
    def load(cls, path: str | os.PathLike) -> LookBasis:
        """Read a basis that `save` wrote.

        Raises:
            ProbeError: the file is missing, damaged, or no basis.
        """
        header, tensors = read_tensors(path, "basis")
        try:
            return cls(tensors["weights"], tensors["bias"], str(header["signature"]))
        except KeyError as error:
            raise ProbeError(f"The basis {Path(path).name} lacks {error}. Make it again.") from error


def colour_basis(pyramid: FeaturePyramid) -> LookBasis:
    """The three directions in which the body's features vary most, each of unit variance.

    Their signs are fixed, so that the same scan always gets the same colours.
    """
    weights, bias = pyramid.basis.projection[:3].clone(), pyramid.basis.offset[:3].clone()
    largest = weights.abs().argmax(dim=1, keepdim=True)
    sign = weights.gather(1, largest).sign()[:, 0]
    return LookBasis(weights * sign[:, None], bias * sign, pyramid.signature)


def colour_map(pyramid: FeaturePyramid, basis: LookBasis) -> NDArray[np.uint8]:
    """The features as colours.

    Args:
        pyramid: of the scan the basis was made on, or of another embedded in the same way.
        basis: from `colour_basis`.

    Returns:
        (K, J, I, 3) uint8 RGB on the working grid, black outside the body; a direction that a scan does not have (few
        features) stays at middle brightness.

    Raises:
        EncoderError: the basis is for other features.
    """
    basis.require_fit(pyramid)
    colours = np.full((*pyramid.grid.shape, 3), 128, dtype=np.uint8)
    for number, (row, bias) in enumerate(zip(basis.weights, basis.bias, strict=True)):
        values = pyramid.linear_map(row[None], bias)[0]
        colours[..., number] = values.clamp_(-_SPREAD, _SPREAD).add_(_SPREAD).mul_(255 / (2 * _SPREAD)).byte().numpy()
    colours[pyramid.body.array == 0] = 0
    return colours


def cluster_basis(pyramid: FeaturePyramid, clusters: int = 8, seed: int = 0) -> LookBasis:
    """Clusters of like places, found by k-means on whitened features of the body.

    The nearest centroid is the one with the largest `c.z - |c|^2 / 2`, which is linear in the features z.

    Args:
        pyramid: a scan's features.
        clusters: how many, from 2 to 64.
        seed: of k-means.

    Raises:
        EncoderError: the number of clusters is out of range.
    """
    from sklearn.cluster import KMeans

    vectors = pyramid.basis.vectors.numpy()
    if not 2 <= clusters <= min(64, len(vectors)):
        raise EncoderError(f"Expected 2 to {min(64, len(vectors))} clusters, got {clusters}.")
    centres = KMeans(clusters, n_init=3, random_state=seed).fit(vectors).cluster_centers_
    # Numbered along the main direction, so that neighbours in feature space get neighbouring numbers.
    centres = torch.from_numpy(centres[np.argsort(centres[:, 0])]).float()
    basis = pyramid.basis
    bias = centres @ basis.offset - centres.square().sum(dim=1) / 2
    return LookBasis(centres @ basis.projection, bias, pyramid.signature)


def cluster_map(pyramid: FeaturePyramid, basis: LookBasis, cancel: CancelToken | None = None) -> Volume:
    """The cluster of every place in the body.

    Args:
        pyramid: of the scan the basis was made on, or of another embedded in the same way.
        basis: from `cluster_basis`.
        cancel: checked between clusters.

    Returns:
        uint8 labelmap on the working grid: 1 to the number of clusters, 0 outside the body.

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
