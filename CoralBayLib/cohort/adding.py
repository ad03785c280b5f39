"""Adding scans to a cohort, and finding those that were moved. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from CoralBayLib.core.errors import StoreError
from CoralBayLib.core.paths import error_message, expand
from CoralBayLib.core.progress import CancelToken, Progress
from CoralBayLib.imaging.discovery import Skipped, find_scans
from CoralBayLib.imaging.formats import READABLE_SUFFIXES
from CoralBayLib.imaging.grid import Volume
from CoralBayLib.imaging.volume_io import write_volume

from .description import Description, ScanEntry, safe_name

_PLAIN_NAMES = ("ct", "image", "scan", "volume", "dicom", "series")
"""Names of files that say nothing; the folder's name is taken instead."""


def with_scans(
    description: Description,
    folder: Path,
    paths: Iterable[str | os.PathLike],
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> tuple[Description, list[ScanEntry], list[Skipped]]:
    """A cohort with more scans.

    Args:
        description: of the cohort.
        folder: of the cohort; what it has written itself is not taken for a scan.
        paths: files and folders, see `imaging.discovery.find_scans`.
        progress: called with a message that has the number of scans found so far.
        cancel: checked after each scan.

    Returns:
        The new description, the scans that are new in it, and what was left out.

    Raises:
        Cancelled: `cancel` was called.
    """
    found, skipped = find_scans(paths, progress=progress, cancel=cancel)
    known = {_identity(path) for scan in description.scans if (path := scan.locate(folder)) is not None}
    taken = {scan.name.casefold() for scan in description.scans}
    added: list[ScanEntry] = []
    for source in found:
        path = Path(source.path)
        if _identity(path) in known:
            continue
        if path.name.lower().startswith("labels.") and path.is_file():
            skipped.append(Skipped(source.path, "Labels by their name, not a scan.", is_fault=False))
            continue
        known.add(_identity(path))
        name = _unique(_name_of(path), taken)
        taken.add(name.casefold())
        added.append(ScanEntry(name, _relative(path, folder), str(path)))
    return replace(description, scans=(*description.scans, *added)), added, skipped


def with_volume(description: Description, folder: Path, volume: Volume, name: str) -> tuple[Description, ScanEntry]:
    """A cohort with one more scan, whose voxels are written into the cohort's folder.

    Raises:
        StoreError: it cannot be written.
    """
    name = _unique(safe_name(name), {scan.name.casefold() for scan in description.scans})
    path = folder / "volumes" / f"{name}.nrrd"
    try:
        path.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise StoreError(f"The folder {path.parent} cannot be made: {error_message(error)}.") from error
    write_volume(volume, path)
    entry = ScanEntry(name, _relative(path, folder), str(path))
    return replace(description, scans=(*description.scans, entry)), entry


def relocated(description: Description, folder: Path, where: str | os.PathLike) -> tuple[Description, list[str], list[str]]:
    """A cohort with the new places of scans that were moved.

    A scan is looked for by the end of its path: the file's name, and the names of as many folders above it as it takes to
    tell it from others of the same name.

    Args:
        description: of the cohort.
        folder: of the cohort.
        where: the folder in which the scans are now.

    Returns:
        The new description, the names of the scans that were found, and of those that are still missing.
    """
    root = Path(os.path.abspath(expand(where)))  # noqa: PTH100 - normalizes "..", keeps symbolic links
    by_name: dict[str, list[Path]] = {}
    for parent, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in (*folders, *files):
            by_name.setdefault(name, []).append(Path(parent, name))
    by_name.setdefault(root.name, []).append(root)
    scans: list[ScanEntry] = []
    found: list[str] = []
    missing: list[str] = []
    for scan in description.scans:
        place = scan.locate(folder)
        if place is None:
            place = _best(Path(scan.absolute), by_name.get(Path(scan.absolute).name, []))
            (missing if place is None else found).append(scan.name)
            scan = scan if place is None else replace(scan, path=_relative(place, folder), absolute=str(place))
        scans.append(scan)
    return replace(description, scans=tuple(scans)), found, missing


def _best(old: Path, candidates: list[Path]) -> Path | None:
    """The candidate whose path has the most last parts in common with the old one; None if two are equally good."""

    def common(path: Path) -> int:
        pairs = zip(reversed(path.parts), reversed(old.parts), strict=False)
        return next((n for n, (one, other) in enumerate(pairs) if one != other), min(len(path.parts), len(old.parts)))

    ranked = sorted(candidates, key=common, reverse=True)
    if len(ranked) > 1 and common(ranked[0]) == common(ranked[1]):
        return None
    return ranked[0] if ranked else None


def _identity(path: Path) -> str:
    return os.path.normcase(os.path.realpath(path))


def _relative(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive
        return str(path)


def _name_of(path: Path) -> str:
    """A short name: of the file, or of its folder where the file is one of a series, or has a name such as ct.nrrd."""
    suffixes = sorted(READABLE_SUFFIXES, key=len, reverse=True)
    suffix = next((each for each in suffixes if path.name.lower().endswith(each)), "")
    stem = path.name[: -len(suffix)] if suffix and not path.is_dir() else path.name
    is_slice = not suffix and path.is_file()
    return safe_name(path.parent.name if is_slice or stem.lower() in _PLAIN_NAMES else stem)


def _unique(name: str, taken: set[str]) -> str:
    candidate, number = name, 2
    while candidate.casefold() in taken:
        candidate, number = f"{name}-{number}", number + 1
    return candidate
