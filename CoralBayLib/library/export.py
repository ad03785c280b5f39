"""The list of scans, and the clusters of regions, as CSV or JSON."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from CoralBayLib.core.errors import LibraryError
from CoralBayLib.core.formatting import safe_cell, safe_row
from CoralBayLib.core.paths import atomic_write
from CoralBayLib.core.progress import CancelToken

from .clusters import Clustering, assign
from .records import ScanRecord
from .tables import Tables


def export(records: Sequence[ScanRecord], path: str | os.PathLike) -> None:
    """Write the records of scans as CSV or JSON, by the suffix.

    Raises:
        LibraryError: another suffix.
        StoreError: the file could not be written; an existing file is unchanged.
    """
    path = Path(path)
    suffix = _suffix(path)
    rows = [{**record.to_row(), "there": record.exists} for record in records]
    with atomic_write(path) as temporary:
        if suffix == ".json":
            temporary.write_text(json.dumps({"scans": rows}, indent=1, ensure_ascii=False), encoding="utf-8")
            return
        with temporary.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, [*ScanRecord.columns(), "there"])
            table.writeheader()
            for row in rows:
                table.writerow({name: _cell(value) for name, value in row.items()})


def export_clusters(tables: Tables, clustering: Clustering, path: str | os.PathLike, cancel: CancelToken | None = None) -> None:
    """Write the cluster of every region: CSV with a row per region, or JSON by scan, which also describes the clusters.

    Raises:
        LibraryError: another suffix, or the tables cannot be read.
        StoreError: the file could not be written; an existing file is unchanged.
        Cancelled: `cancel` was called.
    """
    path = Path(path)
    suffix = _suffix(path)
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        if suffix == ".csv":
            table = csv.writer(file)
            table.writerow(["scan", "R", "A", "S", "cluster"])
            for scans, ras, numbers in assign(tables, clustering, cancel):
                points = np.round(ras.astype(float), 2).tolist()
                rows = zip(scans, points, numbers.tolist(), strict=True)
                table.writerows(safe_row([scan, *point, n]) for scan, point, n in rows)
            return
        regions: dict[str, list[list[float]]] = {}
        for scans, ras, numbers in assign(tables, clustering, cancel):
            for scan, point, n in zip(scans, np.round(ras.astype(float), 2).tolist(), numbers.tolist(), strict=True):
                regions.setdefault(scan, []).append([*point, n])
        clusters = [asdict(each) for each in clustering.clusters]
        json.dump({"encoder": clustering.encoder, "clusters": clusters, "regions": regions}, file, ensure_ascii=False)


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".json"):
        raise LibraryError(f"Cannot tell the format of {path.name}: use .csv or .json.")
    return suffix


def _cell(value: object) -> object:
    """Tuples as numbers separated by blanks; text so that a spreadsheet does not run it."""
    return " ".join(f"{each:.10g}" for each in value) if isinstance(value, tuple) else safe_cell(value)
