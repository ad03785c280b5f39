"""DICOM series of a few small slices in several transfer syntaxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from CoralBayLib.imaging.volume_io import read_volume

from .elements import BIG, DEFLATED, EXPLICIT, RLE, edited_element, rewritten
from .kinds import Build, Input, of_volume

_UID = "1.2.826.0.1.3680043.2.1125.9"


def write_series(folder: Path, compressor: str = "", syntax: str = "") -> None:
    """Four slices of 16 x 20 voxels.

    Args:
        folder: an existing one.
        compressor: of SimpleITK: "JPEG" (lossless) or "JPEG2000".
        syntax: the transfer syntax in which uncompressed slices are written.
    """
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetUseCompression(bool(compressor))
    if compressor:
        writer.SetCompressor(compressor)
    array = np.random.default_rng(0).integers(-1000, 1500, (4, 16, 20)).astype(np.int16)
    for n, values in enumerate(array):
        image = sitk.GetImageFromArray(values)
        image.SetSpacing((0.7, 0.8))
        fields = {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"{_UID}.1.{n + 1}",
            "0008|0060": "CT",
            "0020|000d": _UID,
            "0020|000e": f"{_UID}.1",
            "0020|0013": str(n),
            "0020|0032": f"-100\\-80\\{30 + 2.5 * n}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0028|1052": "-3",
            "0028|1053": "1",
            "0008|0008": "ORIGINAL\\PRIMARY\\AXIAL",
        }
        for key, value in fields.items():
            image.SetMetaData(key, value)
        path = folder / f"{n}.dcm"
        writer.SetFileName(str(path))
        writer.Execute(image)
        if syntax:
            path.write_bytes(rewritten(path.read_bytes(), syntax))


def _series(compressor: str = "", syntax: str = "", edited: bool = True) -> Build:
    def build(folder: Path) -> Input:
        write_series(folder, compressor, syntax)
        files = sorted(folder.iterdir())
        edits = (edited_element,) if edited else ()
        return Input(files, lambda: of_volume(read_volume(folder)), {None: edits})

    return build


def one_file(folder: Path) -> Input:
    """A series by the name of one of its slices."""
    write_series(folder, syntax=EXPLICIT)
    path = folder / "1.dcm"
    return Input([path], lambda: of_volume(read_volume(path)), {None: (edited_element,)})


SERIES: dict[str, Build] = {
    "DICOM, implicit VR": _series(),
    "DICOM, explicit VR": _series(syntax=EXPLICIT),
    "DICOM, explicit VR, big endian": _series(syntax=BIG, edited=False),
    "DICOM, deflated": _series(syntax=DEFLATED, edited=False),
    "DICOM, JPEG lossless": _series("JPEG"),
    "DICOM, JPEG 2000": _series("JPEG2000"),
    "DICOM, RLE": _series(syntax=RLE),
    "DICOM, one file of a series": one_file,
}
