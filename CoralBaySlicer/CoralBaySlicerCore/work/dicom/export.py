"""Segments as a DICOM SEG file that refers to the slices that the scan was loaded from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import slicer
from slicer.i18n import tr as _

from CoralBayLib.core.errors import VolumeError
from CoralBayLib.core.progress import CancelToken
from CoralBayLib.imaging.formats import READABLE_SUFFIXES
from CoralBayLib.imaging.grid import Grid, Volume
from CoralBaySlicerCore.scene import masks, segments, volumes
from CoralBaySlicerCore.scene.masks import Masks
from CoralBaySlicerCore.setup import packages
from CoralBaySlicerCore.work.compute.masks import masks_on
from CoralBaySlicerCore.work.worker import Task, TaskProgress

from .database import series_path

if TYPE_CHECKING:
    from CoralBaySlicerCore.work.tasks import Tasks


def exportTask(
    tasks: Tasks, volume: slicer.vtkMRMLScalarVolumeNode, segmentation: slicer.vtkMRMLSegmentationNode, path: str | Path
) -> Task:
    """Write the segments of a segmentation as DICOM SEG; the result is the path.

    Args:
        tasks: of the module.
        volume: the scan, loaded from DICOM.
        segmentation: in the space of the scan; its segments must not overlap.
        path: ends in `.dcm`.

    Raises:
        VolumeError: the scan was not loaded from DICOM, its files are gone, or there is no segment.
    """
    source, encoder = source_of(volume), tasks.encoder_config().encoder
    labels = {segment_id: n for n, segment_id in enumerate(segments.ids(segmentation), start=1)}
    if not labels:
        raise VolumeError(_("The segmentation '{name}' has no segments.").format(name=segmentation.GetName()))
    inner = segmentation.GetSegmentation()
    described = [(labels[each], inner.GetSegment(each).GetName(), inner.GetSegment(each).GetColor()) for each in labels]
    found = masks.read(volume, [], [(segmentation, labels)])
    packages.ensure(packages.DICOM)

    def run(progress: TaskProgress, cancel: CancelToken) -> Path:
        from CoralBayLib.imaging.segmentation_io import Segment
        from CoralBayLib.imaging.segmentations.dicom_seg import require_dicom, write_dicom_seg

        _files, grid = require_dicom(source)
        labelmap = _labelmap(found, grid)
        listed = [Segment(label, name, (red, green, blue)) for label, name, (red, green, blue) in described]
        write_dicom_seg(labelmap, listed, path, source, encoder=encoder, cancel=cancel)
        return Path(path)

    return tasks.worker.start(Task(run, title=_("Writing DICOM"), outlives_scene=True))


def source_of(volume: slicer.vtkMRMLScalarVolumeNode) -> str:
    """The path that stands for the DICOM series of a volume.

    Raises:
        VolumeError: it was not loaded from DICOM, or its files are gone.
    """
    uids, database = (volume.GetAttribute("DICOM.instanceUIDs") or "").split(), getattr(slicer, "dicomDatabase", None)
    if uids and database is not None:
        files = [database.fileForInstance(uid) for uid in uids]
    else:
        files = [file for file in volumes.files_of(volume) if not file.lower().endswith(READABLE_SUFFIXES)]
    if not files:
        raise VolumeError(
            _(
                "The volume '{name}' was not loaded from DICOM. A DICOM segmentation refers to the slices that it was made "
                "on: load the scan with Slicer's DICOM module."
            ).format(name=volume.GetName())
        )
    if not all(file and Path(file).is_file() for file in files):
        raise VolumeError(
            _("Slices of the volume '{name}' are no longer in the DICOM database. Import them again.").format(
                name=volume.GetName()
            )
        )
    return series_path(files)


def _labelmap(found: Masks | None, grid: Grid) -> Volume:
    """The labels of all segments on the grid of the series.

    Raises:
        VolumeError: segments overlap.
    """
    array = np.zeros(grid.shape, np.uint16)
    for piece in found.start if found is not None else ():
        _locked, part = masks_on(Masks((), (piece,), ()), grid)
        if part is None:
            continue
        shared = int(np.count_nonzero(array[part.array > 0]))
        if shared:
            raise VolumeError(
                _(
                    "Segments overlap in {count} voxels. Separate them first, with Logical operators in the Segment Editor, "
                    "or use the DICOM export of Slicer's Data module."
                ).format(count=shared)
            )
        array += part.array
    return Volume(array, grid)
