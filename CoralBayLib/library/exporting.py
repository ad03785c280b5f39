"""The list of a library's scans as a file for people and other programs."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ..errors import LibraryError
from ..paths import replacing
from .rows import ScanRecord


def export(records: Sequence[ScanRecord], path: str | os.PathLike) -> None:
    """Write what is told of scans, a row each, as CSV or JSON by the suffix.

    Raises:
        LibraryError: another suffix.
        StoreError: the file could not be written; whatever stood there before is untouched.
    """
    path = Path(path)
    rows = [{**asdict(record), "there": record.there} for record in records]
    if path.suffix.lower() == ".json":
        with replacing(path) as temporary:
            temporary.write_text(json.dumps({"scans": rows}, indent=1, ensure_ascii=False), encoding="utf-8")
    elif path.suffix.lower() == ".csv":
        names = [*ScanRecord.__dataclass_fields__, "there"]
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, names)
            table.writeheader()
            for row in rows:
                table.writerow({name: _cell(value) for name, value in row.items()})
    else:
        raise LibraryError(f"Cannot tell the format of {path.name}: use .csv or .json.")


def _cell(value: object) -> object:
    """Lists as numbers with blanks between."""
    return " ".join(f"{each:.10g}" for each in value) if isinstance(value, tuple) else value
