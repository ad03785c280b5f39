"""From the feature maps of any encoder to the six maps that eva's SwinUNETR decoder takes, and that decoder.

A decoder for maps at strides 1, 2, 4, 8, 16 and 32 meets encoders with maps at other strides. Each of its six inputs comes from
the map of the nearest stride: a trained 1x1x1 convolution gives it the number of channels, at its own stride, and then linear
interpolation gives it its size. Nothing else is added to eva's decoder.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from CoralBayLib.core.errors import EncoderError
from CoralBayLib.encoders.networks.orientation import to_spl

STRIDES = (1, 2, 4, 8, 16, 32)
WIDTHS = (1, 1, 2, 4, 8, 16)
"""Channels at each stride of a SwinUNETR, as multiples of the first."""


class Bridge(nn.Module):
    """Makes six maps at `STRIDES` of an encoder's maps.

    Args:
        levels: of the encoder: channels, stride along R, A, S, and offset along R, A, S, as in `LevelSpec`.
        feature_size: channels at stride 1.
        window: side of the input, in voxels; a multiple of 32.
    """

    def __init__(self, levels: Sequence[Sequence], feature_size: int = 48, window: int = 96) -> None:
        super().__init__()
        if not levels or window % STRIDES[-1]:
            raise EncoderError(f"Expected levels, and a window that is a multiple of {STRIDES[-1]} voxels, got {window}.")
        self._levels = [(tuple(stride), tuple(offset)) for _channels, stride, offset in levels]
        self._window = window
        self.sources = [self._nearest(stride) for stride in STRIDES]
        self.projections = nn.ModuleList(
            nn.Conv3d(levels[source][0], feature_size * width, kernel_size=1)
            for source, width in zip(self.sources, WIDTHS, strict=True)
        )

    def forward(self, maps: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Compute the six maps.

        Args:
            maps: one (B, C, r, a, s) tensor for each level.

        Returns:
            One (B, C, s, p, l) tensor for each stride, with window / stride cells along each axis.
        """
        result = []
        for stride, source, projection in zip(STRIDES, self.sources, self.projections, strict=True):
            x = projection(maps[source])
            steps, offsets = self._levels[source]
            for axis, (step, offset) in enumerate(zip(steps, offsets, strict=True), start=2):
                x = _interpolated(x, axis, self._window // stride, stride, step, offset)
            result.append(to_spl(x))
        return result

    def _nearest(self, stride: int) -> int:
        """The level of the nearest stride; of two as near, the finer."""

        def distance(n: int) -> tuple[float, float]:
            own = math.prod(self._levels[n][0]) ** (1 / 3)
            return round(abs(math.log2(own / stride)), 6), own

        return min(range(len(self._levels)), key=distance)


def _interpolated(x: torch.Tensor, axis: int, cells: int, stride: int, step: float, offset: float) -> torch.Tensor:
    """Values at the centers of `cells` cells of a stride, along one axis; beyond the first and last value these repeat."""
    centers = (torch.arange(cells, device=x.device, dtype=torch.float32) + 0.5) * stride - 0.5
    position = ((centers - offset) / step).clamp(0, x.shape[axis] - 1)
    low = position.floor().long()
    high = (low + 1).clamp(max=x.shape[axis] - 1)
    weight = (position - low).to(x.dtype).view([-1 if n == axis else 1 for n in range(x.dim())])
    return torch.lerp(x.index_select(axis, low), x.index_select(axis, high), weight)


class BridgedDecoder(nn.Module):
    """eva's SwinUNETR decoder behind a `Bridge`.

    Args:
        out_channels: number of labels, with the background.
        levels: of the encoder, as for `Bridge`.
        feature_size: channels at stride 1.
        window: side of the input, in voxels.
    """

    def __init__(self, out_channels: int, levels: Sequence[Sequence], feature_size: int = 48, window: int = 96) -> None:
        super().__init__()
        from eva.vision.models.networks.decoders.segmentation import SwinUNETRDecoderWithProjection

        self.bridge = Bridge(levels, feature_size, window)
        self.decoder = SwinUNETRDecoderWithProjection(out_channels=out_channels, feature_size=feature_size)

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Scores of the labels, (B, out_channels, S, P, L)."""
        return self.decoder(self.bridge(maps))
