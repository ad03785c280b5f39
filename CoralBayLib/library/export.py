"""What a library holds as files for people and other programs: the list of its scans, and clusters of its regions."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from CoralBayLib.core.errors import LibraryError
from CoralBayLib.core.paths import atomic_write
from CoralBayLib.core.progress import CancelToken

from .clusters import Clustering, assigned
from .records import ScanRecord
from .tables import Tables


def export(records: Sequence[ScanRecord], path: str | os.PathLike) -> None:
    """Write what is told of scans, a row each, as CSV or JSON by the suffix.

    Raises:
        LibraryError: another suffix.
        StoreError: the file could not be written; whatever stood there before is untouched.
    """
    path = Path(path)
    rows = [{**asdict(record), "there": record.there} for record in records]
    if path.suffix.lower() == ".json":
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps({"scans": rows}, indent=1, ensure_ascii=False), encoding="utf-8")
    elif path.suffix.lower() == ".csv":
        names = [*ScanRecord.__dataclass_fields__, "there"]
        with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, names)
            table.writeheader()
            for row in rows:
                table.writerow({name: _cell(value) for name, value in row.items()})
    else:
        raise LibraryError(f"Cannot tell the format of {path.name}: use .csv or .json.")


def export_clusters(tables: Tables, clustering: Clustering, path: str | os.PathLike, cancel: CancelToken | None = None) -> None:
    """Write the cluster of every region: as CSV a row for each, as JSON by scan, with what is in each cluster beside it.

    Raises:
        LibraryError: another suffix, or the tables cannot be read.
        StoreError: the file could not be written; whatever stood there before is untouched.
        Cancelled: `cancel` was called.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in (".csv", ".json"):
        raise LibraryError(f"Cannot tell the format of {path.name}: use .csv or .json.")
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        if kind == ".csv":
            table = csv.writer(file)
            table.writerow(["scan", "R", "A", "S", "cluster"])
            for scans, ras, numbers in assigned(tables, clustering, cancel):
                places = np.round(ras.astype(float), 2).tolist()
                table.writerows([scan, *place, n] for scan, place, n in zip(scans, places, numbers.tolist(), strict=True))
            return
        regions: dict[str, list[list[float]]] = {}
        for scans, ras, numbers in assigned(tables, clustering, cancel):
            for scan, place, n in zip(scans, np.round(ras.astype(float), 2).tolist(), numbers.tolist(), strict=True):
                regions.setdefault(scan, []).append([*place, n])
        whole = {"encoder": clustering.encoder, "clusters": [asdict(each) for each in clustering.clusters], "regions": regions}
        json.dump(whole, file, ensure_ascii=False)


def _cell(value: object) -> object:
    """Lists as numbers with blanks between."""
    return " ".join(f"{each:.10g}" for each in value) if isinstance(value, tuple) else value
