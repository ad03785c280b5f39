"""A learner without a network, and phantoms for it: what it knows after some scans is known by construction."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

import CoralBayLib as cb
from CoralBayLib.cohort import Suggested
from CoralBayLib.core.paths import atomic_write
from CoralBayLib.core.progress import raise_if_cancelled
from Testing.lib.conftest import phantom, phantom_grid

CENTRE = np.array([12.0, -30.0, 45.0])
STRUCTURES = ["bright spot", "dark spot"]
NAMES = [f"scan{n}" for n in range(8)]


class _Thresholds:
    def __init__(self, known):
        self.known = known

    def save(self, path):
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(self.known), encoding="utf-8")


class StandIn:
    """Remembers the HU at the border of each structure, over all scans; the nearer to it, the better its suggestions."""

    def __init__(self, weights="a" * 64):
        self.identity = {"encoder": "stand-in", "weights": weights, "tiling": "whole", "version": 1}
        self.learned, self.embedded = [], 0

    def embed(self, volume, progress=None, cancel=None):
        raise_if_cancelled(cancel)
        self.embedded += 1
        return volume

    def learn(self, probe, lessons, cancel=None):
        known = json.loads(probe.read_text()) if probe else {}
        for lesson in lessons:
            self.learned.append(sorted(lesson.names.values()))
            for label, name in lesson.names.items():
                inside = lesson.labelmap.array == label
                if inside.any():
                    values = lesson.pyramid.array[inside]
                    border = values.min() if values.mean() > 30 else values.max()
                    known.setdefault(name, []).append(float(border))
        return _Thresholds(known)

    def suggest(self, probe, pyramid, grid, names, progress=None, cancel=None):
        raise_if_cancelled(cancel)
        known = json.loads(probe.read_text())
        labels = np.zeros(pyramid.array.shape, np.uint8)
        body = pyramid.array > -600
        for label, name in names.items():
            if name in known:
                border = np.mean(known[name])
                labels[body & ((pyramid.array >= border) if border > 30 else (pyramid.array <= border))] = label
        return Suggested(cb.Volume(labels, grid), {label: 0.9 for label, name in names.items() if name in known})


def make_scan(number):
    """The scan of a number, and its true labels."""
    offset = 16 * np.array([np.cos(number), np.sin(number), 0.2])
    grid = phantom_grid("anisotropic" if number % 2 else "axial", extent_mm=80.0, spacing=2.5)
    volume = phantom(grid, [(CENTRE + offset, 6.0, 400.0), (CENTRE - offset, 6.0, -300.0)], radius_mm=36.0, seed=number)
    inside = volume.array > -600
    labels = np.where(inside & (volume.array > 150), 1, np.where(inside & (volume.array < -80), 2, 0)).astype(np.uint8)
    # The border of the ball is as dark as the dark spot.
    k, j, i = np.indices(grid.shape)
    ras = grid.to_ras(np.stack([i, j, k], -1).reshape(-1, 3))
    near = (np.linalg.norm(ras - (CENTRE - offset), axis=1) < 14).reshape(grid.shape)
    labels[(labels == 2) & ~near] = 0
    return volume, cb.Volume(labels, grid)


def write_scans(folder, count=8):
    """Phantoms `scan0.nrrd` and so on."""
    folder.mkdir()
    for number in range(count):
        cb.write_volume(make_scan(number)[0], folder / f"scan{number}.nrrd")
    return folder


def annotate(folder: Path) -> None:
    """Go through a cohort as a person would, and print each step; a test kills it."""
    cohort = cb.Cohort.open(folder, learner=StandIn())
    while (scan := cohort.next()) is not None:
        print(f"opened {scan.name}", flush=True)
        labels = make_scan(int(scan.name.removeprefix("scan")))[1]
        cohort.accept(scan.name, labels, cb.Prompts([CENTRE], [1], {1: "bright spot"}), by="AB")
        print(f"accepted {scan.name}", flush=True)
        following = cohort.next()
        if following is not None:
            cohort.suggest(following.name)
            print(f"suggested {following.name}", flush=True)


if __name__ == "__main__":
    annotate(Path(sys.argv[1]))
