"""A folder of phantoms that differ in where their bright and dark spots are."""

from __future__ import annotations

import numpy as np
import pytest

import CoralBayLib as cb
from Testing.lib.conftest import PoolingEncoder, phantom, phantom_grid

CENTRE = np.array([12.0, -30.0, 45.0])
BRIGHT = {"a": (16.0, 0, 0), "b": (-16.0, 4, 0), "c": (0, 16.0, 8)}
"""Where the bright spot of each phantom lies, from its centre, in mm."""


def spot(name: str) -> np.ndarray:
    """RAS mm of a phantom's bright spot."""
    return CENTRE + BRIGHT[name]


def make_scan(name: str, kind: str = "oblique") -> cb.Volume:
    """A ball of tissue with a bright spot, and a dark one at the other end."""
    blobs = [(spot(name), 7.0, 400.0), (CENTRE - BRIGHT[name], 7.0, -300.0)]
    number = list(BRIGHT).index(name)
    return phantom(phantom_grid(kind), blobs, radius_mm=40.0 - 3 * number, seed=number)


@pytest.fixture
def encoder() -> PoolingEncoder:
    return PoolingEncoder(strides=(4, 8), spacing_mm=(2.5, 2.5, 2.5))


@pytest.fixture
def scans(tmp_path):
    """Three CTs in a folder."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in BRIGHT:
        cb.write_volume(make_scan(name), folder / f"{name}.nrrd")
    return folder


@pytest.fixture
def library(tmp_path) -> cb.library.Library:
    from CoralBayLib.library import Library

    return Library(tmp_path / "library")


@pytest.fixture
def filled(library, scans, encoder):
    """A library of the three."""
    outcomes = library.add(scans, encoder)
    assert [outcome.state for outcome in outcomes] == ["added"] * 3
    return library
