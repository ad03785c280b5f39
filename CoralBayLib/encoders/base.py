"""What every encoder offers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

Axes = tuple[int, int, int]


@dataclass(frozen=True)
class InputSpec:
    """How a CT becomes the encoder's tensor (1, 1, R, A, S).

    Attributes:
        spacing_mm: voxel spacing along R, A, S.
        window_hu: HU that become 0 and 1; values beyond are clipped.
        multiple: each side of the tensor is padded with air to a multiple of these.
        minimum: the least size of each side.
        at_least: whether `spacing_mm` is but a lower bound: a scan whose finest spacing is coarser keeps that one, along
            all axes.
        fit: voxels along R, A, S that the box around the patient is brought to, averaging what `spacing_mm` gave;
            their spacing then differs from scan to scan and from axis to axis. None keeps `spacing_mm`.
    """

    spacing_mm: tuple[float, float, float]
    window_hu: tuple[float, float]
    multiple: Axes
    minimum: Axes = (1, 1, 1)
    at_least: bool = False
    fit: Axes | None = None


@dataclass(frozen=True)
class LevelSpec:
    """One feature map at its native stride.

    Attributes:
        name: short and unique within the encoder.
        channels: number of channels.
        stride: input voxels between neighbouring features, along R, A, S.
        offset: where the centre of feature 0 lies, in input voxels, along R, A, S: (stride - 1) / 2 for blocks that
            tile the input, 0 for padded strided convolutions.
        pooled: whether the scan embedding holds this level's global average.
        optional: whether it is computed only when asked for (a costly level at full resolution).
    """

    name: str
    channels: int
    stride: Axes
    offset: tuple[float, float, float]
    pooled: bool = True
    optional: bool = False


@dataclass(frozen=True)
class Tiling:
    """Windows the encoder is run on.

    Attributes:
        name: goes into the cache key: features of another tiling are other features.
        window: size along R, A, S in voxels, or None for the whole volume at once.
        step: voxels between windows; a multiple of every stride.
    """

    name: str
    window: Axes | None
    step: Axes = (0, 0, 0)


class Encoder(Protocol):
    """A frozen network that turns a CT into feature maps at several strides.

    `scan_token` names a vector of the whole input (a CLS token) that is the scan embedding; such an encoder is run on
    the whole volume at once. Without one (None) the scan embedding is the average of the pooled levels.
    """

    name: str
    title: str
    input: InputSpec
    levels: tuple[LevelSpec, ...]
    scan_token: str | None
    tiling: Tiling
    weights_sha256: str
    weights_source: str
    device: torch.device

    @property
    def network(self) -> torch.nn.Module:
        """The module that is run."""
        ...

    def forward_features(self, x: torch.Tensor, names: tuple[str, ...]) -> list[torch.Tensor]:
        """Feature maps of a batch.

        Args:
            x: (B, 1, R, A, S) float32 in [0, 1] on `device`.
            names: which levels to compute, in the order of `levels`; `scan_token` may follow them.

        Returns:
            One (B, C, r, a, s) tensor a level; (B, D) for the scan token.
        """
        ...

    def memory_bytes(self, window: Axes, names: tuple[str, ...]) -> int:
        """About how many bytes one window of this size needs at its peak, weights not counted."""
        ...

    def to(self, device: torch.device) -> None:
        """Move the network."""
        ...
