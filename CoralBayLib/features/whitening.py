"""The whitening basis of a scan: a linear projection after which its body voxels have no correlation and unit variance.

Without it a probe or a cosine is ruled by the few channels that vary most. Being linear, it is applied a level at a
time at native stride like any other weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

COMPONENTS = 192
SAMPLES = 8000
_EXAMPLES = 2000
_RIDGE = 1e-6


@dataclass(frozen=True, eq=False)
class Basis:
    """A projection `z = projection @ features + offset`, with body voxels it was made from.

    Attributes:
        projection: (D, channels) float32.
        offset: (D,) float32.
        points_ras: (N, 3) float64, RAS mm of voxels drawn at random from the body.
        vectors: (N, D) float32, their projected features: examples of what the scan holds, without labels.
    """

    projection: torch.Tensor
    offset: torch.Tensor
    points_ras: torch.Tensor
    vectors: torch.Tensor

    def tensors(self) -> dict[str, torch.Tensor]:
        """The parts by name, as `Basis(**parts)` takes them."""
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
        seed: of the decomposition; the same seed gives the same basis.
    """
    projection, offset = whitening(features, components, seed)
    examples = features[:_EXAMPLES] @ projection.T + offset
    return Basis(projection, offset, points_ras[:_EXAMPLES].clone(), examples)


def whitening(features: torch.Tensor, components: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A PCA whitening of some vectors.

    Args:
        features: (N, channels) float32.
        components: most components to keep.
        seed: of the decomposition, which is randomised; the same seed gives the same result.

    Returns:
        projection: (D, channels) float32.
        offset: (D,) float32; `projection @ features + offset` has zero mean and unit variance.
    """
    mean = features.mean(dim=0)
    scale = features.std(dim=0, correction=0)
    # A channel that never varies says nothing; dividing by its rounding noise would make it shout.
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
    # Components that are rounding noise of a low-rank scan (a phantom, a tiny crop) are left out.
    rank = max(1, int((variance > 1e-6 * variance[0]).sum()))
    whiten = vectors[:, :rank] / (variance[:rank] + _RIDGE).sqrt()
    projection = (whiten.T / scale).contiguous()
    return projection, -(projection @ mean)
