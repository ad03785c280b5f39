"""The file `reports.json` of a library: a text for each scan that the user gave one for.

It has its own checksum, because a wrong bit in a text would not be noticed otherwise.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from CoralBayLib.core.errors import LibraryError, ScansError
from CoralBayLib.core.names import fold
from CoralBayLib.core.paths import expand
from CoralBayLib.core.progress import CancelToken
from CoralBayLib.core.schemas import LIBRARY_REPORTS
from CoralBayLib.library.tables import Tables
from CoralBayLib.scan_probes.tables.cells import is_missing
from CoralBayLib.scan_probes.tables.rows import LINE, SURPLUS, read_rows

if TYPE_CHECKING:
    from CoralBayLib.library.records import ScanRecord
    from CoralBayLib.library.storage.base import Storage

FILE = "reports.json"
_SCAN, _REPORT = "scan", "report"
"""Columns of a table of reports."""


def read_reports(storage: Storage) -> dict[str, str]:
    """The reports of a library, by the ID of the scan; none where it keeps none.

    Raises:
        LibraryError: the file is damaged.
    """
    data = storage.read_file(FILE)
    if data is None:
        return {}
    try:
        content = json.loads(data)
        LIBRARY_REPORTS.check_header(content)
        if content["crc32"] != _crc(content["reports"]):
            raise ValueError("its checksum does not fit")
    except (ValueError, RecursionError) as error:
        raise LibraryError(
            f"The reports of the library ({FILE}) are damaged ({error}). Remove them all, and add them again from your table."
        ) from error
    reports: dict[str, str] = content["reports"]
    return reports


def add_reports(
    storage: Storage, table: str | os.PathLike, records: Sequence[ScanRecord], cancel: CancelToken | None = None
) -> tuple[int, list[str]]:
    """Keep the texts of a table with the scans that they belong to.

    Args:
        storage: of the library.
        table: CSV with the columns `scan` (a path, relative to the folder of the table) and `report`; cells like NA or n/a
            count as empty.
        records: the scans of the library.
        cancel: ends waiting for another writer.

    Returns:
        The number of scans with a report now, and the scans of the table that are not in the library, or were removed
        meanwhile.

    Raises:
        ScansError: the table cannot be used, has cells beyond its last column, or two different reports of one scan.
        LibraryError: the reports that are there are damaged.
        StoreError: the library cannot be written.
    """
    texts, unknown = _texts_of(expand(table), records)
    with storage.locked(cancel):
        # Another writer may have removed scans, whose texts must not come back.
        tables = [Tables(storage, name) for name in storage.encoders()]
        present = {scan for each in tables if each.complete for scan in each.paths(texts)}
        removed = sorted({record.path for record in records if record.scan in set(texts) - present})
        kept = {**read_reports(storage), **{scan: text for scan, text in texts.items() if scan in present}}
        if kept:
            _write(storage, kept)
    return len(kept), unknown + removed


def remove_reports(storage: Storage, scans: Iterable[str] | None = None, cancel: CancelToken | None = None) -> int:
    """Remove the reports of some scans, or all of them, also damaged ones; returns the number that was removed, if known.

    Args:
        storage: of the library.
        scans: IDs; all reports if None.
        cancel: ends waiting for another writer.

    Raises:
        StoreError: the library cannot be written.
    """
    if storage.read_file(FILE) is None:
        return 0
    with storage.locked(cancel):
        try:
            kept = read_reports(storage)
        except LibraryError:
            if scans is not None:
                raise
            kept = {}
        gone = set(kept) if scans is None else set(scans) & set(kept)
        left = {scan: text for scan, text in kept.items() if scan not in gone}
        if left:
            _write(storage, left)
        else:
            storage.delete_file(FILE)
    return len(gone)


def _texts_of(table: Path, records: Sequence[ScanRecord]) -> tuple[dict[str, str], list[str]]:
    columns, rows = read_rows(table)
    by_name = {fold(column): column for column in columns}
    if _SCAN not in by_name or _REPORT not in by_name:
        raise ScansError(
            f"{table.name} has the columns {', '.join(columns)}. Expected a column '{_SCAN}' with the paths of scans, and a "
            f"column '{_REPORT}' with their texts."
        )
    by_path: dict[str, set[str]] = {}
    for record in records:
        by_path.setdefault(record.path, set()).add(record.scan)
    texts: dict[str, str] = {}
    lines: dict[str, str] = {}
    unknown = []
    for row in rows:
        line = row[LINE] or ""
        if row.get(SURPLUS):
            # Without the cells behind it, the text would be cut off, and could say the opposite.
            raise ScansError(
                f"{table.name} has more cells than columns in line {line}. Put each report that contains a separator between "
                "quotes; the library is unchanged."
            )
        named, text = (row[by_name[_SCAN]] or "").strip(), (row[by_name[_REPORT]] or "").strip()
        if not named or is_missing(text):
            continue
        path = os.path.abspath(table.parent / Path(named).expanduser())  # noqa: PTH100 - keeps symbolic links
        found = by_path.get(path) or by_path.get(named)
        if not found:
            unknown.append(named)
            continue
        for scan in found:
            if texts.get(scan, text) != text:
                raise ScansError(
                    f"{table.name} has two different reports of {named}, in the lines {lines[scan]} and {line}. Put both "
                    "into one row, or remove one of them; the library is unchanged."
                )
            lines.setdefault(scan, line)
        texts.update(dict.fromkeys(found, text))
    if not texts:
        raise ScansError(f"No scan of {table.name} with a report is in the library. Add the scans first, or check their paths.")
    return texts, unknown


def _write(storage: Storage, reports: Mapping[str, str]) -> None:
    content: dict[str, Any] = {"format": 1, "crc32": _crc(reports), "reports": dict(reports)}
    storage.require_lock()
    storage.write_file(FILE, json.dumps(content, ensure_ascii=False, indent=0).encode())


def _crc(reports: Mapping[str, str]) -> str:
    return f"{zlib.crc32(json.dumps(reports, sort_keys=True).encode()):08x}"
