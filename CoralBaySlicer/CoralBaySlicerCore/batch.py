"""A probe on a folder of scans, without loading them into the scene."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from CoralBayLib.errors import CoralBayError, VolumeError
from CoralBayLib.progress import CancelToken, Progress, check, part

from . import install
from .logic import CoralBaySlicerLogic
from .worker import Task

_SUFFIXES = (".nrrd", ".nii", ".nii.gz", ".mha", ".mhd")
_RESULT = ".seg.nrrd"


def scans_in(folder: str | Path) -> list[Path]:
    """The image files of a folder, and its subfolders that may hold a DICOM series; not segmentations."""
    found = []
    for path in sorted(Path(folder).iterdir()):
        name = path.name.lower()
        if (path.is_file() and name.endswith(_SUFFIXES) and not name.endswith(_RESULT)) or path.is_dir():
            found.append(path)
    return found


def applyProbeToFolderTask(logic: CoralBaySlicerLogic, probe: Any, folder: str | Path, threshold: float = 0.5) -> Task:
    """Segment every scan of a folder into `<name>.seg.nrrd` in it; the result is the list of files written.

    A file that cannot be read as a CT is passed over; the task fails when none could be.
    """
    install.ensure()
    choice, scans = logic.choice(), scans_in(folder)
    if not scans:
        raise VolumeError(_("There are no scans in this folder. Choose one with NRRD, NIfTI, MHA or DICOM."))

    def run(progress: Progress, cancel: CancelToken) -> list[str]:
        from CoralBayLib.embedding import embed
        from CoralBayLib.io import read_volume
        from CoralBayLib.segmentation import labelmap_on
        from CoralBayLib.segmentation_io import Segment, default_color, write_segmentation
        from CoralBayLib.store import Store

        encoder = logic.features.session.encoder(choice)
        written, failed = [], []
        for number, path in enumerate(scans):
            check(cancel)
            own = part(progress, number / len(scans), (number + 1) / len(scans))
            try:
                volume = read_volume(path)
                pyramid = embed(volume, encoder, part(own, 0, 0.8), cancel, store=Store(), assume_hu=choice.assume_hu)
            except VolumeError as error:
                failed.append(f"{path.name}: {error}")
                continue
            labelmap = labelmap_on(volume.grid, pyramid, probe, None, threshold, part(own, 0.8, 1), cancel)
            parts = [Segment(label, name, default_color(i)) for i, (label, name) in enumerate(probe.names_.items())]
            target = path.parent / (_stem(path) + _RESULT)
            write_segmentation(labelmap, parts, target)
            written.append(str(target))
        if not written:
            raise CoralBayError("\n".join([_("No file of the folder could be used:"), *failed]))
        return written

    return logic.worker.start(Task(run, title=_("Applying the probe")))


def _stem(path: Path) -> str:
    for suffix in sorted(_SUFFIXES, key=len, reverse=True):
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.name
