"""What the encoders have in common: a frozen network with the origin of its weights, found and loaded by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from CoralBayLib.core.errors import EncoderError

from .base import Axes, Encoder, InputSpec, LevelSpec, Tiling
from .weights import Consent, FoundWeights, sha256_of


class FrozenEncoder(ABC):
    """An `Encoder` over a network that has `forward_features(x, names)`.

    A family names its `settings` (the first is the default) and sets `input`, `levels` and `tiling`, for all
    or by `self.setting` once this is initialised.

    Args:
        network: with its weights loaded.
        weights_sha256: SHA-256 of the file they came from.
        weights_source: where they came from, for the user to read.
        setting: one of `settings`.
        device: where to run.

    Raises:
        EncoderError: the setting is unknown.
    """

    name: str
    title: str
    settings: tuple[str, ...] = ("whole",)
    scan_token: str | None = None
    input: InputSpec
    levels: tuple[LevelSpec, ...]
    tiling: Tiling

    def __init__(
        self,
        network: nn.Module,
        weights_sha256: str,
        weights_source: str,
        setting: str | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.setting = self.validate_setting(setting)
        self.weights_sha256 = weights_sha256
        self.weights_source = weights_source
        self.network = network.eval().requires_grad_(False)
        self.to(torch.device(device))

    @classmethod
    def validate_setting(cls, setting: str | None) -> str:
        """The setting, or the default one for None.

        Raises:
            EncoderError: it is unknown.
        """
        if setting is None:
            return cls.settings[0]
        if setting not in cls.settings:
            known = f"settings {', '.join(cls.settings)}" if len(cls.settings) > 1 else f"setting {cls.settings[0]} only"
            raise EncoderError(f"{cls.title} has the {known}; asked for '{setting}'.")
        return setting

    def forward_features(self, x: torch.Tensor, names: tuple[str, ...]) -> list[torch.Tensor]:
        """See `Encoder.forward_features`; layers beyond the deepest one asked for are not run.

        Raises:
            EncoderError: a name is unknown, or the network cannot run on this size.
        """
        known = [level.name for level in self.levels] + ([self.scan_token] if self.scan_token else [])
        unknown = [name for name in names if name not in known]
        if unknown:
            raise EncoderError(f"{self.title} has the levels {', '.join(known)}; asked for {', '.join(unknown)}.")
        if not names:
            return []
        with torch.inference_mode():
            return self.network.forward_features(x, names)  # type: ignore[operator]

    @abstractmethod
    def memory_bytes(self, window: Axes, names: tuple[str, ...]) -> int:
        """See `Encoder.memory_bytes`."""

    def to(self, device: torch.device) -> None:
        """Move the network."""
        self.device = torch.device(device)
        self.network.to(self.device)


def loader(
    encoder: type[FrozenEncoder],
    find: Callable[[str | Path | None, Consent], FoundWeights],
    read: Callable[[Path], nn.Module],
    sha256: Callable[[Path], str] = sha256_of,
) -> Callable[..., Encoder]:
    """The function `load(weights, device, consent, *, setting)` that `register_encoder` wants.

    Args:
        encoder: the class to make.
        find: gives the weights file for what the user passed as `weights` and `consent`.
        read: builds the network that a weights file calls for, with its weights.
        sha256: gives the digest of the file, where it is known without reading it again.
    """

    def load(
        weights: str | Path | None = None,
        device: torch.device | str = "cpu",
        consent: Consent = None,
        *,
        setting: str | None = None,
    ) -> Encoder:
        encoder.validate_setting(setting)
        found = find(weights, consent)
        return encoder(read(found.path), sha256(found.path), found.origin, setting, device)

    return load
