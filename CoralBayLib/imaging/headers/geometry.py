"""The geometry that a header describes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from CoralBayLib.core.errors import VolumeError
from CoralBayLib.core.paths import error_message
from CoralBayLib.imaging.grid import LPS_TO_RAS, Grid

from .header import Header


def require_3d(header: Header, layers: bool) -> None:
    """Check that a header is that of one 3D image.

    Args:
        header: of a file.
        layers: whether several values per voxel are allowed, such as the layers of a Slicer segmentation.

    Raises:
        VolumeError: it is a 2D image, a time series, or has several values per voxel.
    """
    size, name = header.size, header.name
    if len(size) < 3 or (len(size) == 3 and size[2] == 1):
        raise VolumeError(f"{name} is a single 2D image ({_by(size)}). Expected a 3D volume: choose the whole series.")
    if any(n > 1 for n in size[3:]):
        raise VolumeError(
            f"{name} is a time series or has several volumes ({_by(size)}). Expected one 3D volume: in Slicer, open it "
            "as a sequence and save one of its frames."
        )
    if header.components > 1 and not layers:
        raise VolumeError(
            f"{name} has {header.components} values per voxel (color, vectors or several layers). Expected one: a CT in HU, "
            "or a labelmap exported as a single layer."
        )


def grid_of(header: Header) -> Grid:
    """The geometry in RAS mm, from ITK, which sees a temporary file with checked fields, no voxels and no file beside it.

    Raises:
        VolumeError: ITK cannot read the header, such as that of NIfTI with sheared axes.
    """
    handle, name = tempfile.mkstemp(suffix=header.suffix)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(header.text)
        reader = sitk.ImageFileReader()
        reader.SetFileName(name)
        try:
            reader.ReadImageInformation()
        except RuntimeError as error:
            raise _unreadable(header.name, error) from error
    finally:
        Path(name).unlink(missing_ok=True)
    axes = reader.GetDimension()
    direction = np.array(reader.GetDirection()).reshape(axes, axes)[:3, :3]
    lps = np.eye(4)
    lps[:3, :3], lps[:3, 3] = direction * np.array(reader.GetSpacing()[:3]), reader.GetOrigin()[:3]
    i, j, k = header.size[:3]
    return Grid((k, j, i), LPS_TO_RAS @ lps)


def _unreadable(name: str, error: RuntimeError) -> VolumeError:
    if "orthonormal" in str(error):
        return VolumeError(
            f"{name} has sheared or non-orthogonal axes, which ITK's NIfTI reader does not support. Open it in "
            "Slicer, resample it (Resample Scalar/Vector/DWI Volume, or harden its transform) and save it as NRRD."
        )
    return VolumeError(f"The header of {name} could not be read ({error_message(error)}). Copy or download the file again.")


def _by(numbers: Iterable[float]) -> str:
    return " x ".join(f"{n:g}" for n in numbers)
