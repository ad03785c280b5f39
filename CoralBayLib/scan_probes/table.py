"""Tables of scans with their patients and a variable to predict, read from CSV."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.core.deprecation import warn_renamed
from CoralBayLib.core.errors import CoralBayError, Remedy, ScansError
from CoralBayLib.core.names import fold
from CoralBayLib.core.paths import error_message

from .table_cells import first_spelling, is_missing, number

SAVED_TASKS = {"classification": "classify", "regression": "regress", "survival": "survive"}
"""For each task its name in files and saved scenes, which is also its deprecated name in the API."""
TASKS = tuple(SAVED_TASKS)
SURPLUS = "\0surplus"
"""Key of the cells beyond the last column."""
LINE = "\0line"
"""Key of the number of a row's first line in its file, as text."""
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
        positive: the positive one of two classes, which metrics, curves and maps are of; "" for the last by name.

    Raises:
        ScansError: the task is unknown.
    """

    task: str
    values: NDArray
    patients: NDArray[np.str_]
    times: NDArray[np.float64]
    positive: str = ""

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
        return Labels(self.task, self.values[rows], self.patients[rows], self.times[rows], self.positive)

    def with_positive(self, name: str) -> Labels:
        """The same labels with another positive class; "" for the last by name.

        Raises:
            ScansError: there is no such class.
        """
        if name and (self.task != "classification" or name not in self.values):
            known = ", ".join(sorted({str(value) for value in self.values})) if self.task == "classification" else "none"
            raise ScansError(f"There is no class '{name}'. Classes: {known}.")
        return replace(self, positive=name)


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
        delimiter, named = _separator(file)
        reader = csv.DictReader(file, delimiter=delimiter, restkey=SURPLUS, strict=True)
        columns = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = columns
        _require_distinct(columns, path.name)
        rows = list(_numbered(reader, named))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        if isinstance(error, csv.Error) and "field limit" in str(error):
            raise ScansError(
                f"{path.name} cannot be read as a table: a cell has more than {csv.field_size_limit():,} characters. Look "
                "for a cell whose closing quotation mark is missing."
            ) from error
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


def _separator(file: TextIO) -> tuple[str, int]:
    """The separator of a table: whichever of comma, semicolon, tab and bar its first line has most of, outside of quotes.

    Excel's line `sep=;` names it; the file then stands behind that line, and the second value is 1, otherwise 0.
    """
    first = file.readline()
    if named := re.fullmatch(r"sep=(.)\s*", first):
        return named[1], 1
    file.seek(0)
    return max(",;\t|", key=re.sub(r'"[^"]*"', "", first).count), 0


def _numbered(reader: csv.DictReader, before: int) -> Iterator[dict[str, str | None]]:
    """The rows with the number of their first line; blank lines and line breaks in cells count, as in an editor.

    `before`: lines of the file that the reader did not see.
    """
    end = reader.reader.line_num
    for row in reader:
        begin, end = end + 1, reader.reader.line_num
        breaks = sum((cell or "").count("\n") for cell in row.values() if isinstance(cell, str))
        row[LINE] = str(max(begin, end - breaks) + before)
        yield row


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


def _require_distinct(columns: Sequence[str], name: str) -> None:
    named = [fold(column) for column in columns if column.strip()]
    for column in columns:
        if named.count(fold(column)) > 1:
            raise ScansError(f"{name} has more than one column '{column.strip()}'. Rename or remove all but one.")


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
