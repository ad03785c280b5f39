"""Tasks on whole scans, with labels that are known or follow from contours: tables as `coralbay scans fit` reads them.

Of the head-and-neck scans of OpenKBP (`pt_*`) with contours come: slabs of 80 mm at random heights, with the organs in view
(at least half of the organ; organs that were not drawn for the patient are left empty); cubes of 96 mm around a parotid
gland, with its side; the volume of both parotid glands; and a made-up survival, whose risk grows with that volume and which
serves to test the machinery only. The region of the body and the use of contrast are known for the other scans.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import CoralBayLib as cb
from CoralBayLib.imaging.grid import Volume

ORGANS = ("Brainstem", "SpinalCord", "RightParotid", "LeftParotid", "Esophagus", "Larynx", "Mandible")
ASKED = ("Brainstem", "LeftParotid", "Larynx")
"""Organs that are asked for in slabs."""
SLAB_MM, CUBE_MM = 80.0, 96.0
SLABS, CUBES = 40, 20
"""Patients of whom a slab, and of whom cubes are cut out; to embed these parts takes most of the time."""
REGIONS = {
    "chest": "acrinflt013 lidc0314 nsclc_r01001 lung4d_113 lungfcp0001 cmbcrc01068 riderpilot0117 slicerio_ctchest4",
    "abdomen": "crlm1004 crlm1006 cptacpda00189 acrinflt001b kits00072_slab",
    "limb or pelvis": "sts001 sts002 STS_006 STS_012 STS_018 STS_023 STS_026 STS_031 STS_034",
    "head and neck": "moose_neck_slab",
}
"""Regions of scans that have no contours, by the names of their folders."""
CONTRAST = {
    "with": "crlm1004 crlm1006 cptacpda00189 kits00072_slab nsclc_r01001 cmbcrc01068 riderpilot0117 slicerio_ctchest4",
    "without": "lung4d_113 acrinflt001b acrinflt013",
}
"""Scans of which it is known whether contrast agent was given."""


@dataclass(frozen=True)
class Task:
    """A task on whole scans.

    Attributes:
        name: of its table.
        kind: as `--task` of `coralbay scans fit`.
        targets: columns to predict.
        about: what is asked, for the results.
    """

    name: str
    kind: str
    targets: tuple[str, ...]
    about: str


TASKS = (
    Task("region", "classification", ("region",), "region of the body, 4 classes, whole scans"),
    Task("contrast", "classification", ("contrast",), "contrast agent or not, whole scans of trunk"),
    Task("organs", "classification", ASKED, "organs in view, multi-label, slabs of 80 mm"),
    Task("side", "classification", ("side",), "side of the parotid gland in a cube of 96 mm"),
    Task("volume", "regression", ("milliliters",), "volume of both parotid glands in ml, whole scans"),
    Task("survival", "survival", ("event",), "made-up survival, from the volume of the parotid glands"),
)


def prepare(data: Path, folder: Path) -> dict[str, Path]:
    """Write the parts of scans and the tables of all tasks; what is there already is kept.

    Args:
        data: folder with the scans, each with ct.nii.gz; those of OpenKBP in the folder `openkbp`.
        folder: to write to.

    Returns:
        The table of each task.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tables = {task.name: folder / f"{task.name}.csv" for task in TASKS}
    if all(path.exists() for path in tables.values()):
        return tables
    rows: dict[str, list[dict[str, object]]] = {task.name: [] for task in TASKS}
    for region, names in REGIONS.items():
        rows["region"] += [_row(data / name / "ct.nii.gz", name, region=region) for name in names.split()]
    for contrast, names in CONTRAST.items():
        rows["contrast"] += [_row(data / name / "ct.nii.gz", name, contrast=contrast) for name in names.split()]
    random = np.random.default_rng(0)
    for patient in sorted((data / "openkbp").glob("pt_*")):
        _add_patient(rows, patient, folder, random)
    _add_survival(rows)
    for task in TASKS:
        _write(tables[task.name], rows[task.name])
    return tables


def _row(scan: Path, patient: str, **cells: object) -> dict[str, object]:
    return {"scan": str(scan.resolve()), "patient": patient, **cells}


def _add_patient(rows: dict[str, list[dict[str, object]]], patient: Path, folder: Path, random: np.random.Generator) -> None:
    """The rows of a patient with contours; parts of the scan are written."""
    scan, labels = cb.read_volume(patient / "ct.nii.gz"), cb.read_labelmap(patient / "labels.nii.gz")
    names = {name: int(label) for label, name in json.loads((patient / "labels.json").read_text(encoding="utf-8")).items()}
    rows["region"].append(_row(patient / "ct.nii.gz", patient.name, region="head and neck"))
    if len(rows["organs"]) < SLABS:
        _add_slab(rows["organs"], patient.name, scan, labels, names, folder, random)
    for side in ("Left", "Right"):
        if f"{side}Parotid" in names and len({row["patient"] for row in rows["side"]} | {patient.name}) <= CUBES:
            path = folder / f"{patient.name}-{side.lower()}.nrrd"
            cb.write_volume(_cut(scan, _cube(labels, names[f"{side}Parotid"])), path)
            rows["side"].append(_row(path, patient.name, side=side.lower()))
    if {"LeftParotid", "RightParotid"} <= names.keys():
        voxels = np.isin(labels.array, [names["LeftParotid"], names["RightParotid"]]).sum()
        volume = float(voxels) * labels.grid.voxel_volume_mm3 / 1000
        rows["volume"].append(_row(patient / "ct.nii.gz", patient.name, milliliters=round(volume, 2)))


def _add_slab(
    rows: list[dict[str, object]],
    patient: str,
    scan: Volume,
    labels: Volume,
    names: Mapping[str, int],
    folder: Path,
    random: np.random.Generator,
) -> None:
    """The row of a slab of a scan, which is written."""
    part, path = _slab(scan, random), folder / f"{patient}-slab.nrrd"
    cb.write_volume(_cut(scan, part), path)
    seen = {name: _share(labels, names[name], part) if name in names else None for name in ORGANS}
    rows.append(_row(path, patient, **{name: "" if share is None else int(share >= 0.5) for name, share in seen.items()}))


def _add_survival(rows: dict[str, list[dict[str, object]]]) -> None:
    """Exponential times whose hazard grows e-fold per deviation of the parotid glands' volume; a third is censored."""
    random = np.random.default_rng(1)
    volumes = np.array([float(str(row["milliliters"])) for row in rows["volume"]])
    hazard = np.exp((volumes - volumes.mean()) / volumes.std())
    for row, rate in zip(rows["volume"], hazard, strict=True):
        time, end = random.exponential(1 / rate), random.exponential(2.0)
        rows["survival"].append(
            {
                "scan": row["scan"],
                "patient": row["patient"],
                "event": int(time <= end),
                "time": round(min(time, end) + 0.001, 4),
            }
        )


def _slab(scan: Volume, random: np.random.Generator) -> tuple[slice, slice, slice]:
    """A slab across the axis closest to S, at a random height where the patient is."""
    axis = int(np.abs(scan.grid.ijk_to_ras[2, :3]).argmax())
    kji_axis = 2 - axis
    inside = np.flatnonzero((scan.array > -500).sum(axis=tuple({0, 1, 2} - {kji_axis})) > 200)
    thickness = round(SLAB_MM / float(scan.grid.spacing_mm[axis]))
    start = int(random.integers(inside[0], max(inside[-1] - thickness, inside[0]) + 1))
    part = [slice(None)] * 3
    part[kji_axis] = slice(start, min(start + thickness, scan.array.shape[kji_axis]))
    return part[0], part[1], part[2]


def _cube(labels: Volume, label: int) -> tuple[slice, slice, slice]:
    """A cube around the middle of a structure."""
    center = np.argwhere(labels.array == label).mean(axis=0)
    half = CUBE_MM / 2 / labels.grid.spacing_mm[::-1]
    low = np.maximum(np.round(center - half).astype(int), 0)
    high = np.minimum(np.round(center + half).astype(int), labels.array.shape)
    return slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])


def _share(labels: Volume, label: int, part: tuple[slice, slice, slice]) -> float:
    """The share of a structure that lies in a part of the scan."""
    found = labels.array == label
    return float(found[part].sum() / max(found.sum(), 1))


def _cut(scan: Volume, part: tuple[slice, slice, slice]) -> Volume:
    """A part of a scan, at its place."""
    array = np.ascontiguousarray(scan.array[part])
    start = [each.start or 0 for each in part][::-1]
    return Volume(array, scan.grid.subgrid(start, 1, array.shape))


def _write(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    rows = list(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
