"""Scans to train on, and a training that is small enough for tests."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import CoralBayLib as cb
from CoralBayLib.encoders import builtin, registry
from CoralBayLib.imaging.grid import Grid

SMALL = ("--init", "random", "--feature-size", 12, "--global-size", 40, "--local-crops", 1, "--batch", 1)
SMALL += ("--prototypes", 64, "--hidden", 32, "--lr", 0.001, "--teacher-momentum", 0.9)
"""Options of a small training."""


@pytest.fixture
def scans(tmp_path, make_phantom):
    """A folder with two CTs, a file that is none, and one that is too small."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for n in range(2):
        blobs = [((20.0 - 30 * n, 10.0, 5.0), 15.0, 400.0), ((-20.0, -30.0, 20.0 * n), 10.0, -500.0)]
        cb.write_volume(make_phantom(cube(190.0, 5.0), blobs, radius_mm=85.0, seed=n), folder / f"ct{n}.nii.gz")
    cb.write_volume(make_phantom(cube(60.0, 3.0), radius_mm=25.0), folder / "small.nrrd")
    (folder / "damaged.nrrd").write_bytes(b"NRRD0004\ntype: short\n\n")
    return folder


def cube(extent_mm: float, spacing_mm: float) -> Grid:
    side = round(extent_mm / spacing_mm)
    matrix = np.diag([spacing_mm] * 3 + [1.0])
    matrix[:3, 3] = -spacing_mm * (side - 1) / 2
    return Grid((side,) * 3, matrix)


@pytest.fixture(autouse=True)
def _one_thread():
    """Sums of several threads may be rounded differently."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _no_encoder_is_left():
    """Encoders that a test registers are gone after it."""
    before = registry.entries()
    yield
    for name in registry.entries().keys() - before.keys() - {card.name for card in builtin.cards()}:
        registry.unregister(name)
