"""Copies of one scan that stand for other patients in pictures: each is stretched in another way.

In every second the lower part of a lung is filled, as by a consolidation.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import SimpleITK as sitk

STRETCH = 0.1
"""At most, along each axis, as a part of the size."""
LOBE = 14
"""The labelmap's label of the lobe whose lower half is filled (right lower lobe)."""
FILLED_HU = 35, 20
"""Mean and standard deviation where it is filled."""


def make(ct: Path, labelmap: Path, folder: Path, count: int) -> Path:
    """Write the copies and their labelmaps into `folder`; returns a CSV with the columns scan, patient and consolidation.

    Labelmaps lie in the subfolder "labels", with the names of the scans.
    """
    (folder / "scans").mkdir(parents=True, exist_ok=True)
    (folder / "labels").mkdir(exist_ok=True)
    rng, rows = np.random.default_rng(0), []
    scan, labels = sitk.ReadImage(str(ct)), sitk.ReadImage(str(labelmap))
    # Slices from inferior to superior, as in all NIfTI files of the sample.
    lobe = sitk.GetArrayFromImage(sitk.Resample(labels, scan, sitk.Transform(), sitk.sitkNearestNeighbor)) == LOBE
    slices = np.flatnonzero(lobe.any(axis=(1, 2)))
    lobe[slices[len(slices) // 2] :] = False
    for number in range(1, count + 1):
        factors, filled = rng.uniform(1 - STRETCH, 1 + STRETCH, 3), number % 2 == 0
        values = sitk.GetArrayFromImage(scan)
        if filled:
            values[lobe] = rng.normal(*FILLED_HU, np.count_nonzero(lobe))
        name = f"patient-{number:02}.nrrd"
        for image, source, where in ((sitk.GetImageFromArray(values), scan, "scans"), (labels[:], labels, "labels")):
            image.CopyInformation(source)
            image.SetSpacing([a * b for a, b in zip(source.GetSpacing(), factors, strict=True)])
            sitk.WriteImage(image, str(folder / where / name))
        rows.append((f"scans/{name}", f"P{number:02}", "yes" if filled else "no"))
    table = folder / "study.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("scan", "patient", "consolidation"), *rows])
    return table
