"""Which scans, whose they are, and what is to be learnt of them: a CSV read with care."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.core.errors import ScansError
from CoralBayLib.core.paths import error_message

TASKS = ("classify", "regress", "survive")
_TRUE, _FALSE = {"1", "1.0", "true", "yes", "y"}, {"0", "0.0", "false", "no", "n"}


@dataclass(frozen=True, eq=False)
class Labels:
    """What is known of some scans.

    Attributes:
        task: one of `TASKS`.
        values: (N,) classify: the classes' names; regress: numbers; survive: whether the event was seen.
        patients: (N,) who each scan is of; scans of one patient never stand on both sides of a split.
        times: (N,) survive: time to the event, or to the last look when it was not seen; zeros otherwise.
    """

    task: str
    values: NDArray
    patients: NDArray[np.str_]
    times: NDArray[np.float64]

    @classmethod
    def of(cls, task: str, values: Sequence[Any], patients: Sequence[Any], times: Sequence[float] = ()) -> Labels:
        """From any sequences.

        Raises:
            ScansError: the task is unknown.
        """
        if task not in TASKS:
            raise ScansError(f"There is no task '{task}'; choose {', '.join(TASKS)}.")
        kind = {"classify": str, "regress": float, "survive": bool}[task]
        when = np.asarray(times, float) if len(times) else np.zeros(len(values))
        return cls(task, np.array([kind(value) for value in values]), np.array([str(who) for who in patients]), when)

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: NDArray) -> Labels:
        """Those of some rows."""
        return Labels(self.task, self.values[rows], self.patients[rows], self.times[rows])


@dataclass(frozen=True, eq=False)
class ScanTable:
    """Scans with what is known of them.

    Attributes:
        target: the column that is learnt.
        scans: paths.
        labels: what is known.
        left_out: rows that cannot be used, with the reason.
        rows: (N,) which rows of the table they are from, counted from 0.
    """

    target: str
    scans: tuple[Path, ...]
    labels: Labels
    left_out: tuple[str, ...]
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
    """Read a CSV with a header.

    Args:
        path: the file; scans in it may be relative to its folder.
        target: the column to learn.
        task: one of `TASKS`.
        scan: the column with the CT's path.
        patient: the column that tells whose scan it is; None when every scan is known to be of another patient.
        time: survive: the column with the time.

    Raises:
        ScansError: the file or a column is missing, or no row can be used.
    """
    path = Path(path)
    if not path.is_file():
        raise ScansError(f"There is no file {path}. Check the path of the table.")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns, rows = list(reader.fieldnames or ()), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ScansError(f"{path.name} cannot be read as a table ({error_message(error)}). Save it as CSV (UTF-8).") from error
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
        rows: the text of each cell, by its column.
        columns: their names.
        target, task, scan, patient, time: as in `read_table`.
        folder: that paths are relative to.
        name: what errors call the table.
        first: the number by which the user knows the first row.

    Raises:
        ScansError: as `read_table`.
    """
    if task not in TASKS:
        raise ScansError(f"There is no task '{task}'; choose {', '.join(TASKS)}.")
    wanted = [scan, target, *([patient] if patient else []), *([time] if task == "survive" else [])]
    missing = [each for each in wanted if each not in columns]
    if missing:
        hint = " Without such a column one patient's scans could be learnt from and tested on." if patient in missing else ""
        raise ScansError(f"{name} has no column {', '.join(missing)}; it has {', '.join(columns) or 'none'}.{hint}")
    kept, left_out = [], []
    for number, row in enumerate(rows, start=first):
        try:
            ct = _present(row, scan)
            whose = _present(row, patient) if patient else f"row {number}"
            value = _value(_present(row, target), task)
            kept.append((Path(folder) / ct, whose, value, _time(row, time, task), number - first))
        except ValueError as error:
            left_out.append(f"line {number}: {error}")
    if not kept:
        raise ScansError(f"No row of {name} can be used. " + "; ".join(left_out[:3]))
    scans, patients, values, times, used = zip(*kept, strict=True)
    return ScanTable(target, scans, Labels.of(task, values, patients, times), tuple(left_out), np.array(used))


def _present(row: Mapping[str, str | None], column: str) -> str:
    text = (row.get(column) or "").strip()
    if not text:
        raise ValueError(f"{column} is empty")
    return text


def _value(text: str, task: str) -> str | float | bool:
    if task == "classify":
        return text
    if task == "regress":
        return _number(text)
    if text.lower() not in _TRUE | _FALSE:
        raise ValueError(f"'{text}' does not say whether the event was seen; write 1 or 0")
    return text.lower() in _TRUE


def _time(row: Mapping[str, str | None], column: str, task: str) -> float:
    if task != "survive":
        return 0.0
    value = _number(_present(row, column))
    if value <= 0:
        raise ValueError(f"a time of {value:g} is not after the start")
    return value


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < float("inf"):
        raise ValueError(f"'{text}' is no number to learn from")
    return value
