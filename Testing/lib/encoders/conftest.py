"""Small networks of each family, filled from seeds, and what every family's tests do with them."""

from __future__ import annotations

import filling
import pytest

from CoralBayLib.encoders.ctfm import CTFMEncoder, CTFMNetwork
from CoralBayLib.encoders.fmct import FMCTEncoder, FMCTNetwork
from CoralBayLib.encoders.voxelfm import VoxelFMEncoder, VoxelFMNetwork

FAMILIES = {
    "ct-fm": (CTFMEncoder, lambda: CTFMNetwork(4, (1, 1, 1, 1, 1))),
    "voxelfm": (VoxelFMEncoder, lambda: VoxelFMNetwork(72, 2, 3, 2)),
    "fm-ct": (FMCTEncoder, lambda: FMCTNetwork(192, 2, 3, 256)),
}


def small_network(family: str, seed: int = 1):
    """A network of a family, in the published form but small, its weights drawn from a seed."""
    network = FAMILIES[family][1]().eval()
    filling.fill(network, seed)
    return network


@pytest.fixture
def make_network():
    return small_network


@pytest.fixture
def make_encoder():
    """`make_encoder(family, network=None, setting=None)`."""

    def make(family, network=None, setting=None):
        return FAMILIES[family][0](network or small_network(family), "0" * 64, "test", setting)

    return make
