"""Probes on whole scans: learnt from a table on the worker, tested, applied, and asked what they looked at.

The library's heavy parts are imported inside the functions, so that torch is loaded by the worker at first use.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
from numpy.typing import NDArray
from slicer.i18n import tr as _

from CoralBayLib.core.errors import ProbeError, ScansError
from CoralBayLib.core.progress import CancelToken, Progress, subprogress
from CoralBaySlicerCore.setup import packages

from .worker import Counted, Task

if TYPE_CHECKING:
    from .session import Choice
    from .tasks import Tasks


@dataclass(frozen=True)
class Study:
    """A table as plain data, and which of its columns mean what.

    Attributes:
        name: of the table node.
        columns: names of all columns.
        rows: the text of each cell, by its column.
        folder: that paths are relative to.
        scan, patient, target, time: columns; no patient when every scan is of another, time for survival only.
        task: "classify", "regress" or "survive".
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[Mapping[str, str], ...]
    folder: str
    scan: str
    patient: str | None = None
    target: str = ""
    time: str = ""
    task: str = "classify"


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a probe says of some rows of a table.

    Attributes:
        names: of the columns.
        values: (rows of the table, columns); NaN where there is none.
        fold: (rows of the table,) in which fold a scan was tested, from 1; 0 for none; None for new scans.
        left_out: scans or rows that were left out, with the reason.
    """

    names: tuple[str, ...]
    values: NDArray[np.float64]
    fold: NDArray[np.int64] | None
    left_out: tuple[tuple[str, str], ...]


@dataclass(frozen=True, eq=False)
class Learnt:
    """A probe and how good it is.

    Attributes:
        probe: the library's ScanProbe.
        evaluation: the library's Evaluation.
        charts: the library's charts of it.
        scans, patients: how many there were.
        predictions: of the scans that were learnt from, by probes that had not seen their patients.
    """

    probe: Any
    evaluation: Any
    charts: Sequence[Any]
    scans: int
    patients: int
    predictions: Predictions


def columns_of(table: Any) -> tuple[str, ...]:
    """The names of a table node's columns."""
    return tuple(table.GetColumnName(n) for n in range(table.GetNumberOfColumns())) if table is not None else ()


def study_of(table: Any, **meaning: Any) -> Study:
    """Take a table node's cells; `meaning` are the other fields of `Study`.

    Raises:
        ScansError: there is no table.
    """
    if table is None or table.GetTable() is None or not table.GetNumberOfRows():
        raise ScansError(_("Choose a table with a row for each scan, or load one from a CSV file."))
    columns, cells = columns_of(table), table.GetTable()
    rows = [
        {name: cells.GetValue(row, column).ToString() for column, name in enumerate(columns)}
        for row in range(table.GetNumberOfRows())
    ]
    storage = table.GetStorageNode()
    file = storage.GetFullNameFromFileName() if storage is not None and storage.GetFileName() else ""
    folder = os.path.dirname(file) if file else slicer.mrmlScene.GetRootDirectory()
    return Study(table.GetName(), columns, tuple(rows), folder, **meaning)


def fitTask(logic: Tasks, study: Study) -> Task:
    """Learn a probe from a study and test it on patients it has not seen; the result is a `Learnt`.

    Embeddings that were computed stay in the store, also when the task is cancelled.

    Raises:
        CoralBayError: the user declined to install what is missing.
    """
    packages.ensure(*([packages.SURVIVAL] if study.task == "survive" else []))
    choice = logic.choice()

    def run(progress: Progress, cancel: CancelToken) -> Learnt:
        from CoralBayLib.scan_probes import ScanProbe, cross_validate
        from CoralBayLib.scan_probes.charts import charts
        from CoralBayLib.scan_probes.table import table_of

        table = table_of(
            study.rows,
            study.columns,
            study.target,
            study.task,
            scan=study.scan,
            patient=study.patient,
            time=study.time,
            folder=study.folder,
            name=study.name,
            first=1,
        )
        found, rows = _embedded(logic, choice, table.scans, subprogress(progress, 0, 0.8), cancel)
        labels = table.labels.take(rows)

        def tell(fraction: float, _message: str) -> None:
            progress(0.8 + 0.2 * fraction, Counted(_("Testing on patients that were not learnt from")))

        evaluation = cross_validate(found.vectors, labels, progress=tell, cancel=cancel)
        probe = ScanProbe().fit(found.vectors, labels)
        probe.signature, probe.pooled, probe.target = found.signature, found.pooled, study.target
        where = table.rows[rows]
        left_out = [*map(_split, table.left_out), *map(_split, found.left_out)]
        made = Predictions(
            _names(probe),
            _spread(evaluation.predicted, where, len(study.rows)),
            _spread(evaluation.fold + 1, where, len(study.rows), 0)[:, 0].astype(np.int64),
            tuple(left_out),
        )
        return Learnt(probe, evaluation, charts(labels, evaluation), len(labels), len(set(labels.patients)), made)

    return logic.worker.start(Task(run, title=_("Learning from scans")))


def applyTask(logic: Tasks, probe: Any, study: Study) -> Task:
    """What a probe says of the scans of a table; the result is a `Predictions`."""
    packages.ensure()
    choice = logic.choice()

    def run(progress: Progress, cancel: CancelToken) -> Predictions:
        paths, rows, empty = [], [], []
        for number, row in enumerate(study.rows):
            if row[study.scan].strip():
                paths.append(Path(study.folder) / row[study.scan].strip())
                rows.append(number)
            else:
                empty.append((_("row {number}").format(number=number + 1), _("It names no scan.")))
        if not paths:
            raise ScansError(_("There is no scan in the column '{column}'. Choose another.").format(column=study.scan))
        found, used = _embedded(logic, choice, paths, progress, cancel)
        require_same(probe, found.signature)
        values = _spread(probe.predict(found.vectors), np.array(rows)[used], len(study.rows))
        return Predictions(_names(probe), values, None, (*empty, *map(_split, found.left_out)))

    return logic.worker.start(Task(run, title=_("Applying the probe")))


def say(pyramid: Any, probe: Any) -> dict[str, float]:
    """What a probe says of one scan, by class or target; on the worker.

    Raises:
        ProbeError: the probe was learnt on other features.
    """
    require_same(probe, pyramid.signature)
    if pyramid.scan_embedding is None:
        raise ProbeError(_("This encoder has no embedding of whole scans. Choose another in step 1."))
    values = np.ravel(probe.predict(pyramid.scan_embedding.float().numpy()[None]))
    return dict(zip(probe.classes_ or [probe.target], map(float, values), strict=True))


def speaks_for(pyramid: Any, probe: Any, said: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """How much each place speaks for a class, for a larger number, or for a higher risk; on the worker.

    Args:
        pyramid: of the scan.
        probe: the library's ScanProbe.
        said: which class, by number.

    Returns:
        Percent of the place that speaks for it most, uint8 [k, j, i]; what speaks against it is 0. And the geometry,
        (4, 4) IJK to the volume's own RAS mm.

    Raises:
        ProbeError: the probe was learnt on other features, or on an encoder whose embedding has no places.
    """
    from CoralBayLib.scan_probes import saliency_map

    from .compute import percent

    # Two classes have one output, the second's.
    output, sign = (0, -1.0 if said == 0 else 1.0) if len(probe.classes_) == 2 else (said, 1.0)
    found = saliency_map(pyramid, probe, output)
    values = sign * np.where(pyramid.body.array > 0, found.array, 0)
    return percent(values / max(float(values.max()), 1e-9)), np.array(found.grid.ijk_to_ras)


def require_same(probe: Any, signature: str) -> None:
    """Refuse features that a probe does not know.

    Raises:
        ProbeError: they are of another encoder, weights or setting.
    """
    if probe.signature != signature:
        raise ProbeError(
            _("This probe was learnt with another encoder, weights or setting. Choose those in step 1, or learn it again.")
        )


def _embedded(
    logic: Tasks, choice: Choice, paths: Sequence[Path], progress: Progress | None, cancel: CancelToken
) -> tuple[Any, NDArray[np.int64]]:
    """The library's embeddings of scans, and which of the paths they are of."""
    from CoralBayLib.features.store import Store
    from CoralBayLib.scan_probes import embed_scans

    encoder = logic.features.encoder(choice, progress, cancel)

    def tell(fraction: float, _message: str) -> None:
        if progress is not None:
            number = min(len(paths), int(fraction * len(paths)) + 1)
            progress(fraction, Counted(_("Embedding scan {n} of {count}").format(n=number, count=len(paths))))

    found = embed_scans(paths, encoder, tell, cancel, store=Store())
    return found, found.rows


def _names(probe: Any) -> tuple[str, ...]:
    if probe.classes_:
        return tuple(_("probability of {name}").format(name=name) for name in probe.classes_)
    if probe.task_ == "survive":
        return (_("log risk"),)
    return (_("predicted {target}").format(target=probe.target),)


def _spread(values: NDArray, where: NDArray[np.int64], count: int, empty: float = np.nan) -> NDArray[np.float64]:
    """Values of some rows in an array of all rows."""
    values = np.asarray(values, float).reshape(len(where), -1)
    spread = np.full((count, values.shape[1]), empty)
    spread[where] = values
    return spread


def _split(text: str) -> tuple[str, str]:
    name, _colon, why = text.partition(": ")
    return _("row ") + name.removeprefix("line ") if name.startswith("line ") else name, why
