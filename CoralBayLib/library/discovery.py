"""What to embed: the scans that lie in folders."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from CoralBayLib.core.paths import error_message
from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, report
from CoralBayLib.imaging.dicom import ct_series
from CoralBayLib.imaging.grid import Volume
from CoralBayLib.imaging.volume_io import quiet_itk

SUFFIXES = (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd")
_DICOM_SUFFIXES = (".dcm", ".ima")
_SEGMENTATION = ".seg.nrrd"


@dataclass(frozen=True, eq=False)
class ScanSource:
    """A scan that may be added.

    Attributes:
        path: a file, a folder with one DICOM series, or one slice of a series in a folder with several; for a volume in
            memory whatever it is to be called.
        stamp: another one when the files have changed; tells nothing of them. Empty for a volume in memory.
        volume: the scan itself when it is in memory.
    """

    path: str
    stamp: str = ""
    volume: Volume | None = None


@dataclass(frozen=True)
class LeftOut:
    """A file that is not added.

    Attributes:
        path: of the file or folder.
        reason: in words.
    """

    path: str
    reason: str


def find_scans(
    paths: Iterable[str | os.PathLike],
    known: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> tuple[list[ScanSource], list[LeftOut]]:
    """The scans in files and folders, sub-folders included, by path; each once.

    Args:
        paths: files, and folders to search. Hidden files and folders are passed over.
        known: stamps by path, of scans whose DICOM folder need not be looked into again while it has that stamp.
        progress: told how many were found so far.
        cancel: checked after each.

    Returns:
        scans: image files that do not say that they are segmentations, and DICOM series of CT. Whether they can be read
            is not known yet.
        left_out: what looked like a scan and is none.

    Raises:
        Cancelled: `cancel` was called.
    """
    found: dict[str, ScanSource | LeftOut] = {}
    for path in paths:
        path = os.path.abspath(Path(path).expanduser())
        if os.path.isdir(path):
            for each in _walk(path, known or {}):
                raise_if_cancelled(cancel)
                found[each.path] = each
                report(progress, 0.0, f"Looking for scans: {len(found)} so far")
        elif os.path.exists(path):
            found[path] = _source(path)
        else:
            found[path] = LeftOut(path, "There is no such file or folder.")
    each_once = [found[path] for path in sorted(found)]
    return [e for e in each_once if isinstance(e, ScanSource)], [e for e in each_once if isinstance(e, LeftOut)]


def _walk(folder: str, known: Mapping[str, str]) -> Iterator[ScanSource | LeftOut]:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not name.endswith(".lance"))
        others = []
        for name in sorted(files):
            path = os.path.join(place, name)
            if name.startswith("."):
                continue
            if name.lower().endswith(_SEGMENTATION):
                yield LeftOut(path, "A segmentation, not a scan.")
            elif name.lower().endswith(SUFFIXES):
                yield _source(path)
            else:
                others.append(path)
        try:
            if any(_is_dicom(path) for path in others):
                yield from _series(place, _stamp(others), known)
        except OSError as error:
            yield LeftOut(place, f"It cannot be read: {error_message(error)}.")


def _source(path: str) -> ScanSource | LeftOut:
    try:
        return ScanSource(path, _stamp(_parts(path)))
    except OSError as error:
        return LeftOut(path, f"It cannot be read: {error_message(error)}.")


def _series(folder: str, stamp: str, known: Mapping[str, str]) -> Iterator[ScanSource | LeftOut]:
    """The scans of a folder with DICOM files."""
    if known.get(folder) == stamp:
        yield ScanSource(folder, stamp)
        return
    with quiet_itk():
        series = ct_series(Path(folder))
    if not series:
        yield LeftOut(folder, "No CT series with more than one slice among its DICOM files.")
    elif len(series) == 1:
        yield ScanSource(folder, stamp)
    else:
        for one in series:
            yield ScanSource(one.files[0], _stamp(one.files))


def _is_dicom(path: str) -> bool:
    if path.lower().endswith(_DICOM_SUFFIXES):
        return True
    with open(path, "rb") as data:
        return data.read(132)[128:] == b"DICM"


def _parts(path: str) -> list[str]:
    """The file, and for a header whose voxels are elsewhere what has the same name."""
    if not path.lower().endswith((".nhdr", ".mhd")):
        return [path]
    return sorted(glob.glob(glob.escape(os.path.splitext(path)[0]) + ".*"))


def _stamp(files: Iterable[str]) -> str:
    """A hash of names, sizes and times of change, so that neither can be read from it."""
    digest = hashlib.sha256()
    for file in files:
        status = os.stat(file)
        digest.update(f"{os.path.basename(file)}\0{status.st_size}\0{status.st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:32]
