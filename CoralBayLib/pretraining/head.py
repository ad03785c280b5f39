"""The projection head of DINO.

Method: Caron et al. (arXiv 2104.14294), `DINOHead` of its code: three layers with GELU, a bottleneck on the unit sphere,
and prototypes of unit length (a weight-normalized linear layer whose magnitudes stay 1). No batch normalization.

Before the first step, the embeddings are standardized once and for all (`standardize`). Averages of instance-normalized maps
are nearly the same for all crops; without this, all outputs are nearly the same, too, and small batches and few steps do not
suffice to separate them.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

_LEAST_DEVIATION = 1e-3
"""Added to standard deviations, so that a channel that is nearly constant is not blown up."""


class ProjectionHead(nn.Module):
    """From an embedding to one logit for each prototype.

    Attributes:
        mean, scale: (channels,) what is subtracted from embeddings, and what they are multiplied by then.

    Args:
        channels: length of the embedding.
        hidden: width of the two hidden layers.
        bottleneck: length of the vector before the prototypes.
        prototypes: number of prototypes.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, channels: int, hidden: int, bottleneck: int, prototypes: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.prototypes = nn.Parameter(torch.empty(prototypes, bottleneck))
        # As torch initializes a linear layer; only the direction is used.
        nn.init.kaiming_uniform_(self.prototypes, a=5**0.5)

    @torch.no_grad()
    def standardize(self, x: torch.Tensor) -> None:
        """Give the embeddings (N, channels) of the untrained network mean 0 and standard deviation 1 from now on."""
        self.mean.copy_(x.mean(dim=0))
        self.scale.copy_(1 / (x.std(dim=0) + _LEAST_DEVIATION))

    def project(self, x: torch.Tensor) -> torch.Tensor:
        """Embeddings (B, channels) to unit vectors (B, bottleneck)."""
        return functional.normalize(self.mlp((x - self.mean) * self.scale).float(), dim=-1)

    def classify(self, z: torch.Tensor) -> torch.Tensor:
        """Unit vectors (B, bottleneck) to their cosines with the prototypes, (B, prototypes)."""
        return functional.linear(z, functional.normalize(self.prototypes, dim=-1).to(z.dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Embeddings (B, channels) to logits (B, prototypes)."""
        return self.classify(self.project(x))
