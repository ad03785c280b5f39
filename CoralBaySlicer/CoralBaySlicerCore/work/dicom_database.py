"""The CT series of Slicer's DICOM database, as paths that CoralBayLib can read. Nothing of the patients is looked at."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import slicer
from slicer.i18n import tr as _

from CoralBayLib.core.errors import VolumeError
from CoralBayLib.core.progress import CancelToken

from .worker import Worker

_AT_ONCE_S = 0.05


def opened() -> Any:
    """Slicer's DICOM database.

    Raises:
        VolumeError: there is none, or it is not open.
    """
    database = getattr(slicer, "dicomDatabase", None)
    if database is None or not database.isOpen:
        raise VolumeError(_("No DICOM database is open. Open Slicer's module DICOM once, then try again."))
    return database


def ct_paths(database: Any, worker: Worker, cancel: CancelToken) -> list[str]:
    """A path for each CT series; on the worker.

    The database belongs to the main thread: it is asked there, little by little, so that the window stays alive.

    Raises:
        Cancelled: `cancel` was called.
    """
    files: list[Sequence[str]] = []
    patients = list(worker.on_main_thread(database.patients, cancel))
    while patients:
        files += worker.on_main_thread(lambda: _some(database, patients), cancel)
    return sorted({place_of(each) for each in files})


def place_of(files: Sequence[str]) -> str:
    """The folder of a series' files when it holds nothing else; otherwise the first of them, which stands for all."""
    files = [os.path.abspath(file) for file in files]
    folder = os.path.dirname(files[0])
    try:
        alone = {os.path.join(folder, name) for name in os.listdir(folder)} == set(files)
    except OSError:
        alone = False
    return folder if alone and len(files) > 1 else min(files)


def _some(database: Any, patients: list[str]) -> list[Sequence[str]]:
    """The files of each CT series of the next few patients, who are taken from the list."""
    until, found = time.monotonic() + _AT_ONCE_S, []
    while patients and time.monotonic() < until:
        for study in database.studiesForPatient(patients.pop()):
            for series in database.seriesForStudy(study):
                if database.fieldForSeries("Modality", series) == "CT":
                    files = [file for file in database.filesForSeries(series) if file]
                    found += [files] if files else []
    return found
