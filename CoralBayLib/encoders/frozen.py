"""Base class of encoders: a frozen network with the origin of its weights; and the function that loads it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from CoralBayLib.core.errors import EncoderError

from .base import Axes, Encoder, InputSpec, LevelSpec, Tiling
from .weights import Consent, FoundWeights, sha256_of
from .weights.sources import unchanged


class FrozenEncoder(ABC):
    """An `Encoder` over a network that has `forward_features(x, names)`.

    A subclass defines `settings`, the inference modes of the encoder's card (the first is the default), and `input`,
    `levels` and `tiling`. Those that depend on the mode are set in `__init__` from `self.setting`.

    Args:
        network: the network with its weights.
        weights_sha256: SHA-256 of the weights file.
        weights_source: text that says where the weights came from.
        setting: inference mode, one of `settings`.
        device: the device to run on.

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
        """Return the setting, or the default for None.

        Raises:
            EncoderError: the setting is unknown.
        """
        if setting is None:
            return cls.settings[0]
        if setting not in cls.settings:
            known = f"settings {', '.join(cls.settings)}" if len(cls.settings) > 1 else f"setting {cls.settings[0]} only"
            raise EncoderError(f"{cls.title} has the {known}; asked for '{setting}'.")
        return setting

    def forward_features(self, x: torch.Tensor, names: tuple[str, ...]) -> list[torch.Tensor]:
        """See `Encoder.forward_features`; layers beyond the deepest requested level are not run.

        Raises:
            EncoderError: a level is unknown, or the size of the input cannot be used.
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
        """Move the network to a device."""
        self.device = torch.device(device)
        self.network.to(self.device)


def loader(
    encoder: type[FrozenEncoder],
    find: Callable[[str | Path | None, Consent], FoundWeights],
    read: Callable[[Path], nn.Module],
    sha256: Callable[[Path], str] = sha256_of,
) -> Callable[..., Encoder]:
    """Make the function `load(weights, device, consent, *, setting)` that `register_encoder` describes.

    Args:
        encoder: the class of the encoder.
        find: returns the weights file for the arguments `weights` and `consent` of `load`.
        read: builds the network of a weights file, with its weights.
        sha256: returns the SHA-256 of the file; replaced when it is known without reading the file.
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
        # The SHA-256 becomes part of the key of stored features, so it must be that of the weights in the network.
        with unchanged(found.path):
            network, digest = read(found.path), sha256(found.path)
        return encoder(network, digest, found.origin, setting, device)

    return load
