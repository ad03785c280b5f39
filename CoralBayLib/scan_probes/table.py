"""Tables of scans with their patients and a variable to predict, read from CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.core.deprecation import warn_renamed
from CoralBayLib.core.errors import CoralBayError, Remedy, ScansError
from CoralBayLib.core.names import fold
from CoralBayLib.core.paths import error_message

SAVED_TASKS = {"classification": "classify", "regression": "regress", "survival": "survive"}
"""For each task its name in files and saved scenes, which is also its deprecated name in the API."""
TASKS = tuple(SAVED_TASKS)
_MISSING = {"", "na", "n/a", "#n/a", "#na", "<na>", "n.a.", "nan", "-nan", "null", ".", "-", "--", "?", "#value!", "#ref!"}
"""Texts of cells without a value, as R, pandas, SPSS and spreadsheets write them, in lower case."""
_SURPLUS = "\0surplus"
"""Key of the cells beyond the last column."""
_TRUE, _FALSE = {"1", "1.0", "true", "yes", "y"}, {"0", "0.0", "false", "no", "n"}


def current_task(name: str) -> str:
    """A task by its name in files or in the API.

    Raises:
        ScansError: the task is unknown.
    """
    for task, saved in SAVED_TASKS.items():
        if name in (task, saved):
            return task
    raise ScansError(f"There is no task '{name}'. Choose one of {', '.join(TASKS)}.")


def _require_task(name: str) -> str:
    """A task by its name in the API; warns of a deprecated name."""
    task = current_task(name)
    if task != name:
        warn_renamed(f"The task '{name}'", f"'{task}'", stacklevel=3)
    return task


@dataclass(frozen=True, eq=False)
class Labels:
    """The truth for some scans.

    Attributes:
        task: one of `TASKS`.
        values: (N,) classification: the class names; regression: numbers; survival: whether the event was observed.
        patients: (N,) names; a split keeps all scans of a patient in one part.
        times: (N,) survival: time to the event, or to censoring when it was not observed; otherwise zeros.

    Raises:
        ScansError: the task is unknown.
    """

    task: str
    values: NDArray
    patients: NDArray[np.str_]
    times: NDArray[np.float64]

    def __post_init__(self) -> None:
        object.__setattr__(self, "task", _require_task(self.task))

    @classmethod
    def of(cls, task: str, values: Sequence[Any], patients: Sequence[Any], times: Sequence[float] = ()) -> Labels:
        """Labels from sequences of any kind.

        Args:
            task: one of `TASKS`.
            values: (N,), converted to the type that the task needs.
            patients: (N,) names.
            times: (N,) for survival; otherwise they may be left out.

        Raises:
            ScansError: the task is unknown.
        """
        task = _require_task(task)
        kind = {"classification": str, "regression": float, "survival": bool}[task]
        known_times = np.asarray(times, float) if len(times) else np.zeros(len(values))
        labels, names = np.array([kind(value) for value in values]), np.array([str(name) for name in patients])
        return cls(task, labels, names, known_times)

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: NDArray) -> Labels:
        """The labels of some rows, given by number or by a mask."""
        return Labels(self.task, self.values[rows], self.patients[rows], self.times[rows])


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
    """Read a table with a header, separated by commas, semicolons or tabs. Cells like NA or n/a count as empty.

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
    path, task = Path(path), _require_task(task)
    columns, rows = read_rows(path)
    return table_of(rows, columns, target, task, scan=scan, patient=patient, time=time, folder=path.parent, name=path.name)


def read_rows(path: Path) -> tuple[list[str], list[dict[str, str | None]]]:
    """The names of a table's columns, and the text of each cell by its column, row by row.

    Raises:
        ScansError: the file is missing, cannot be read as a table, or has a column twice.
    """
    if not path.is_file():
        raise ScansError(f"There is no file {path}. Check the path of the table.")
    try:
        with path.open(newline="", encoding="utf-8-sig") as opened:
            text = opened.read()
        if "\0" in text:
            raise csv.Error("it holds zero bytes, as after a lost sector or in UTF-16")
        file = io.StringIO(text, newline="")
        reader = csv.DictReader(file, delimiter=_separator(file), restkey=_SURPLUS)
        columns = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = columns
        _require_distinct(columns, path.name)
        rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ScansError(f"{path.name} cannot be read as a table ({error_message(error)}). Save it as CSV (UTF-8).") from error
    return columns, rows


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
    task = _require_task(task)
    _require_distinct(columns, name)
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
    for number, row in enumerate(rows, start=first):
        try:
            path = _present(row, scan)
            who = _first_spelling(_present(row, patient), patients_by_name) if patient else f"row {number}"
            value = _value(_present(row, target), task)
            if isinstance(value, str):
                value = _first_spelling(value, classes_by_name)
            used.append((Path(folder) / path, who, value, _time(row, time, task), number - first))
        except ScansError as error:
            left_out.append(Skipped(error, number))
    if not used:
        raise ScansError(f"No row of {name} can be used. " + "; ".join(map(str, left_out[:3])))
    scans, patients, values, times, numbers = zip(*used, strict=True)
    return ScanTable(target, scans, Labels.of(task, values, patients, times), tuple(left_out), np.array(numbers))


def _first_spelling(name: str, known: dict[str, str]) -> str:
    """The spelling in which a name was seen first: "Yes" and "yes" are one class, and so for patients."""
    return known.setdefault(fold(name), name)


def _separator(file: TextIO) -> str:
    """The separator of a table: whichever of comma, semicolon and tab its first line has most of, outside of quotes."""
    line = re.sub(r'"[^"]*"', "", file.readline())
    file.seek(0)
    return max(",;\t", key=line.count)


def _require_distinct(columns: Sequence[str], name: str) -> None:
    named = [fold(column) for column in columns if column.strip()]
    for column in columns:
        if named.count(fold(column)) > 1:
            raise ScansError(f"{name} has more than one column '{column.strip()}'. Rename or remove all but one.")


def _present(row: Mapping[str, str | None], column: str) -> str:
    if row.get(_SURPLUS):
        raise ScansError("the row has more cells than there are columns; is a separator inside a cell that has no quotes?")
    text = (row.get(column) or "").strip()
    if text.casefold() in _MISSING:
        raise ScansError(f"{column} is empty" if not text else f"{column} is missing ('{text}')")
    return text


def _value(text: str, task: str) -> str | float | bool:
    if task == "classification":
        return text
    if task == "regression":
        return _number(text)
    if text.lower() not in _TRUE | _FALSE:
        raise ScansError(f"'{text}' does not tell whether the event was observed; write 1 or 0")
    return text.lower() in _TRUE


def _time(row: Mapping[str, str | None], column: str, task: str) -> float:
    if task != "survival":
        return 0.0
    value = _number(_present(row, column))
    if value <= 0:
        raise ScansError(f"the time must be above 0, but is {value:g}")
    return value


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < float("inf"):
        raise ScansError(f"'{text}' is not a finite number")
    return value
