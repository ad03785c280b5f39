"""A probe on a folder of scans, without loading them into the scene."""

from __future__ import annotations

import logging
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from CoralBayLib.core.errors import Cancelled, CoralBayError, ProbeError, VolumeError
from CoralBayLib.core.paths import error_message
from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, subprogress
from CoralBaySlicerCore.setup import packages

from .worker import Task, in_words

if TYPE_CHECKING:
    from .session import Choice
    from .tasks import Tasks

SUFFIXES = (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd")
"""Of image files that are no DICOM."""
_DICOM_SUFFIXES = (".dcm", ".ima")
_RESULT = ".seg.nrrd"


@dataclass(frozen=True)
class FolderResult:
    """What has become of the scans of a folder.

    Attributes:
        written: the segmentations, by the path of the scan.
        failed: why there is none, in words, by the path of the scan.
    """

    written: dict[Path, Path]
    failed: dict[Path, str]


def scans_in(folder: str | Path) -> list[Path]:
    """What may be a scan: image files that are no segmentations, subfolders, and the folder itself if DICOM lies in it.

    Raises:
        VolumeError: the folder is gone or cannot be read.
    """
    folder, found = Path(folder), []
    try:
        for path in sorted(folder.iterdir()):
            name = path.name.lower()
            if name.startswith("."):
                continue
            if path.is_dir() or (name.endswith(SUFFIXES) and not name.endswith(_RESULT)):
                found.append(path)
            elif name.endswith(_DICOM_SUFFIXES) and folder not in found:
                found.append(folder)
    except OSError as error:
        raise VolumeError(
            _("The folder '{name}' cannot be read: {reason}. Choose another.").format(
                name=folder.name, reason=error_message(error)
            )
        ) from error
    return found


def target_of(folder: str | Path, scan: Path) -> Path:
    """Where the segmentation of a scan of a folder goes."""
    suffix = next((each for each in sorted(SUFFIXES, key=len, reverse=True) if scan.name.lower().endswith(each)), "")
    stem = scan.name[: -len(suffix)] if suffix and scan.is_file() else scan.name
    return Path(folder) / (stem + _RESULT)


def already_there(folder: str | Path) -> list[Path]:
    """Segmentations that would be replaced; raises as `scans_in`."""
    return [target for scan in scans_in(folder) if (target := target_of(folder, scan)).exists()]


def applyProbeToFolderTask(
    logic: Tasks, probe: Any, folder: str | Path, threshold: float = 0.5, overwrite: bool = False
) -> Task:
    """Segment every scan of a folder into `<name>.seg.nrrd` in it; the result is a `FolderResult`.

    What cannot be used is listed with the reason, and the rest goes on. Each file is written whole or not at all.

    Args:
        logic: whose worker computes.
        probe: the library's Probe, or the path of one.
        folder: with NRRD, NIfTI or MHA files, or subfolders with a DICOM series each.
        threshold: probability from 0 to 1.
        overwrite: whether segmentations that are there already are replaced.

    Raises:
        VolumeError: the folder cannot be read, or there is nothing like a scan in it.
    """
    packages.ensure()
    choice, scans = logic.choice(), scans_in(folder)
    if not scans:
        raise VolumeError(_("There are no scans in this folder. Choose one with NRRD, NIfTI, MHA or DICOM."))

    def run(progress: Progress, cancel: CancelToken) -> FolderResult:
        from CoralBayLib.fewshot.probe import Probe

        fitted = Probe.load(probe) if isinstance(probe, (str, Path)) else probe
        encoder = logic.features.encoder(choice, subprogress(progress, 0, 0.1), cancel)
        result = FolderResult({}, {})
        for number, scan in enumerate(scans):
            raise_if_cancelled(cancel)
            own = subprogress(progress, 0.1 + 0.9 * number / len(scans), 0.1 + 0.9 * (number + 1) / len(scans))
            target = target_of(folder, scan)
            try:
                if target in result.written.values() or (target.exists() and not overwrite):
                    raise CoralBayError(_("{name} is there already. Rename or remove it.").format(name=target.name))
                _segment(scan, target, encoder, fitted, threshold, choice, own, cancel)
            except (Cancelled, ProbeError):
                # Neither is the fault of this scan, and the next would meet with the same.
                raise
            except Exception as error:  # whatever is wrong with one scan, the others have a right to be tried
                if not isinstance(error, CoralBayError):
                    logging.error(traceback.format_exc())
                result.failed[scan] = in_words(error)
            else:
                result.written[scan] = target
        return result

    return logic.worker.start(Task(run, title=_("Applying the probe to a folder")))


def _segment(
    scan: Path,
    target: Path,
    encoder: Any,
    probe: Any,
    threshold: float,
    choice: Choice,
    progress: Progress | None,
    cancel: CancelToken,
) -> None:
    from CoralBayLib.features.embedding import embed
    from CoralBayLib.features.store import Store
    from CoralBayLib.fewshot.segmentation import labelmap_on
    from CoralBayLib.fewshot.transfer import for_scan
    from CoralBayLib.imaging.palette import label_color
    from CoralBayLib.imaging.segmentation_io import Segment, write_segmentation
    from CoralBayLib.imaging.volume_io import read_volume

    _require_readable(scan)
    volume = read_volume(scan)
    pyramid = embed(volume, encoder, subprogress(progress, 0, 0.8), cancel, store=Store(), assume_hu=choice.assume_hu)
    fitted = for_scan(probe, pyramid)
    touched = fitted.prompts_ if fitted is not probe else None
    labelmap = labelmap_on(volume.grid, pyramid, fitted, touched, threshold, subprogress(progress, 0.8, 1), cancel)
    parts = [Segment(label, name, label_color(label)) for label, name in probe.names_.items()]
    raise_if_cancelled(cancel)
    write_segmentation(labelmap, parts, target)


def _require_readable(scan: Path) -> None:
    # A reader would call such a file damaged.
    try:
        if scan.is_dir():
            next(scan.iterdir(), None)
        else:
            scan.open("rb").close()
    except OSError as error:
        raise VolumeError(_("It cannot be read: {reason}.").format(reason=error_message(error))) from error
