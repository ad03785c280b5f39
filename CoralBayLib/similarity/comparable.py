"""Features of several scans in one space, in which the same anatomy has similar vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize

from CoralBayLib.core.errors import EncoderError, Remedy
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.features.shared_basis import shared_basis
from CoralBayLib.features.whitening import whitening

COMPONENTS = 96
"""Components that are compared, those of the largest variance first; see DECISIONS.md."""
BODY_POINTS = 3000
"""Points drawn from the body of a scan."""


@dataclass(frozen=True, eq=False)
class FeatureSpace:
    """`z = projection @ features + offset`, the same for several scans.

    Attributes:
        projection: (D, channels) float32.
        offset: (D,) float32.
        signature: of the features.
    """

    projection: torch.Tensor
    offset: torch.Tensor
    signature: str

    @classmethod
    def of(cls, pyramids: Sequence[FeaturePyramid]) -> FeatureSpace:
        """The basis that comes with the encoder, or one that is fitted on these scans.

        Args:
            pyramids: one or more, of the same signature.

        Raises:
            EncoderError: their features differ in encoder, weights or settings.
        """
        first = pyramids[0]
        space = cls(torch.empty(0, 0), torch.empty(0), first.signature)
        for other in pyramids[1:]:
            space.require_fit(other)
        shared = shared_basis(first)
        if shared is not None:
            projection, offset = shared.projection, shared.offset
        else:
            projection, offset = whitening(torch.cat([p.sample(p.body_points(BODY_POINTS)) for p in pyramids]), COMPONENTS)
        return cls(projection[:COMPONENTS].clone(), offset[:COMPONENTS].clone(), first.signature)

    def require_fit(self, pyramid: FeaturePyramid) -> None:
        """Refuse a scan with other features.

        Raises:
            EncoderError: the encoder, its weights, setting or levels differ.
        """
        if pyramid.signature != self.signature:
            raise EncoderError(
                "The scans were embedded with different encoders, weights or settings. Embed all in the same way.",
                remedy=Remedy.CHOOSE_ENCODER,
            )

    def sample(self, pyramid: FeaturePyramid, points_ras: NDArray[np.float64]) -> torch.Tensor:
        """Vectors at (N, 3) RAS mm points, (N, D) float32."""
        return pyramid.sample_linear(points_ras, self.projection, self.offset)

    def directions(self, pyramid: FeaturePyramid, points_ras: NDArray[np.float64]) -> torch.Tensor:
        """As `sample`, scaled to length one, so that products are cosines."""
        return normalize(self.sample(pyramid, points_ras), dim=1)
