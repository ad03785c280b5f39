"""Patients of one kind: a ball of tissue with a bright and a dark structure, which lie a little elsewhere in each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import CoralBayLib as cb
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.imaging.grid import Volume

BRIGHT = np.array([28.0, -30.0, 45.0])
DARK = np.array([-6.0, -30.0, 45.0])
SIGMA = 8.0
NAMES = {1: "bright", 2: "dark"}


@dataclass(frozen=True, eq=False)
class Patient:
    """A scan, its features, and where its structures are on its own grid."""

    volume: Volume
    pyramid: FeaturePyramid
    labelmap: Volume


@pytest.fixture(scope="module")
def patient():
    """Makes patients; the same ones are not made twice."""
    from Testing.lib.conftest import PoolingEncoder, phantom, phantom_grid

    known = {}

    def make(moved=(0.0, 0.0, 0.0), kind="axial", seed=0, dark=True):
        key = (tuple(moved), kind, seed, dark)
        if key not in known:
            centers = {1: BRIGHT + moved} | ({2: DARK + moved} if dark else {})
            heights = {1: 400.0, 2: -300.0}
            grid = phantom_grid(kind)
            volume = phantom(grid, [(center, SIGMA, heights[n]) for n, center in centers.items()], seed=seed)
            labels = np.zeros(grid.shape, np.uint8)
            for n, center in centers.items():
                away = np.linalg.norm(grid.centers() - center, axis=1).reshape(grid.shape)
                labels[away < SIGMA] = n
            known[key] = Patient(volume, cb.embed(volume, PoolingEncoder()), Volume(labels, grid))
        return known[key]

    return make


@pytest.fixture(scope="module")
def patients(patient):
    """Three patients that differ by where their structures are."""
    return [patient((-4.0, 2.0, 0.0), seed=1), patient((3.0, 0.0, -4.0), seed=2), patient((0.0, -3.0, 3.0), seed=3)]


@pytest.fixture(scope="module")
def probe(patients):
    """Learned from all three."""
    return cb.Probe().fit([(each.pyramid, each.labelmap, NAMES) for each in patients])
