"""Scans in a folder, and where their segmentations go. Imports no torch."""

from __future__ import annotations

import os
from pathlib import Path

from CoralBayLib.core.errors import VolumeError
from CoralBayLib.core.paths import DICOM_SUFFIXES, error_message

from .formats import READABLE_SUFFIXES, SEGMENTATION_SUFFIX


def find_scans(folder: str | os.PathLike) -> list[Path]:
    """Paths in a folder that may be scans, sorted.

    These are image files except segmentations, subfolders, and the folder itself if it holds DICOM files.

    Raises:
        VolumeError: the folder does not exist, cannot be read, or holds nothing like a scan.
    """
    folder = Path(folder)
    scans: list[Path] = []
    try:
        for path in sorted(folder.iterdir()):
            name = path.name.lower()
            if name.startswith("."):
                continue
            if path.is_dir() or (name.endswith(READABLE_SUFFIXES) and not name.endswith(SEGMENTATION_SUFFIX)):
                scans.append(path)
            elif name.endswith(DICOM_SUFFIXES) and folder not in scans:
                scans.append(folder)
    except OSError as error:
        raise VolumeError(f"The folder '{folder.name}' cannot be read: {error_message(error)}. Choose another.") from error
    if not scans:
        raise VolumeError("There are no scans in this folder. Choose one with NRRD, NIfTI, MHA or DICOM.")
    return scans


def segmentation_path(scan: Path, output: str | os.PathLike) -> Path:
    """Where the segmentation of a scan goes in an output folder: `<name>.seg.nrrd`."""
    suffixes = sorted(READABLE_SUFFIXES, key=len, reverse=True)
    suffix = next((suffix for suffix in suffixes if scan.name.lower().endswith(suffix)), "")
    stem = scan.name[: -len(suffix)] if suffix and scan.is_file() else scan.name
    return Path(output) / (stem + SEGMENTATION_SUFFIX)


def existing_segmentations(folder: str | os.PathLike, output: str | os.PathLike | None = None) -> list[Path]:
    """Segmentations that would be replaced; raises as `find_scans`."""
    paths = [segmentation_path(scan, folder if output is None else output) for scan in find_scans(folder)]
    return [path for path in paths if path.exists()]
