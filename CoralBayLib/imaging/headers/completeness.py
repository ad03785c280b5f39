"""Whether an image file that ITK has just written is whole; ITK often reports success on a full disk."""

from __future__ import annotations

import os
import re
from pathlib import Path

_NIFTI_HEADER = 352
"""Bytes before the voxels of a NIfTI file without extensions."""
_SIZE = re.compile(rb"^CompressedDataSize = (\d+)\r?\n(?:.*\n)*?ElementDataFile = LOCAL\r?\n", re.MULTILINE)
_MOST_HEADER = 1 << 16


def is_complete(path: Path, voxel_bytes: int) -> bool:
    """Whether a file ends where its voxels do.

    A gzip member ends with its uncompressed length modulo 2^32 (RFC 1952); MetaImage tells the compressed length.

    Args:
        path: of a compressed NRRD, NIfTI or MetaImage file, or an uncompressed NIfTI file.
        voxel_bytes: size of its voxels, uncompressed.
    """
    size, name = path.stat().st_size, path.name.lower()
    if name.endswith(".nii"):
        return size == _NIFTI_HEADER + voxel_bytes
    with path.open("rb") as file:
        if name.endswith(".mha"):
            found = _SIZE.search(file.read(_MOST_HEADER))
            return found is not None and size == found.end() + int(found[1])
        file.seek(-min(4, size), os.SEEK_END)
        unpacked = voxel_bytes + (_NIFTI_HEADER if name.endswith(".gz") else 0)
        return int.from_bytes(file.read(4), "little") == unpacked % (1 << 32)
