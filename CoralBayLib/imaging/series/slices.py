"""The headers of DICOM slices: read, and arranged on a grid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from CoralBayLib.core.errors import VolumeError
from CoralBayLib.core.paths import error_message, printable
from CoralBayLib.imaging.gdcm_names import gdcm_names
from CoralBayLib.imaging.grid import LPS_TO_RAS, Grid
from CoralBayLib.imaging.headers.dicom_elements import UNCOMPRESSED, read_elements
from CoralBayLib.imaging.headers.dicom_identity import FIELDS, require_one_scan
from CoralBayLib.imaging.headers.slice_positions import REGULARIZE, require_regular, require_straight

MODALITY, DESCRIPTION, SERIES_UID, IMAGE_TYPE = "0008|0060", "0008|103e", "0020|000e", "0008|0008"
_POSITION, _ORIENTATION, _FRAMES = "0020|0032", "0020|0037", "0028|0008"
_CLASS, _INSTANCE, _SPACING, _BITS = "0008|0016", "0008|0018", "0028|0030", "0028|0100"
_INTERCEPT, _SLOPE = "0028|1052", "0028|1053"

_LARGEST_RATIO = 50_000
"""Most bytes of voxels for a byte of a compressed file."""


@dataclass(frozen=True)
class Slice:
    """The header of one slice; vectors in LPS mm.

    Attributes:
        position, orientation: None where the file lacks them.
        rescale: slope and intercept, as text; None where the file lacks them.
        pixel_spacing: as text; "" where the file lacks it.
        bytes: size of its voxels, uncompressed.
        compressed: whether they are compressed in the file.
        fields: what `headers.dicom_identity` looks at, by tag.
    """

    file: str
    size: tuple[int, ...]
    components: int
    spacing_mm: tuple[float, ...]
    position: NDArray[np.float64] | None
    orientation: NDArray[np.float64] | None
    modality: str
    image_type: str
    sop_class: str
    instance: str
    rescale: tuple[str, str] | None
    pixel_spacing: str
    bytes: int
    compressed: bool
    fields: dict[str, str]

    @property
    def name(self) -> str:
        """Name of the file."""
        return Path(self.file).name

    @property
    def slope_and_intercept(self) -> tuple[float, float]:
        """Of the rescale; 1 and 0 where the file lacks it."""
        slope, intercept = self.rescale or ("1", "0")
        return float(slope), float(intercept)

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector across the slice."""
        assert self.orientation is not None
        across = np.asarray(np.cross(self.orientation[:3], self.orientation[3:]), np.float64)
        return across / max(float(np.linalg.norm(across)), 1e-9)

    @property
    def flatness(self) -> float:
        """Cosine of the angle between its rows and its columns, which is 0 in a sound slice."""
        assert self.orientation is not None
        return abs(float(self.orientation[:3] @ self.orientation[3:]))


def is_scout(image_type: str) -> bool:
    """Whether an ImageType says that the image is a scout."""
    return bool({"LOCALIZER", "SCOUT", "TOPOGRAM", "SCANOGRAM"} & {v.strip().upper() for v in image_type.split("\\")})


def open_slice(file: str) -> sitk.ImageFileReader:
    """A reader that has read the header of a file, whose elements must have been checked.

    Raises:
        RuntimeError: it could not.
    """
    reader = sitk.ImageFileReader()
    with gdcm_names([file]) as (name,):
        reader.SetFileName(name)
        reader.ReadImageInformation()
    return reader


def header(file: str) -> dict[str, str]:
    """The fields of a header by tag; none where the file is no image, such as a report or a structure set."""
    try:
        reader = open_slice(file)
    except RuntimeError:
        return {}
    return {key: reader.GetMetaData(key).strip(" \0") for key in reader.GetMetaDataKeys()}


def read_slice(file: str) -> Slice:
    """The header of one slice.

    Raises:
        VolumeError: it cannot be read, has several frames, or more voxels than there can be in the file.
    """
    name = Path(file).name
    try:
        reader = open_slice(file)
    except RuntimeError as error:
        raise VolumeError(
            f"The header of slice {name} could not be read ({error_message(error)}). Copy the series again."
        ) from error

    def field(key: str) -> str:
        return reader.GetMetaData(key).strip(" \0") if reader.HasMetaDataKey(key) else ""

    if (frames := field(_FRAMES)) not in ("", "1"):
        if not frames.isdigit():
            raise VolumeError(f"Slice {name} is damaged: its NumberOfFrames is '{printable(frames)}'. Copy the series again.")
        raise VolumeError(f"{name} is a multi-frame DICOM file, which is not supported. Load it in Slicer and save it as NRRD.")
    bits = field(_BITS)
    voxels = int(np.prod(reader.GetSize(), dtype=object)) * reader.GetNumberOfComponents()
    count = voxels * (int(bits) if bits.isdigit() else 8) // 8
    compressed = _require_room(Path(file), count)
    return Slice(
        file=file,
        size=reader.GetSize()[:2],
        components=reader.GetNumberOfComponents(),
        spacing_mm=reader.GetSpacing()[:2],
        position=to_vector(field(_POSITION), 3),
        orientation=to_vector(field(_ORIENTATION), 6),
        modality=field(MODALITY),
        image_type=field(IMAGE_TYPE),
        sop_class=field(_CLASS),
        instance=field(_INSTANCE),
        rescale=(field(_SLOPE), field(_INTERCEPT)) if field(_SLOPE) or field(_INTERCEPT) else None,
        pixel_spacing=field(_SPACING),
        bytes=count,
        compressed=compressed,
        fields={key: field(key) for key in FIELDS},
    )


def to_vector(text: str, length: int) -> NDArray[np.float64] | None:
    """The numbers of a field with backslashes between them, (length,); None if they are not so many finite numbers."""
    try:
        vector = np.array([float(v) for v in text.split("\\")])
    except ValueError:
        return None
    return vector if vector.shape == (length,) and np.isfinite(vector).all() else None


def _require_room(path: Path, count: int) -> bool:
    """Refuse a slice whose header tells of more voxels than there are in the file; returns whether it is compressed."""
    elements = read_elements(path)
    stored = (elements.voxel_bytes or 0) if elements is not None else 0
    uncompressed = elements is not None and elements.syntax in UNCOMPRESSED
    if count > stored * (1 if uncompressed else _LARGEST_RATIO):
        raise VolumeError(
            f"Slice {path.name} is truncated or damaged: its header announces {count:,} bytes of voxels, and the file has "
            f"{stored:,}. Copy the series again."
        )
    return not uncompressed


def arrange(slices: list[Slice]) -> tuple[Grid, list[int]]:
    """Put the slices of a scan on a grid.

    Args:
        slices: of one scan, in any order (see `selection.sort_out`).

    Returns:
        grid: of the scan, in RAS mm.
        order: numbers of the slices along their normal, from the first slice of the grid to the last.

    Raises:
        VolumeError: there are fewer than two; they differ in size, pixel spacing or orientation, are not evenly spaced or not
            in line; or the gantry was tilted.
    """
    first = slices[0]
    if len(slices) < 2:
        raise VolumeError("The series has only one slice. Expected a 3D CT: choose the folder with the whole series.")
    if any(s.components != 1 for s in slices):
        raise VolumeError("The series is in color. Expected a CT in HU: choose the original series.")
    if any(s.size != first.size or not np.allclose(s.spacing_mm, first.spacing_mm, rtol=1e-3) for s in slices):
        raise VolumeError(
            "The slices of the series differ in size or pixel spacing. It probably contains a scout or several "
            "reconstructions. Split it in Slicer's DICOM module (advanced loading) and save one part as NRRD."
        )
    orientations = np.array([s.orientation for s in slices])
    if np.abs(orientations - orientations[0]).max() > 1e-3:
        raise VolumeError("The slices of the series are not parallel. Expected an axial stack: choose another series.")
    row, column = orientations[0, :3], orientations[0, 3:]
    positions = np.array([s.position for s in slices])
    along = positions @ np.cross(row, column)
    order = np.argsort(along, kind="stable")
    require_regular(along[order])
    require_one_scan([slices[n].fields for n in order])
    path = positions[order[-1]] - positions[order[0]]
    tilt = np.degrees(np.arccos(np.clip(path @ np.cross(row, column) / np.linalg.norm(path), -1, 1)))
    if tilt > 0.2:
        raise VolumeError(f"The scan has a gantry tilt of {tilt:.1f} degrees, so its axes are sheared. {REGULARIZE}")
    require_straight(positions[order], along[order], [slices[n].name for n in order], min(first.spacing_mm))
    lps = np.eye(4)
    lps[:3, 0] = row * first.spacing_mm[0]
    lps[:3, 1] = column * first.spacing_mm[1]
    lps[:3, 2] = path / (len(slices) - 1)
    lps[:3, 3] = positions[order[0]]
    columns, rows = first.size
    return Grid((len(slices), rows, columns), LPS_TO_RAS @ lps), order.tolist()
