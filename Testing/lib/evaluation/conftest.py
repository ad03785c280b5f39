"""A folder of patients: phantoms with a bright ball (right) and a dark ball (left), at other places in each patient."""

from __future__ import annotations

import json

import numpy as np
import pytest

import CoralBayLib as cb
from CoralBayLib.imaging.grid import Volume

NAMES = {1: "bright ball", 2: "dark ball"}


def ball(grid, center, radius_mm):
    k, j, i = np.indices(grid.shape)
    ras = grid.to_ras(np.stack([i, j, k], -1).reshape(-1, 3))
    return (np.linalg.norm(ras - center, axis=1) < radius_mm).reshape(grid.shape)


@pytest.fixture
def patients(tmp_path, make_grid, make_phantom):
    """Five patients p0 to p4; in p1 the dark ball was not looked for, and in p2 it is not there."""
    folder = tmp_path / "patients"
    for number in range(5):
        grid = make_grid("anisotropic", spacing=3.0)
        scan = make_phantom(grid, seed=number).array.copy()
        labels = np.zeros(grid.shape, np.uint8)
        for label, (center, hu) in enumerate((((30, -30 + 4 * number, 45), 300), ((-8, -30, 40 + 3 * number), -300)), start=1):
            inside = ball(grid, center, 9)
            if label == 2 and number == 2:
                continue
            scan[inside] = hu
            if not (label == 2 and number == 1):
                labels[inside] = label
        names = {1: "Bright ball"} if number == 1 else NAMES
        own = folder / f"p{number}"
        own.mkdir(parents=True)
        cb.write_volume(Volume(scan, grid), own / "ct.nii.gz")
        cb.write_volume(Volume(labels, grid), own / "labels.nii.gz")
        (own / "labels.json").write_text(json.dumps(names))
    return folder


class ThresholdMethod:
    """Stand-in: learns the mean HU of each structure, and labels voxels near the mean over the patients."""

    version = "threshold 1"

    def __init__(self):
        self.learned, self.combined, self.tested = [], [], []

    def learn(self, lesson, cancel=None):
        (pyramid, labelmap), names = lesson.load(), lesson.names
        self.learned.append((pyramid.key, dict(names)))
        hu = cb.resample(Volume(pyramid.image.array.astype(np.float32), pyramid.image.grid), labelmap.grid).array
        return {label: hu[labelmap.array == label].mean() for label in names if (labelmap.array == label).any()}

    def combine(self, parts, cancel=None):
        self.combined.append(len(parts))
        return parts

    def predict(self, parts, pyramid, grid, cancel=None):
        self.tested.append((len(parts), pyramid.key))
        hu = cb.resample(Volume(pyramid.image.array.astype(np.float32), pyramid.image.grid), grid).array
        out = np.zeros(grid.shape, np.uint8)
        for label in sorted(set().union(*parts)):
            mean = np.mean([part[label] for part in parts if label in part])
            out[np.abs(hu - mean) < 100] = label
        return Volume(out, grid)


@pytest.fixture
def method():
    return ThresholdMethod()
