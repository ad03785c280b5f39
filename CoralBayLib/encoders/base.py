"""The interface of an encoder. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeGuard

if TYPE_CHECKING:
    import torch

    from CoralBayLib.core.progress import CancelToken, Progress
    from CoralBayLib.imaging.grid import Volume

Axes = tuple[int, int, int]
"""A size or a step in voxels along R, A, S."""


@dataclass(frozen=True)
class InputSpec:
    """How a CT becomes the encoder's tensor (1, 1, R, A, S).

    Attributes:
        spacing_mm: voxel spacing along R, A, S.
        window_hu: (low, high) in HU; mapped to 0 and 1, values beyond are clipped.
        multiple: each side of the tensor is padded with air to a multiple of this, in voxels.
        minimum: smallest size of each side, in voxels.
        at_least: whether `spacing_mm` is a lower bound only: a scan whose finest spacing is coarser is resampled to its
            finest spacing along all axes.
        fit: size in voxels along R, A, S to which the patient's bounding box is resampled by averaging, after
            resampling to `spacing_mm`. The final spacing then differs between scans and axes. None keeps `spacing_mm`.
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
        stride: input voxels between neighboring features, along R, A, S.
        offset: center of feature 0 in input voxels, along R, A, S: (stride - 1) / 2 for patches that tile the input, 0 for
            padded strided convolutions.
        pooled: whether the scan embedding includes the global average of this level.
        optional: whether the level is computed on request only (a costly level at full resolution).
    """

    name: str
    channels: int
    stride: Axes
    offset: tuple[float, float, float]
    pooled: bool = True
    optional: bool = False


@dataclass(frozen=True)
class Tiling:
    """The windows on which the encoder is run.

    Attributes:
        name: part of the key of stored features, since another tiling gives other features.
        window: size along R, A, S in voxels, or None to run on the whole volume at once.
        step: voxels between windows along R, A, S; a multiple of every stride.
    """

    name: str
    window: Axes | None
    step: Axes = (0, 0, 0)


class EncoderProperties(Protocol):
    """What is known of an encoder without its network.

    `scan_token` names a vector of the whole input (a CLS token) that serves as the scan embedding; such an encoder is run
    on the whole volume at once. When it is None, the scan embedding is the average of the pooled levels.
    """

    name: str
    title: str
    input: InputSpec
    levels: tuple[LevelSpec, ...]
    scan_token: str | None
    tiling: Tiling
    weights_sha256: str


class Encoder(EncoderProperties, Protocol):
    """A frozen network that turns a CT into feature maps at several strides."""

    weights_source: str

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        ...

    @property
    def network(self) -> torch.nn.Module:
        """The torch module."""
        ...

    def forward_features(self, x: torch.Tensor, names: tuple[str, ...]) -> list[torch.Tensor]:
        """Compute feature maps of a batch.

        Args:
            x: (B, 1, R, A, S) float32 in [0, 1] on `device`.
            names: levels to compute, in the order of `levels`; `scan_token` may follow them.

        Returns:
            One (B, C, r, a, s) tensor for each level; (B, D) for the scan token.
        """
        ...

    def memory_bytes(self, window: Axes, names: tuple[str, ...]) -> int:
        """Estimated peak memory for one window of this size, in bytes, without the weights."""
        ...

    def to(self, device: torch.device) -> None:
        """Move the network to a device."""
        ...


class DistantEncoder(Encoder, Protocol):
    """An encoder whose network is on another computer. `embed` takes it in place of one on this computer."""

    def fetch(
        self,
        volume: Volume,
        key: str,
        levels: Sequence[str],
        path: Path,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
        *,
        assume_hu: bool = False,
    ) -> None:
        """Have a pyramid computed, and write it to a file in the form of the store.

        Args:
            volume: a CT in HU on any grid.
            key: of the pyramid, see `features.identity.store_key`.
            levels: names of the levels.
            path: the file to write.
            progress: called with the fraction done and a message.
            cancel: checked several times a second.
            assume_hu: skip the check that the values are HU.

        Raises:
            ServerError: the other computer could not be reached or did not do the work.
            Cancelled: `cancel` was called.
        """
        ...


def is_distant(encoder: Encoder) -> TypeGuard[DistantEncoder]:
    """Whether the network of an encoder is on another computer."""
    return callable(getattr(encoder, "fetch", None))
