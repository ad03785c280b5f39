"""An empty hub cache, an environment that names nothing, and a hub on this machine."""

from __future__ import annotations

import pytest
from huggingface_hub import constants

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
    for name in ("CORALBAY_WEIGHTS", *_NAMES):
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
