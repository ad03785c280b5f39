"""Headers of image files, each read and checked here before anything is allocated, and the voxels they describe."""

from __future__ import annotations

from pathlib import Path

from CoralBayLib.core.errors import VolumeError

from . import metaimage, nifti, nrrd
from .header import Header
from .source import Source

_HEAD_BYTES = 352


def looks_like_image(head: bytes) -> bool:
    """Whether the first bytes of a file, at least 352 of them, are those of a NRRD, NIfTI or MetaImage file."""
    return head.startswith(b"NRRD00") or nifti.looks_like(head) or nifti.looks_like_nifti2(head) or metaimage.looks_like(head)


def read_header(source: Source, path: Path) -> Header:
    """The header of a NRRD, NIfTI-1 or MetaImage file, told apart by their first bytes.

    Args:
        source: the bytes of the file, of which the header is read.
        path: the file, for messages and for the data file beside it.

    Raises:
        VolumeError: it is none of these, or its header cannot be right.
    """
    head = source.peek(_HEAD_BYTES)
    if head.startswith(b"NRRD00"):
        return nrrd.read_header(source, path)
    if nifti.looks_like(head):
        return nifti.read_header(source, path)
    if metaimage.looks_like(head):
        return metaimage.read_header(source, path)
    if nifti.looks_like_nifti2(head):
        raise VolumeError(f"{path.name} is a NIfTI-2 file, which is not supported. Save it as NIfTI-1 or NRRD.")
    raise VolumeError(
        f"{path.name} is not an image in a supported format. Expected NRRD, NIfTI, MetaImage (.mha, .mhd) or DICOM. If it "
        "is one of these, it is damaged: copy or download it again."
    )
