"""Which scans a folder contains."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from CoralBayLib.core.errors import VolumeError
from CoralBayLib.core.paths import error_message, expand, looks_like_dicom, printable
from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, report

from .dicom import ct_series, modalities_in
from .formats import READABLE_SUFFIXES, SEGMENTATION_SUFFIX
from .grid import Volume
from .volume_io import quiet_itk

_DETACHED_HEADERS = (".nhdr", ".mhd")
"""Headers whose voxels are in another file of the same name."""


@dataclass(frozen=True, eq=False)
class ScanSource:
    """A scan that may be added.

    Attributes:
        path: a file, a folder with one DICOM series, or one slice of a series in a folder with several; for a volume in
            memory its name.
        fingerprint: hash of the files' names, sizes and modification times; empty for a volume in memory.
        volume: the scan itself if it is in memory.
    """

    path: str
    fingerprint: str = ""
    volume: Volume | None = None


@dataclass(frozen=True)
class Skipped:
    """A file or folder that is not added.

    Attributes:
        path: of the file or folder.
        reason: a sentence.
        is_fault: whether it ought to be a scan and cannot be used; False for segmentations, scouts and reports.
    """

    path: str
    reason: str
    is_fault: bool = True


def find_scans(
    paths: Iterable[str | os.PathLike],
    known: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> tuple[list[ScanSource], list[Skipped]]:
    """The scans in files and folders, including subfolders, each once and sorted by path.

    Args:
        paths: files, and folders to search. Hidden files and folders are ignored.
        known: fingerprints by path; a DICOM folder that still has its fingerprint is not read again.
        progress: called with a message that has the number of scans found so far.
        cancel: checked after each scan.

    Returns:
        scans: image files that are not named as segmentations, and DICOM series of CT. Whether they can be read is not
            known yet.
        skipped: files and folders that are not scans although they look like it.

    Raises:
        Cancelled: `cancel` was called.
    """
    found: dict[str, ScanSource | Skipped] = {}
    for source in iter_scans(paths, known):
        raise_if_cancelled(cancel)
        found[source.path] = _storable(source)
        report(progress, 0.0, f"Looking for scans: {len(found)} so far")
    by_path = [found[path] for path in sorted(found)]
    return [e for e in by_path if isinstance(e, ScanSource)], [e for e in by_path if isinstance(e, Skipped)]


def iter_scans(paths: Iterable[str | os.PathLike], known: Mapping[str, str] | None = None) -> Iterator[ScanSource | Skipped]:
    """The scans in files and folders as they are found, see `find_scans`.

    A scan comes twice when it lies in two of the paths. Paths are as they are on the disk, also those that are not UTF-8.
    """
    for each in paths:
        path = os.path.abspath(expand(each))  # noqa: PTH100 - normalizes "..", keeps symbolic links
        if os.path.isdir(path):  # noqa: PTH112 - False where access is denied; pathlib raises
            yield from _walk(path, known or {})
        elif os.path.exists(path):  # noqa: PTH110 - False where access is denied; pathlib raises
            yield _source(path)
        else:
            yield Skipped(path, "There is no such file or folder.")


def _storable(source: ScanSource | Skipped) -> ScanSource | Skipped:
    """The scan, unless the library cannot store its path."""
    path = printable(source.path)
    if path == source.path:
        return source
    if isinstance(source, Skipped):
        return replace(source, path=path)
    return Skipped(path, "Its name, or that of a folder it is in, is not UTF-8. Rename it.")


def _walk(root: str, known: Mapping[str, str]) -> Iterator[ScanSource | Skipped]:
    unreadable: list[OSError] = []
    for folder, subfolders, files in os.walk(root, onerror=unreadable.append):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith(".") and not name.endswith(".lance"))
        others = []
        for name in sorted(files):
            if name.startswith(".") or name.upper() == "DICOMDIR":  # the list of files on a CD
                continue
            path = str(Path(folder, name))
            if not os.path.isfile(path) and os.path.exists(path):  # noqa: PTH110, PTH113 - False where access is denied
                yield Skipped(path, "A device or a pipe, not a file.", is_fault=False)
                continue
            if name.lower().endswith(SEGMENTATION_SUFFIX):
                yield Skipped(path, "A segmentation, not a scan.", is_fault=False)
            elif name.lower().endswith(READABLE_SUFFIXES):
                yield _source(path)
            else:
                others.append(path)
        try:
            if any(looks_like_dicom(Path(path)) for path in others):
                yield from _series(folder, fingerprint(others), known)
        except OSError as error:
            yield Skipped(folder, f"It cannot be read: {error_message(error)}.")
    for refusal in unreadable:
        yield Skipped(os.fspath(refusal.filename), f"It cannot be read: {error_message(refusal)}.")


def _source(path: str) -> ScanSource | Skipped:
    try:
        return ScanSource(path, fingerprint(_parts(path)))
    except OSError as error:
        return Skipped(path, f"It cannot be read: {error_message(error)}.")


def _series(folder: str, current: str, known: Mapping[str, str]) -> Iterator[ScanSource | Skipped]:
    """The scans of a folder with DICOM files whose fingerprint is `current`."""
    if known.get(folder) == current:
        yield ScanSource(folder, current)
        return
    try:
        with quiet_itk():
            found = ct_series(Path(folder))
    except VolumeError as error:
        yield Skipped(folder, str(error))
        return
    series = [each for each in found if not each.no_scan]
    if not series:
        modalities = modalities_in(Path(folder))
        if modalities == {"SEG"}:
            yield Skipped(folder, "DICOM segmentations without a scan.", is_fault=False)
        elif modalities:
            yield Skipped(folder, "No CT series with more than one slice among its DICOM files.")
        else:
            yield Skipped(folder, "DICOM files without voxels, such as a report or a structure set.", is_fault=False)
    elif len(series) == 1:
        yield ScanSource(folder, current)
    else:
        for each in series:
            yield ScanSource(each.files[0], fingerprint(each.files))
    for each in found:
        if each.no_scan and series:
            yield Skipped(each.files[0], each.no_scan, is_fault=False)


def _parts(path: str) -> list[str]:
    """The file; for a header whose voxels are in another file, all files of the same name."""
    if not path.lower().endswith(_DETACHED_HEADERS):
        return [path]
    header = Path(path)
    return sorted(str(each) for each in header.parent.iterdir() if each.name.startswith(f"{header.stem}."))


def fingerprint(files: Iterable[str]) -> str:
    """A hash of names, sizes and modification times, from which none of them can be recovered."""
    digest = hashlib.sha256()
    for file in files:
        path, status = Path(file), Path(file).stat()
        digest.update(f"{path.name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:32]
