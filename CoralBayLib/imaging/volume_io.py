"""Volumes to and from files.

NRRD, NIfTI-1 and MetaImage are read here: every header field is checked before memory is allocated, every checksum is
compared, and values are as they are in the file. SimpleITK reads DICOM, and writes all formats. ITK's space is LPS millimeters
(+x to the patient's left, +y to the back), CoralBay's is RAS: the first two rows of a matrix change their sign
(`grid.LPS_TO_RAS`) where it comes from ITK or goes to it.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from CoralBayLib.core.errors import StoreError, VolumeError
from CoralBayLib.core.paths import atomic_write, error_message, expand, printable

from .dicom import read_series
from .facts import FileFacts
from .formats import READABLE_SUFFIXES, WRITABLE_SUFFIXES
from .grid import LPS_TO_RAS, Grid, Volume
from .headers import looks_like_image, read_header
from .headers.completeness import is_complete
from .headers.geometry import grid_of, require_3d
from .headers.header import Header
from .headers.source import open_source
from .hounsfield import check_ct, slabs, value_range
from .segments.dicom_reader import is_dicom_file, read_dicom_seg

__all__ = ["check_ct", "read_labelmap", "read_volume", "write_volume"]

_INT16 = np.iinfo(np.int16)


def read_volume(path: str | os.PathLike, series: str | None = None, facts: FileFacts | None = None) -> Volume:
    """Read one 3D image.

    Args:
        path: a NRRD, NIfTI or MetaImage file, a folder of DICOM slices, or one file of a DICOM series.
        series: the DICOM SeriesInstanceUID to read when a folder holds several.
        facts: takes what reading tells of the files, also when it fails; without it, warnings say what was left out.

    Returns:
        The volume, indexed [k, j, i] in the file's own voxel order: int16 where every value is whole and fits,
        otherwise float32.

    Raises:
        VolumeError: the file is missing, empty or damaged, is not a 3D single-channel image, or its geometry cannot be
            used.
    """
    path = require_file(path)
    with quiet_itk():
        if path.is_dir() or _is_dicom(path):
            array, grid = read_series(path, series, facts)
        elif series:
            raise VolumeError(
                f"{path.name} is not a DICOM file, so it has no series {series[:70]}. Choose a folder, or leave it out."
            )
        else:
            array, grid, _ = read_image(path, facts=facts)
    return Volume(_as_int16_or_float32(array), grid)


def read_labelmap(path: str | os.PathLike) -> Volume:
    """Read a 3D labelmap; returns uint8, int16 or int32, the smallest that holds its labels.

    Of a DICOM SEG the labels are the numbers of its segments; see `read_segmentation`.

    Raises:
        VolumeError: as `read_volume`; or the values are not whole numbers of 0 or more; or segments of a DICOM SEG overlap.
    """
    path = require_file(path)
    with quiet_itk():
        if is_dicom_file(path):
            return read_dicom_seg(path)[0]
        array, grid, _ = read_image(path)
    return Volume(as_labels(array, path.name), grid)


def read_grid(path: str | os.PathLike) -> Grid:
    """Read the geometry of an image; of a file only its header.

    Raises:
        VolumeError: as `read_volume`, except for what is wrong with the voxels.
    """
    path = require_file(path)
    if path.is_dir() or _is_dicom(path):
        return read_volume(path).grid
    try:
        with quiet_itk(), path.open("rb") as file:
            header = read_header(open_source(path, file), path)
            require_3d(header, False)
            return grid_of(header)
    except OSError as error:
        raise VolumeError(
            f"{path.name} could not be read ({error_message(error)}). Copy it again, or choose another."
        ) from error


def write_volume(volume: Volume, path: str | os.PathLike) -> None:
    """Write a volume, compressed, as NRRD, NIfTI-1 or MetaImage by the suffix (`.nrrd`, `.nii`, `.nii.gz`, `.mha`).

    Raises:
        VolumeError: an unknown suffix, or NIfTI for a sheared grid, whose shear ITK would silently discard.
        StoreError: the file could not be written; an existing one is unchanged.
    """
    path = Path(path)
    name = path.name.lower()
    if not name.endswith(WRITABLE_SUFFIXES):
        raise VolumeError(f"Cannot tell the format from the name {path.name}. Use one of {', '.join(WRITABLE_SUFFIXES)}.")
    image = to_itk(volume)
    require_storable(volume.grid, path)
    write_image(image, path)


def write_image(image: sitk.Image, path: Path) -> None:
    """Write an ITK image, compressed, by the suffix of the file.

    Raises:
        StoreError: the file could not be written; an existing one is unchanged.
    """
    voxel_bytes = image.GetNumberOfPixels() * image.GetSizeOfPixelComponent()
    with quiet_itk(), atomic_write(path) as temporary:
        sitk.WriteImage(image, str(temporary), useCompression=True)
        if not is_complete(temporary, voxel_bytes):
            raise StoreError(
                f"Could not write {path}: the disk is full or a size limit was reached. Nothing was changed. "
                "Free some space, or choose another folder."
            )


def require_storable(grid: Grid, path: str | os.PathLike) -> None:
    """Check that the format of a file, by its suffix, can store a grid; before anything is computed for it.

    Raises:
        VolumeError: NIfTI for a sheared grid.
    """
    path = Path(path)
    axes = grid.ijk_to_ras[:3, :3] / grid.spacing_mm
    if path.name.lower().endswith((".nii", ".nii.gz")) and np.abs(axes.T @ axes - np.eye(3)).max() > 1e-4:
        raise VolumeError(f"{path.name}: the volume's axes are sheared, which NIfTI cannot store. Write .nrrd or .mha instead.")


def to_itk(volume: Volume) -> sitk.Image:
    """The volume as an ITK image in LPS. Shear goes into the direction matrix, whose columns have unit length."""
    array = volume.array
    if array.dtype == bool:
        array = array.astype(np.uint8)
    elif array.dtype == np.float16:
        array = array.astype(np.float32)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    lps = LPS_TO_RAS @ volume.grid.ijk_to_ras
    spacing = volume.grid.spacing_mm
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def read_image(path: Path, layers: bool = False, facts: FileFacts | None = None) -> tuple[NDArray, Grid, dict[str, str]]:
    """Read a file with one 3D image, without changing its values.

    Args:
        path: an existing file.
        layers: whether several values per voxel are allowed, such as the layers of a Slicer segmentation.
        facts: takes what reading tells of the file, also when it fails.

    Returns:
        array: [k, j, i], or [k, j, i, layer] for several layers.
        grid: its geometry.
        metadata: the fields of the header, as text.

    Raises:
        VolumeError: the file cannot be read, is damaged, or is not one 3D image.
    """
    quiet = facts is not None
    facts = FileFacts() if facts is None else facts
    try:
        with path.open("rb") as file:
            source = open_source(path, file)
            header = read_header(source, path)
            _note(facts, header, path, source.encoding)
            require_3d(header, layers)
            grid = facts.grid = grid_of(header)
            on_disk = path.stat().st_size
            array = header.read(source, on_disk - file.tell() + source.ahead if source.raw else None, on_disk)
    except OSError as error:
        raise VolumeError(
            f"{path.name} could not be read ({error_message(error)}). Copy it again, or choose another."
        ) from error
    facts.complete = True
    for note in () if quiet else header.notes:
        warnings.warn(note, stacklevel=3)
    return array, grid, header.fields


def _note(facts: FileFacts, header: Header, path: Path, encoding: str) -> None:
    """Note what a header says; `encoding` is that of the whole file."""
    inner = header.encoding if header.encoding in ("gzip", "bzip2") else ""
    facts.format, facts.size_ijk, facts.value_type = header.format, header.size, header.dtype.name
    # MetaImage deflates its voxels without the header of gzip.
    facts.compression = encoding or ("zlib" if inner == "gzip" and header.suffix == ".mha" else inner)
    facts.notes += header.notes
    facts.bytes = sum(each.stat().st_size for each in (path, *header.files) if each.is_file())


@contextmanager
def quiet_itk() -> Iterator[None]:
    """Keep ITK's warnings off the console; faults that matter are raised as errors."""
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)


def data_files_of(path: str | os.PathLike) -> tuple[Path, ...]:
    """The files beside an image file that hold its voxels; none where it holds them itself, or cannot be read."""
    path = expand(path)
    try:
        if not path.is_file():
            return ()
        with path.open("rb") as file:
            return read_header(open_source(path, file), path).files
    except (OSError, ValueError, VolumeError):
        return ()


def require_file(path: str | os.PathLike) -> Path:
    """The path, with `~` expanded.

    Raises:
        VolumeError: there is no file or folder, or the file is empty.
    """
    try:
        path = Path(path).expanduser()
        if not path.exists():
            raise VolumeError(f"There is no file or folder {printable(path)}. Check the path.")
        if not path.is_file() and not path.is_dir():  # opening a pipe waits for ever
            raise VolumeError(f"{printable(path)} is a device or a pipe, not a file. Choose a file or a folder.")
        empty = path.is_file() and path.stat().st_size == 0
    except (OSError, RuntimeError, ValueError) as error:  # too long, with a null character, or `~` without a home
        if isinstance(error, VolumeError):
            raise
        shown = printable(path)
        shown = shown if len(shown) <= 80 else f"{shown[:40]}...{shown[-20:]}"
        raise VolumeError(f"The path {shown} cannot be used ({error_message(error)}). Choose another.") from error
    if empty:
        raise VolumeError(f"{path.name} is empty (0 bytes). Copy or download it again.")
    return path


def as_labels(array: NDArray, name: str) -> NDArray:
    """Labels in the smallest of uint8, int16 and int32 that holds them.

    Raises:
        VolumeError: the values are not whole numbers of 0 or more.
    """
    low, high = value_range(array)
    whole = array.dtype.kind in "iub" or all(np.array_equal(slab, np.rint(slab)) for slab in slabs(array))
    if low < 0 or high > np.iinfo(np.int32).max or not whole:
        raise VolumeError(
            f"{name} is not a labelmap. Expected whole numbers of 0 or more, got values from {low:g} to {high:g}"
            f"{'' if whole else ' with fractions'}. Export the segmentation as a labelmap, or choose another file."
        )
    smallest = next(kind for kind in (np.uint8, np.int16, np.int32) if high <= np.iinfo(kind).max)
    return array.astype(smallest, copy=False)


def _is_dicom(path: Path) -> bool:
    """By its first bytes; a DICOM file without a preamble is known to GDCM alone."""
    try:
        with path.open("rb") as file:
            head = file.read(352)
    except OSError as error:
        raise VolumeError(f"{path.name} could not be read ({error_message(error)}). Choose another file.") from error
    if head[128:132] == b"DICM":
        return True
    if looks_like_image(head) or path.name.lower().endswith(READABLE_SUFFIXES) or printable(path) != str(path):
        return False
    kind = sitk.ImageFileReader.GetImageIOFromFileName(str(path))
    if kind and kind not in ("GDCMImageIO", "NrrdImageIO", "NiftiImageIO", "MetaImageIO"):
        raise VolumeError(
            f"{path.name} is a 2D picture or has another format ({kind.removesuffix('ImageIO')}). Expected a 3D volume as "
            "NRRD, NIfTI, MetaImage (.mha, .mhd) or DICOM."
        )
    return kind == "GDCMImageIO"


def _as_int16_or_float32(array: NDArray) -> NDArray:
    if array.dtype == np.int16:
        return array
    fits = all(
        _INT16.min <= slab.min()
        and slab.max() <= _INT16.max
        and (array.dtype.kind in "iu" or np.array_equal(slab, np.rint(slab)))
        for slab in slabs(array)
    )
    with np.errstate(over="ignore"):  # such values become infinite, and are refused as such
        return array.astype(np.int16 if fits else np.float32, copy=False)
