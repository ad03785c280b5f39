"""Applies a probe to a folder of scans without loading them into the scene."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from slicer.i18n import tr as _

from CoralBayLib.core.progress import CancelToken, subprogress
from CoralBayLib.imaging.scan_folders import find_scans
from CoralBaySlicerCore.setup import packages

from .worker import Task, TaskProgress

if TYPE_CHECKING:
    from CoralBayLib.fewshot.batch import FolderResult
    from CoralBayLib.fewshot.probe import Probe

    from .tasks import Tasks


def applyProbeToFolderTask(
    logic: Tasks, probe: Probe | str | Path, folder: str | Path, threshold: float = 0.5, overwrite: bool = False
) -> Task:
    """Segment every scan of a folder into `<name>.seg.nrrd` in it; the result is the library's `FolderResult`.

    Args:
        logic: its worker computes.
        probe: the library's Probe, or the path of one.
        folder: with NRRD, NIfTI or MHA files, or subfolders with a DICOM series each.
        threshold: probability from 0 to 1.
        overwrite: whether existing segmentations are replaced.

    Raises:
        VolumeError: the folder cannot be read or holds no scan.
    """
    packages.ensure()
    config = logic.encoder_config()
    find_scans(folder)

    def run(progress: TaskProgress, cancel: CancelToken) -> FolderResult:
        from CoralBayLib.features.store import Store
        from CoralBayLib.fewshot.batch import segment_folder
        from CoralBayLib.fewshot.probe import Probe
        from CoralBayLib.fewshot.segmenter import Options

        return segment_folder(
            folder,
            logic.features.encoder(config, subprogress(progress, 0, 0.1), cancel),
            Probe.load(probe) if isinstance(probe, (str, Path)) else probe,
            options=Options(threshold),
            overwrite=overwrite,
            store=Store(),
            assume_hu=config.assume_hu,
            unexpected=lambda error: logging.error("".join(traceback.format_exception(error))),
            progress=subprogress(progress, 0.1, 1),
            cancel=cancel,
        )

    return logic.worker.start(Task(run, title=_("Applying the probe to a folder"), outlives_scene=True))
