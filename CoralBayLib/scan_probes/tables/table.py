"""Tables of scans with their patients and a variable to predict, read from CSV."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.core.errors import CoralBayError, Remedy, ScansError
from CoralBayLib.core.names import fold
from CoralBayLib.scan_probes.labels import Labels, require_task

from .cells import first_spelling, is_missing, number
from .rows import LINE, SURPLUS, read_rows, require_distinct

_TRUE, _FALSE = {"1", "1.0", "true", "yes", "y"}, {"0", "0.0", "false", "no", "n"}


@dataclass(frozen=True, eq=False)
class Skipped:
    """A row or a scan that cannot be used.

    Attributes:
        error: why, with its remedy.
        row: number of the row as the user counts it; None when it is not known.
        scan: path of the scan; None when the row names none, or the row is at fault.
    """

    error: CoralBayError
    row: int | None = None
    scan: Path | None = None

    def __str__(self) -> str:
        return f"{f'line {self.row}' if self.scan is None else self.scan}: {self.error}"


@dataclass(frozen=True, eq=False)
class ScanTable:
    """Scans with their labels.

    Attributes:
        target: name of the variable to predict, which is its column.
        scans: (N,) paths.
        labels: (N,) the truth.
        left_out: rows that cannot be used.
        rows: (N,) number of each scan's row in the table, from 0.
    """

    target: str
    scans: tuple[Path, ...]
    labels: Labels
    left_out: tuple[Skipped, ...]
    rows: NDArray[np.int64]


def read_table(
    path: str | Path,
    target: str,
    task: str,
    *,
    scan: str = "scan",
    patient: str | None = "patient",
    time: str = "time",
) -> ScanTable:
    """Read a table with a header, separated by commas, semicolons, tabs or bars. Cells like NA or n/a count as empty.

    Args:
        path: of the file; paths of scans in it may be relative to its folder.
        target: column of the variable to predict.
        task: one of `TASKS`.
        scan: column of the CT's path.
        patient: column of the patient's name; None when every scan is known to be of another patient.
        time: survival: column of the time.

    Raises:
        ScansError: the task is unknown, the file or a column is missing, a column is there twice, or no row can be
            used.
    """
    path, task = Path(path), require_task(task)
    columns, rows = read_rows(path)
    return table_of(rows, columns, target, task, scan=scan, patient=patient, time=time, folder=path.parent, name=path.name)


def table_of(
    rows: Sequence[Mapping[str, str | None]],
    columns: Sequence[str],
    target: str,
    task: str,
    *,
    scan: str = "scan",
    patient: str | None = "patient",
    time: str = "time",
    folder: str | Path = "",
    name: str = "The table",
    first: int = 2,
) -> ScanTable:
    """A table from its cells.

    Args:
        rows: text of each cell by its column.
        columns: their names.
        target: as in `read_table`.
        task: as in `read_table`.
        scan: as in `read_table`.
        patient: as in `read_table`.
        time: as in `read_table`.
        folder: which the paths of scans are relative to.
        name: of the table in error messages.
        first: number of the first row as the user counts it.

    Raises:
        ScansError: as `read_table`.
    """
    task = require_task(task)
    require_distinct(columns, name)
    scan, target, time = (_as_written(column, columns) for column in (scan, target, time))
    patient = patient and _as_written(patient, columns)
    required = [scan, target, *([patient] if patient else []), *([time] if task == "survival" else [])]
    missing = [column for column in required if column not in columns]
    if missing:
        message = f"{name} has no column {', '.join(missing)}; it has {', '.join(columns) or 'none'}."
        if patient in missing:
            message += " Without the patients' names, scans of one patient could be in the training and in the test part."
            raise ScansError(message, remedy=Remedy.NAME_PATIENTS)
        raise ScansError(message)
    used, left_out = [], []
    patients_by_name: dict[str, str] = {}
    classes_by_name: dict[str, str] = {}
    seen: dict[Path, _Row] = {}
    for n, row in enumerate(rows):
        line = int(row.get(LINE) or n + first)
        try:
            path = _present(row, scan)
            who = first_spelling(_present(row, patient), patients_by_name) if patient else f"row {n + first}"
            value = _value(_present(row, target), task)
            if isinstance(value, str):
                value = first_spelling(value, classes_by_name)
            entry = Path(folder) / path, who, value, _time(row, time, task), n
            _require_new(entry, line, seen)
            used.append(entry)
        except ScansError as error:
            left_out.append(Skipped(error, line))
    wrong = {path: row for path, row in seen.items() if row.contradicted}
    used = [entry for entry in used if _absolute(entry[0]) not in wrong]
    left_out += [Skipped(row.contradicted, row.line) for row in wrong.values() if row.contradicted]
    if not used:
        raise ScansError(f"No row of {name} can be used. " + "; ".join(map(str, left_out[:3])))
    scans, patients, values, times, numbers = zip(*used, strict=True)
    return ScanTable(target, scans, Labels.of(task, values, patients, times), tuple(left_out), np.array(numbers))


def _as_written(name: str, columns: Sequence[str]) -> str:
    """The column that a name means, which may be written in another case or Unicode form."""
    alike = [column for column in columns if fold(column) == fold(name)]
    return alike[0] if name not in columns and len(alike) == 1 else name


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - normalizes "..", keeps symbolic links


def _require_new(entry: tuple[Path, Any, Any, Any, int], line: int, seen: dict[Path, _Row]) -> None:
    """Refuse a scan that is in an earlier row, which would count twice; with another truth, one of the two is wrong."""
    path, *truth, _ = entry
    row = seen.setdefault(_absolute(path), _Row(line, truth))
    if row.line == line:
        return
    if row.truth == truth:
        raise ScansError(f"the scan is in line {row.line} already")
    row.contradicted = ScansError(f"the scan has another patient, target or time in line {line}; correct one of the two lines")
    raise ScansError(f"the scan has another patient, target or time in line {row.line}; correct one of the two lines")


@dataclass
class _Row:
    """The first row of a scan: its line, what it says, and the error when a later row says something else."""

    line: int
    truth: list[Any]
    contradicted: ScansError | None = None


def _present(row: Mapping[str, str | None], column: str) -> str:
    if row.get(SURPLUS):
        raise ScansError("the row has more cells than there are columns; is a separator inside a cell that has no quotes?")
    text = (row.get(column) or "").strip()
    if is_missing(text):
        raise ScansError(f"{column} is empty" if not text else f"{column} is missing ('{text}')")
    return text


def _value(text: str, task: str) -> str | float | bool:
    if task == "classification":
        return text
    if task == "regression":
        return number(text)
    if text.lower() not in _TRUE | _FALSE:
        raise ScansError(f"'{text}' does not tell whether the event was observed; write 1 or 0")
    return text.lower() in _TRUE


def _time(row: Mapping[str, str | None], column: str, task: str) -> float:
    if task != "survival":
        return 0.0
    value = number(_present(row, column))
    if value <= 0:
        raise ScansError(f"the time must be above 0, but is {value:g}")
    return value
