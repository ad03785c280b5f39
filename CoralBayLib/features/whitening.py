"""PCA whitening of a scan's features: a linear projection to uncorrelated components of unit variance.

Without it, the few channels of largest variance dominate a probe or a cosine similarity. Because it is linear, it is applied
to each level at native stride, like the weights of a probe.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

COMPONENTS = 192
"""Most components of a basis."""
SAMPLES = 8000
"""Body voxels that a basis is fitted on."""
_EXAMPLES = 2000
"""Body voxels whose whitened features are kept with the basis."""
_RIDGE = 1e-6
"""Added to the variance of a component."""


@dataclass(frozen=True, eq=False)
class Basis:
    """A projection `z = projection @ features + offset`, with examples of the voxels it was fitted on.

    Attributes:
        projection: (D, channels) float32.
        offset: (D,) float32.
        points_ras: (N, 3) float64, RAS mm of voxels drawn at random from the body.
        vectors: (N, D) float32, their whitened features; unlabeled examples of the scan.
    """

    projection: torch.Tensor
    offset: torch.Tensor
    points_ras: torch.Tensor
    vectors: torch.Tensor

    def tensors(self) -> dict[str, torch.Tensor]:
        """The attributes by name, as `Basis(**tensors)` takes them."""
        return {
            "projection": self.projection,
            "offset": self.offset,
            "points_ras": self.points_ras,
            "vectors": self.vectors,
        }


def fit_basis(features: torch.Tensor, points_ras: torch.Tensor, components: int = COMPONENTS, seed: int = 0) -> Basis:
    """PCA whitening of the features of body voxels drawn at random.

    Args:
        features: (N, channels) float32, about `SAMPLES` of them.
        points_ras: (N, 3) float64, RAS mm of those voxels.
        components: most components to keep.
        seed: of the randomized decomposition; the same seed gives the same basis.
    """
    projection, offset = whitening(features, components, seed)
    examples = features[:_EXAMPLES] @ projection.T + offset
    return Basis(projection, offset, points_ras[:_EXAMPLES].clone(), examples)


def whitening(features: torch.Tensor, components: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """PCA whitening of standardized vectors.

    Args:
        features: (N, channels) float32.
        components: most components to keep.
        seed: of the randomized decomposition (Halko, Martinsson and Tropp 2011); the same seed gives the same result.

    Returns:
        projection: (D, channels) float32.
        offset: (D,) float32; `projection @ features + offset` has zero mean and unit variance.
    """
    mean = features.mean(dim=0)
    scale = features.std(dim=0, correction=0)
    # A constant channel would be divided by its rounding error; it gets weight zero instead.
    scale = torch.where(scale > 1e-5 * scale.max(), scale, torch.inf)
    standard = (features - mean) / scale
    rank = min(components, *standard.shape)
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    try:
        _, singular, vectors = torch.svd_lowrank(standard, q=min(rank + 32, *standard.shape), niter=3)
    finally:
        torch.random.set_rng_state(state)
    variance = singular[:rank] ** 2 / len(standard)
    # In a scan of low rank (a phantom, a small crop) the last components are rounding errors and are dropped.
    rank = max(1, int((variance > 1e-6 * variance[0]).sum()))
    whiten = vectors[:, :rank] / (variance[:rank] + _RIDGE).sqrt()
    projection = (whiten.T / scale).contiguous()
    return projection, -(projection @ mean)
