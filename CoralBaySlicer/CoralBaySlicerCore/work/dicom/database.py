"""The CT series of Slicer's DICOM database, as paths that CoralBayLib can read. No patient data are read."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import slicer
from slicer.i18n import tr as _

from CoralBayLib.core.errors import VolumeError
from CoralBayLib.core.progress import CancelToken
from CoralBaySlicerCore.work.worker import Worker

if TYPE_CHECKING:
    import ctk

_BATCH_S = 0.05
"""Seconds for which the main thread is occupied at a time."""


def open_database() -> ctk.ctkDICOMDatabase:
    """Slicer's DICOM database.

    Raises:
        VolumeError: there is none, or it is not open.
    """
    database = getattr(slicer, "dicomDatabase", None)
    if database is None or not database.isOpen:
        raise VolumeError(_("No DICOM database is open. Open Slicer's DICOM module once, then try again."))
    return database


def ct_paths(database: ctk.ctkDICOMDatabase, worker: Worker, cancel: CancelToken) -> list[str]:
    """A path for each CT series; on the worker.

    The database may be used on the main thread only. It is queried there in small batches, so that the window responds.

    Raises:
        Cancelled: `cancel` was called.
    """
    files: list[Sequence[str]] = []
    patients = list(worker.on_main_thread(database.patients, cancel))
    while patients:
        files += worker.on_main_thread(lambda: _next_series(database, patients), cancel)
    return sorted({series_path(each) for each in files})


def series_path(files: Sequence[str]) -> str:
    """The path that stands for a DICOM series: the folder of its files if it contains nothing else, otherwise one file."""
    files = [os.path.abspath(file) for file in files]  # noqa: PTH100 - normalizes "..", keeps symbolic links
    folder = Path(files[0]).parent
    try:
        alone = {str(path) for path in folder.iterdir()} == set(files)
    except OSError:
        alone = False
    return str(folder) if alone and len(files) > 1 else min(files)


def _next_series(database: ctk.ctkDICOMDatabase, patients: list[str]) -> list[Sequence[str]]:
    """The files of each CT series of the next patients, which are removed from the list."""
    until = time.monotonic() + _BATCH_S
    found: list[Sequence[str]] = []
    while patients and time.monotonic() < until:
        for study in database.studiesForPatient(patients.pop()):
            for series in database.seriesForStudy(study):
                if database.fieldForSeries("Modality", series) == "CT":
                    files = [file for file in database.filesForSeries(series) if file]
                    found += [files] if files else []
    return found
