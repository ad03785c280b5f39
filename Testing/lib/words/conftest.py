"""Small random weights of COLIPRI with a vocabulary, windows that fit phantoms, and three scans."""

from __future__ import annotations

import make_colipri_fixture as fixture
import pytest
import small_colipri

import CoralBayLib as cb
from CoralBayLib.encoders import colipri
from Testing.lib.library.conftest import scans  # noqa: F401 - a fixture


@pytest.fixture(autouse=True)
def small_windows(monkeypatch, tmp_path):
    monkeypatch.setattr(colipri, "SIDE", fixture.SIDE)
    monkeypatch.setenv("CORALBAY_CACHE", str(tmp_path / "cache"))
    for name in ("COLIPRI_WEIGHTS", "COLIPRI_VOCABULARY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def weights(tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    return small_colipri.write_checkpoint(folder)


@pytest.fixture
def encoder(weights):
    return cb.load_encoder("colipri", weights, "cpu")
