"""Applies a probe to all scans of a folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from CoralBayLib.core.errors import Cancelled, CoralBayError, ProbeError, Remedy, VolumeError
from CoralBayLib.core.paths import error_message
from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, subprogress
from CoralBayLib.encoders.base import Encoder
from CoralBayLib.features.embedding import embed
from CoralBayLib.features.store import Store
from CoralBayLib.imaging.palette import label_color
from CoralBayLib.imaging.scan_folders import find_scans, segmentation_path
from CoralBayLib.imaging.segmentation_io import Segment, write_segmentation
from CoralBayLib.imaging.volume_io import read_volume

from .options import Options
from .probe import Probe
from .segmenter import Segmenter


@dataclass(frozen=True)
class FolderResult:
    """Result for the scans of a folder.

    Attributes:
        written: path of the segmentation, by path of the scan.
        failed: the error of a scan that could not be segmented, by path of the scan.
    """

    written: dict[Path, Path] = field(default_factory=dict)
    failed: dict[Path, Exception] = field(default_factory=dict)


def segment_folder(
    folder: str | os.PathLike,
    encoder: Encoder,
    probe: Probe,
    *,
    output: str | os.PathLike | None = None,
    options: Options | None = None,
    overwrite: bool = False,
    store: Store | None = None,
    assume_hu: bool = False,
    unexpected: Callable[[Exception], None] | None = None,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> FolderResult:
    """Segment every scan of a folder into `<name>.seg.nrrd`, with a probe that is adapted to each.

    A scan that cannot be segmented is listed with its error, and the others continue. Files are never written in part.

    Args:
        folder: with NRRD, NIfTI or MHA files, or subfolders with one DICOM series each.
        encoder: the one that the probe was made with.
        probe: a fitted probe.
        output: folder for the segmentations, which is created if necessary; the folder of the scans by default.
        options: threshold and whether to keep connected components only.
        overwrite: whether existing segmentations are replaced; otherwise their scans are listed as failed.
        store: where features are kept, or None.
        assume_hu: skip the check that the values look like HU.
        unexpected: called with errors that are not `CoralBayError`s, to log them.
        progress: called with the fraction done and a message.
        cancel: checked between steps.

    Raises:
        VolumeError: the folder cannot be read or holds no scan.
        ProbeError: the probe was made for other features.
        Cancelled: `cancel` was called.
    """
    scans = find_scans(folder)
    target_folder = Path(folder if output is None else output)
    target_folder.mkdir(parents=True, exist_ok=True)
    result = FolderResult()
    for number, scan in enumerate(scans):
        raise_if_cancelled(cancel)
        part = subprogress(progress, number / len(scans), (number + 1) / len(scans))
        target = segmentation_path(scan, target_folder)
        try:
            if target in result.written.values():
                raise CoralBayError(f"{target.name} was written for another scan of the same name. Rename one of the scans.")
            if target.exists() and not overwrite:
                raise CoralBayError(f"{target.name} exists already.", remedy=Remedy.OVERWRITE)
            _require_readable(scan)
            volume = read_volume(scan)
            pyramid = embed(volume, encoder, subprogress(part, 0, 0.8), cancel, store=store, assume_hu=assume_hu)
            segmenter = Segmenter(pyramid, probe).fit()
            labelmap = segmenter.labelmap(volume.grid, options, subprogress(part, 0.8, 1), cancel)
            segments = [Segment(label, name, label_color(label)) for label, name in probe.names_.items()]
            raise_if_cancelled(cancel)
            write_segmentation(labelmap, segments, target)
        except (Cancelled, ProbeError):
            # Not caused by this scan; all others would fail in the same way.
            raise
        except Exception as error:  # an error of one scan must not stop the others
            if not isinstance(error, CoralBayError) and unexpected is not None:
                unexpected(error)
            result.failed[scan] = error
        else:
            result.written[scan] = target
    return result


def _require_readable(scan: Path) -> None:
    # The error of a reader would say that the file is damaged.
    try:
        if scan.is_dir():
            next(scan.iterdir(), None)
        elif stat.S_ISREG(scan.stat().st_mode):  # opening a pipe waits for ever
            scan.open("rb").close()
    except OSError as error:
        raise VolumeError(f"It cannot be read: {error_message(error)}.") from error
