"""The encoders that are measured: with their weights where these are at hand, otherwise with random ones of the same form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

import CoralBayLib as cb
from CoralBayLib.core.errors import WeightsError
from CoralBayLib.encoders.astra import AstraEncoder, AstraNetwork
from CoralBayLib.encoders.base import Encoder
from CoralBayLib.encoders.colipri import ColipriEncoder, ColipriNetwork
from CoralBayLib.encoders.coralbay import CoralBayEncoder, CoralBayNetwork
from CoralBayLib.encoders.coralbay_mini import CoralBayMiniEncoder
from CoralBayLib.encoders.ct_fm import CTFMEncoder, CTFMNetwork
from CoralBayLib.encoders.fm_ct import FMCTEncoder, FMCTNetwork
from CoralBayLib.encoders.voxelfm import VoxelFMEncoder, VoxelFMNetwork

SEED = 0
SAME = {"voco": "coralbay"}
"""Encoders that are not measured, since they have the network of another one."""
RANDOM, PUBLISHED = "random", "published"

Made = Callable[[], Encoder]


@dataclass(frozen=True)
class Entry:
    """An encoder.

    Attributes:
        name: of its card.
        setting: inference mode.
        published: loads its weights; None where random ones are always taken.
        random: makes it with random weights.
    """

    name: str
    setting: str
    random: Made
    published: Made | None = None

    @property
    def title(self) -> str:
        """Its name and inference mode."""
        return f"{self.name}, {self.setting}"

    def make(self) -> tuple[Encoder, str]:
        """The encoder on the CPU, and which weights it has."""
        if self.published is not None:
            try:
                return self.published(), PUBLISHED
            except (WeightsError, ImportError):
                pass
        torch.manual_seed(SEED)
        return self.random(), RANDOM


def entries(is_small: bool = False) -> list[Entry]:
    """All encoders, the ones that matter most first; small ones of random weights to try the benchmark on a CPU."""

    def entry(name: str, kind: type, network: Callable[[], torch.nn.Module], setting: str) -> Entry:
        loaded = None if is_small else lambda: cb.load_encoder(name, device="cpu", setting=setting)
        return Entry(name, setting, lambda: kind(network(), "0" * 64, "random", setting), loaded)

    mini, large = (12, 12) if is_small else (24, 48)
    depths, width = ((1, 1, 1, 1), 8) if is_small else ((3, 8, 36, 3), 64)
    return [
        entry("coralbay-mini", CoralBayMiniEncoder, lambda: CoralBayNetwork(mini), "whole"),
        entry("coralbay", CoralBayEncoder, lambda: CoralBayNetwork(large), "faithful"),
        entry("coralbay", CoralBayEncoder, lambda: CoralBayNetwork(large), "whole"),
        entry("astra", AstraEncoder, lambda: AstraNetwork(depths, width).fold(), "whole"),
        entry("ct-fm", CTFMEncoder, lambda: (CTFMNetwork(8, (1, 1, 1, 1, 1)) if is_small else CTFMNetwork()).fold(), "1mm"),
        entry("voxelfm", VoxelFMEncoder, lambda: VoxelFMNetwork(72, 1, 12) if is_small else VoxelFMNetwork(), "1mm"),
        entry("fm-ct", FMCTEncoder, lambda: FMCTNetwork(64, 1, 1, 64) if is_small else FMCTNetwork(), "fit-96"),
        entry("colipri", ColipriEncoder, lambda: ColipriNetwork(144, 1, 64, 128, 64) if is_small else ColipriNetwork(), "ras"),
    ]
