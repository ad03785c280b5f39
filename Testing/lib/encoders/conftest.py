"""An empty hub cache, an environment that names nothing, a hub on this machine; small networks of each family."""

from __future__ import annotations

import filling
import pytest
from huggingface_hub import constants

from CoralBayLib.encoders.ct_fm import CTFMEncoder, CTFMNetwork
from CoralBayLib.encoders.fm_ct import FMCTEncoder, FMCTNetwork
from CoralBayLib.encoders.voxelfm import VoxelFMEncoder, VoxelFMNetwork
from CoralBayLib.encoders.weights import download

from .local_hub import LocalHub

_NAMES = ("HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_TOKEN", "HF_TOKEN_PATH", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


def new_session():
    """Have the hub's client read the environment again."""
    import huggingface_hub.utils as utils

    for name in ("close_session", "reset_sessions"):
        if hasattr(utils, name):
            getattr(utils, name)()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The hub's cache, and nothing of this machine's settings."""
    for name in ("CORALBAY_WEIGHTS", "CTFM_WEIGHTS", "VOXELFM_WEIGHTS", "FMCT_WEIGHTS", *_NAMES):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True, raising=False)
    new_session()
    yield folder
    new_session()


@pytest.fixture
def hub(monkeypatch):
    """A hub that serves CONTENT, and a client that does not wait between tries."""
    server = LocalHub()
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setattr(download, "_PAUSE_S", 0.0)
    yield server
    server.close()


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
