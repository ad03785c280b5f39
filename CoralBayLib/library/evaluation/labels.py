"""Labels of the scans in a library, from a table or from a folder of labeled patients, matched by the scans' paths."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.core.errors import CoralBayError, LibraryError
from CoralBayLib.core.names import fold
from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, report
from CoralBayLib.imaging.patients import find_patients
from CoralBayLib.imaging.patients.labelmaps import LabeledScan, read_labels
from CoralBayLib.library.locations import real_path
from CoralBayLib.library.storage.lance import VECTOR
from CoralBayLib.library.tables import Tables
from CoralBayLib.scan_probes.tables.table import read_table

from .labeled_regions import LabeledRegions


@dataclass(frozen=True, eq=False)
class LabeledScans:
    """Scans of a library with a label each.

    Attributes:
        vectors: (N, D) of the scans.
        labels, patients: (N,) each.
        left_out: what cannot be used, with the reason.
    """

    vectors: NDArray[np.float32]
    labels: list[str]
    patients: list[str]
    left_out: list[str]


def labeled_scans(tables: Tables, path: Path, label: str, scan: str = "scan", patient: str | None = "patient") -> LabeledScans:
    """The scans of a library that a table names.

    Args:
        tables: of the encoder.
        path: of the table; see `read_table`.
        label: column of the label.
        scan: column of the scan's path.
        patient: column of the patient; None when every scan is of another patient.

    Raises:
        ScansError: the table cannot be used.
        LibraryError: none of its scans is in the library.
    """
    table = read_table(path, label, "classification", scan=scan, patient=patient)
    row_of_path = {real_path(each): row for row, each in enumerate(table.scans)}
    records = {each.scan: each for each in tables.records()}
    rows = tables.scans.read(["scan", VECTOR])
    vectors, labels, patients = [], [], []
    for scan_id, vector in zip(rows["scan"].to_pylist(), rows[VECTOR].to_pylist(), strict=True):
        row = row_of_path.pop(real_path(records[scan_id].path), None) if scan_id in records else None
        if row is not None:
            vectors.append(vector)
            labels.append(str(table.labels.values[row]))
            patients.append(str(table.labels.patients[row]))
    left_out = [*map(str, table.left_out), *(f"{each}: it is not in the library" for each in row_of_path)]
    if not vectors:
        raise LibraryError(f"None of the {len(table.scans)} scans in {path.name} is in the library. Add them first.")
    return LabeledScans(np.array(vectors, np.float32), labels, patients, left_out)


def labeled_regions(
    tables: Tables, folder: Path, progress: Progress | None = None, cancel: CancelToken | None = None
) -> tuple[list[LabeledRegions], list[str]]:
    """The regions of the labeled scans of a folder, with the structure at each.

    Args:
        tables: of the encoder.
        folder: of labeled patients, as `coralbay evaluate` reads it.
        progress: called with the fraction done and a message.
        cancel: checked between scans.

    Returns:
        The scans, and what cannot be used with the reason.

    Raises:
        VolumeError: the folder holds no labeled patients.
        LibraryError: none of its scans is in the library.
        Cancelled: `cancel` was called.
    """
    found = find_patients(folder)
    left_out = [f"{each.path}: {each.reason}" for each in found.left_out if each.is_fault]
    records = {real_path(each.path): each for each in tables.records()}
    labeled: dict[str, tuple[str, LabeledScan]] = {}
    for number, patient in enumerate(found.patients):
        raise_if_cancelled(cancel)
        report(progress, number / len(found.patients), f"Labels {number + 1} of {len(found.patients)}")
        record = records.get(real_path(patient.scan))
        if record is None:
            left_out.append(f"{patient.scan}: it is not in the library")
            continue
        try:
            labeled[record.scan] = (patient.name, read_labels(patient))
        except CoralBayError as error:
            left_out.append(f"{patient.name}: {error}")
    if not labeled:
        raise LibraryError(f"None of the {len(found.patients)} labeled scans in {folder} is in the library. Add them first.")
    return [
        _with_structures(*labeled[scan], points, vectors) for scan, points, vectors in _regions(tables, labeled, cancel)
    ], left_out


def _regions(
    tables: Tables, chosen: Iterable[str], cancel: CancelToken | None
) -> list[tuple[str, NDArray, NDArray[np.float32]]]:
    """The regions of some scans: ID, points and vectors."""
    parts: dict[str, list[tuple[NDArray, NDArray]]] = {scan: [] for scan in chosen}
    for scans, points, vectors in tables.batches(cancel):
        names = np.array(scans)
        for scan in set(scans) & parts.keys():
            parts[scan].append((points[names == scan], vectors[names == scan]))
    whole = []
    for scan, found in parts.items():
        if found:
            directions = np.concatenate([each[1] for each in found]).astype(np.float32)
            directions = directions / np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-12)
            whole.append((scan, np.concatenate([each[0] for each in found]).astype(float), directions))
    return whole


def _with_structures(patient: str, scan: LabeledScan, points: NDArray, vectors: NDArray[np.float32]) -> LabeledRegions:
    names = {0: "", **{label: fold(name) for label, name in scan.names.items()}}
    inside = scan.labelmap.grid.contains(points)
    labels = np.zeros(len(points), int)
    labels[inside] = scan.labelmap.nearest_values(points[inside])
    structures = np.array([names.get(int(label), "") for label in labels])
    return LabeledRegions(patient, points, vectors, structures, frozenset(names.values()) - {""})
