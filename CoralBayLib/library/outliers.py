"""Scans and segments of a library that are unlike the rest, ranked, with the reasons.

A number is compared with that of the others, in robust standard deviations (Iglewicz and Hoaglin 1993, see
`imaging.patients.measures`). Numbers of a scan: its distance to the nearest other scans in the space of features, the extent of
the scan and of its voxels, and, where its file can be read, its HU. Numbers of a segment: its volume, its mean HU, and the
distance of its features from those of the same structure in the other scans.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.core.errors import LibraryError, Remedy, VolumeError
from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, report
from CoralBayLib.imaging.grid import Volume
from CoralBayLib.imaging.patients import LabeledPatient, find_patients, read_labels
from CoralBayLib.imaging.patients.measures import FEWEST_OTHERS, FLOORS, VOLUME_FLOOR, WORDS, measure, robust
from CoralBayLib.imaging.volume_io import read_volume

from .locations import real_path
from .records import ScanRecord
from .storage.lance import VECTOR
from .tables import Tables

LEAST_DEVIATIONS = 4.0
"""From so many robust standard deviations on, a number is a reason."""
_NEIGHBORS = 5
_DISTANCE_FLOOR = 0.02
"""Least robust standard deviation of a cosine distance that is assumed."""
_SPACING_FLOOR = float(np.log(1.25))
_AT_ONCE = 2000
"""Scans whose distances to all others are computed at a time."""


@dataclass(frozen=True)
class Outlier:
    """A scan, or a segment of one, that is unlike the rest.

    Attributes:
        scan: its ID.
        path: of its file; empty for a volume from memory.
        segment: the structure; empty for the scan as a whole.
        score: the largest of its deviations, in robust standard deviations.
        reasons: a sentence for each number that is unlike the others, the largest deviation first.
    """

    scan: str
    path: str
    segment: str
    score: float
    reasons: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """In values that JSON can represent."""
        return asdict(self)


@dataclass(frozen=True)
class _Number:
    """A number of a scan or segment, compared with the same number of others."""

    value: float
    words: str
    floor: float
    is_log: bool = False
    too_large_only: bool = False


_Numbers = dict[str, dict[str, _Number]]
"""By scan, then by the name of the number."""


def find_outliers(
    tables: Tables,
    labels: str | os.PathLike | None = None,
    least: float = LEAST_DEVIATIONS,
    read_files: bool = True,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> list[Outlier]:
    """The scans and segments that are unlike the rest, most unlike first.

    Args:
        tables: of an encoder.
        labels: a folder of labeled patients (see `imaging.patients.folders`), whose scans are in the library; None for
            scans alone.
        least: deviations from which a number is a reason.
        read_files: read the scans that are on this computer, for their HU.
        progress: called with the fraction done and a message.
        cancel: checked between scans.

    Raises:
        LibraryError: there are too few scans to compare, or none of the labeled patients is in the library.
        VolumeError: the folder of labels cannot be used.
        Cancelled: `cancel` was called.
    """
    records = sorted(tables.records(), key=lambda each: (each.path, each.scan))
    if len(records) <= FEWEST_OTHERS:
        raise LibraryError(
            f"Scans in the library with this encoder: {len(records)}. Scans can be compared from {FEWEST_OTHERS + 1} on.",
            remedy=Remedy.ADD_SCANS,
        )
    by_scan = {record.scan: record for record in records}
    segments = _Segments(tables, _labeled(records, labels), cancel) if labels is not None else None
    measured = _read(records, read_files, segments, progress, cancel)
    numbers = _numbers_of_scans(records, _distances(tables, records), measured)
    found = list(_compared(numbers, by_scan, "", least))
    for name, of_scans in sorted(segments.numbers().items()) if segments is not None else ():
        found += _compared(of_scans, by_scan, name, least)
    report(progress, 1.0, "Compared")
    return sorted(found, key=lambda each: (-each.score, each.path, each.segment))


def _numbers_of_scans(
    records: list[ScanRecord], distances: Mapping[str, float], measured: Mapping[str, Mapping[str, float]]
) -> _Numbers:
    numbers: _Numbers = {}
    for record in records:
        matrix = np.abs(np.reshape(record.ijk_to_ras, (4, 4))[:3, :3])
        extents = dict(zip(list(WORDS)[-3:], matrix @ np.array(record.size_ijk, float), strict=True))
        own = {**extents, **measured.get(record.scan, {})}
        found = {
            key: _Number(float(own[key]), f"{words} {{value:.0f}} {unit} (others: about {{middle:.0f}} {unit})", FLOORS[unit])
            for key, (words, unit) in WORDS.items()
            if key in own
        }
        for key, function, words in (("coarsest", max, "longest"), ("finest", min, "shortest")):
            text = f"the {words} side of its voxels is {{value:.2f}} mm (others: about {{middle:.2f}} mm)"
            found[key] = _Number(float(function(record.spacing_mm)), text, _SPACING_FLOOR, is_log=True)
        if record.scan in distances:
            text = "its features are far from those of the nearest scans: distance {value:.3f} (others: about {middle:.3f})"
            found["features"] = _Number(distances[record.scan], text, _DISTANCE_FLOOR, too_large_only=True)
        numbers[record.scan] = found
    return numbers


def _distances(tables: Tables, records: list[ScanRecord]) -> dict[str, float]:
    """The mean cosine distance of each scan to the nearest others."""
    rows = tables.scans.read(["scan", VECTOR])
    known = {record.scan for record in records}
    scans = rows["scan"].to_pylist()
    vectors = np.array(rows[VECTOR].to_pylist(), np.float32)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    count = min(_NEIGHBORS, len(scans) - 1)
    found: dict[str, float] = {}
    for start in range(0, len(scans), _AT_ONCE):
        distances = 1 - vectors[start : start + _AT_ONCE] @ vectors.T
        distances[np.arange(len(distances)), start + np.arange(len(distances))] = np.inf
        nearest = np.partition(distances, count - 1, axis=1)[:, :count].mean(axis=1)
        found.update(zip(scans[start : start + _AT_ONCE], nearest.tolist(), strict=True))
    return {scan: value for scan, value in found.items() if scan in known}


def _labeled(records: list[ScanRecord], labels: str | os.PathLike) -> dict[str, LabeledPatient]:
    """The labeled patients whose scans are in the library, by the scan.

    Raises:
        LibraryError: there is none.
        VolumeError: the folder cannot be used.
    """
    by_path = {real_path(record.path): record.scan for record in records if record.path}
    patients = find_patients(labels).patients
    found = {by_path[path]: each for each in patients if (path := real_path(each.scan)) in by_path}
    if not found:
        raise LibraryError(
            f"No labeled patient of {Path(labels).name} is in the library, or the library has their scans from other files.",
            remedy=Remedy.ADD_SCANS,
        )
    return found


def _read(
    records: list[ScanRecord],
    all_files: bool,
    segments: _Segments | None,
    progress: Progress | None,
    cancel: CancelToken | None,
) -> dict[str, dict[str, float]]:
    """Read each scan that is on this computer once; gives the numbers of scans, and adds those of segments.

    Args:
        records: of all scans.
        all_files: read the scans without labels, too, and measure all.
        segments: what the segments of labeled scans are added to.
        progress: called with the fraction done and a message.
        cancel: checked between scans.

    Raises:
        VolumeError: a labeled scan cannot be read.
    """
    labeled = set() if segments is None else segments.scans
    chosen = [record for record in records if record.scan in labeled or (all_files and record.exists)]
    found = {}
    for n, record in enumerate(chosen):
        raise_if_cancelled(cancel)
        report(progress, n / len(chosen), "Reading scans")
        try:
            volume = read_volume(record.path, record.series_uid)
        except VolumeError:
            if record.scan in labeled:
                raise
            continue  # `library verify` and `check` say what is wrong with it
        if all_files:
            found[record.scan] = measure(volume)
        if segments is not None and record.scan in labeled:
            segments.add(record.scan, volume)
    return found


class _Segments:
    """The numbers of the segments of labeled scans.

    Args:
        tables: of an encoder.
        patients: those labeled, by scan.
        cancel: checked between parts of the library.
    """

    def __init__(self, tables: Tables, patients: Mapping[str, LabeledPatient], cancel: CancelToken | None) -> None:
        self._patients = patients
        self._regions = _regions(tables, self.scans, cancel)
        self._numbers: dict[str, _Numbers] = {}
        self._vectors: dict[str, dict[str, NDArray]] = {}

    @property
    def scans(self) -> set[str]:
        """Those with labels."""
        return set(self._patients)

    def add(self, scan: str, volume: Volume) -> None:
        """Measure the segments of a scan.

        Raises:
            VolumeError: its labels cannot be read.
        """
        labeled = read_labels(self._patients[scan], volume.grid)
        nowhere = (np.empty((0, 3)), np.empty((0, 1)))
        for label, name in labeled.names.items():
            mask = labeled.labelmap.array == label
            if not mask.any():
                continue
            self._numbers.setdefault(name, {})[scan] = _numbers_of_segment(mask, volume)
            vector = _mean_vector(label, labeled.labelmap, *self._regions.get(scan, nowhere))
            if vector is not None:
                self._vectors.setdefault(name, {})[scan] = vector

    def numbers(self) -> dict[str, _Numbers]:
        """The numbers of each structure, by its name and by scan."""
        for name, own in self._vectors.items():
            total = np.sum(list(own.values()), axis=0)
            for scan, vector in own.items():
                others = total - vector
                distance = 1 - float(vector @ others / max(float(np.linalg.norm(others)), 1e-12))
                text = "its features are far from those in other scans: distance {value:.2f} (others: about {middle:.2f})"
                self._numbers[name][scan]["features"] = _Number(distance, text, _DISTANCE_FLOOR, too_large_only=True)
        return self._numbers


def _numbers_of_segment(mask: NDArray[np.bool_], volume: Volume) -> dict[str, _Number]:
    volume_ml, mean = mask.sum() * volume.grid.voxel_volume_mm3 / 1000, float(volume.array[mask].mean())
    return {
        "volume": _Number(volume_ml, "its volume is {value:.3g} ml (others: about {middle:.3g} ml)", float(VOLUME_FLOOR), True),
        "hu": _Number(mean, "its mean is {value:.0f} HU (others: about {middle:.0f} HU)", FLOORS["HU"]),
    }


def _regions(tables: Tables, scans: set[str], cancel: CancelToken | None) -> dict[str, tuple[NDArray, NDArray]]:
    """Positions and vectors of the regions of some scans."""
    found: dict[str, list[tuple[NDArray, NDArray]]] = {}
    for ids, points, vectors in tables.batches(cancel):
        names = np.array(ids)
        for scan in scans.intersection(ids):
            own = names == scan
            found.setdefault(scan, []).append((points[own], vectors[own].astype(np.float32)))
    return {scan: tuple(map(np.concatenate, zip(*parts, strict=True))) for scan, parts in found.items()}  # type: ignore[misc]


def _mean_vector(label: int, labelmap: Volume, points: NDArray, vectors: NDArray) -> NDArray[np.float32] | None:
    """The mean direction of the regions in a segment; None when none lies in it."""
    inside = labelmap.nearest_values(points) == label if len(points) else np.zeros(0, bool)
    mean = vectors[inside].mean(axis=0) if inside.any() else np.zeros(1, np.float32)
    length = float(np.linalg.norm(mean))
    return mean / length if length > 1e-6 else None


def _compared(numbers: _Numbers, records: Mapping[str, ScanRecord], segment: str, least: float) -> Iterator[Outlier]:
    """The scans of which a number is unlike that of the others."""
    for scan, own in numbers.items():
        reasons = []
        for key, number in own.items():
            others = np.array([each[key].value for other, each in numbers.items() if other != scan and key in each])
            if len(others) < FEWEST_OTHERS:
                continue
            value = np.log(max(number.value, 1e-9)) if number.is_log else number.value
            middle, deviation = robust(np.log(np.maximum(others, 1e-9)) if number.is_log else others, number.floor)
            score = float(value - middle) / deviation
            if (score if number.too_large_only else abs(score)) >= least:
                words = number.words.format(value=number.value, middle=np.exp(middle) if number.is_log else middle)
                reasons.append((abs(score), words[0].upper() + words[1:]))
        if reasons:
            reasons.sort(key=lambda each: -each[0])
            record = records[scan]
            yield Outlier(scan, record.path, segment, round(reasons[0][0], 1), tuple(words for _, words in reasons))
