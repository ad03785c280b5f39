"""What reading a scan tells of its files. Imports nothing of the readers, which fill it in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .grid import Grid


@dataclass
class SeriesFacts:
    """A DICOM series.

    Attributes:
        description: its SeriesDescription; "" without one.
        modality: such as "CT".
        images: number of its images in the folder.
        slices: how many of them are slices of the scan; the others were set aside. 0 while that is not known.
    """

    description: str
    modality: str
    images: int
    slices: int = 0


@dataclass
class FileFacts:
    """What is known of the files of a scan; filled in step by step, so that it says how far reading got.

    Attributes:
        format: "NRRD", "NIfTI-1", "MetaImage" or "DICOM"; "" while that is not known.
        size_ijk: voxels along I, J, K, and further axes where the file has some.
        value_type: of the values in the file, as NumPy calls it, such as "int16"; "" for DICOM.
        compression: "gzip", "zlib", "bzip2" or "DICOM"; "" where the voxels are as they are.
        bytes: size of the files.
        grid: where the voxels lie.
        series: of a DICOM file or folder.
        notes: sentences on what was left out.
        complete: whether all voxels were read, and every checksum was right.
    """

    format: str = ""
    size_ijk: tuple[int, ...] = ()
    value_type: str = ""
    compression: str = ""
    bytes: int = 0
    grid: Grid | None = None
    series: SeriesFacts | None = None
    notes: list[str] = field(default_factory=list)
    complete: bool = False

    @property
    def checksum(self) -> str | None:
        """Whether it is "correct", or "none" where the files have none; None while the voxels are not read to their end."""
        if not self.complete:
            return None
        return "correct" if self.compression in ("gzip", "zlib", "bzip2") else "none"
