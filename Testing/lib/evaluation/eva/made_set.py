"""A made data set in the form of BTCV, small enough to run eva to its end on one processor; see docs/eva.md.

`python -m Testing.lib.evaluation.eva.made_set FOLDER` writes it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import CoralBayLib as cb

SCANS, LABELS = 30, 13
"""eva trains on the first 24 scans of BTCV and validates on the other 6."""
_SIDE, _SPACING_MM = 48, 1.5


def write(folder: Path, scans: int = SCANS) -> None:
    """Write `imagesTr` and `labelsTr`: a ball of 40 HU in air with 13 small balls on a ring, each with its own HU and label."""
    random = np.random.default_rng(0)
    grid = cb.Grid((_SIDE,) * 3, np.diag([-_SPACING_MM, -_SPACING_MM, _SPACING_MM, 1]))
    points = np.stack(np.meshgrid(*[np.arange(_SIDE)] * 3, indexing="ij"), -1)
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(1, scans + 1):
        image, labels = np.full(points.shape[:3], -900.0), np.zeros(points.shape[:3], np.uint8)
        image[((points - _SIDE / 2) ** 2).sum(-1) < (_SIDE * 0.48) ** 2] = 40
        for label in range(1, LABELS + 1):
            angle = 2 * np.pi * label / LABELS
            center = _SIDE / 2 + np.array([13 * np.cos(angle), 13 * np.sin(angle), (label % 3 - 1) * 8])
            inside = ((points - center - random.normal(0, 1, 3)) ** 2).sum(-1) < 3.2**2
            labels[inside], image[inside] = label, -100 + 25 * label
        image += random.normal(0, 15, image.shape)
        # A volume has its axes in the order K, J, I.
        cb.write_volume(cb.Volume(image.astype(np.int16).T, grid), folder / "imagesTr" / f"img{number:04d}.nii.gz")
        cb.write_volume(cb.Volume(labels.T, grid), folder / "labelsTr" / f"label{number:04d}.nii.gz")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
