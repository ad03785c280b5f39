"""What a library keeps of one scan: a record, its regions before the basis is known, and the rows of its tables."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.core.deprecation import deprecated_attribute
from CoralBayLib.core.errors import LibraryError

from .locations import file_exists

if TYPE_CHECKING:
    import torch

_MIN_DIGITS = 6
"""Least number of digits of a scan's ID that identify it."""


@dataclass(frozen=True)
class ScanRecord:
    """What a library keeps of a scan beside its vectors; no voxels, and no patient data unless the path contains some.

    Attributes:
        scan: SHA-256 of voxels and geometry, the scan's ID in the library.
        embedding: its key in the store of embeddings.
        path: where it was when it was added; empty for a volume from memory without a name.
        fingerprint: of the files, see `ScanSource`.
        size_ijk: voxels along I, J, K.
        spacing_mm: along I, J, K.
        ijk_to_ras: (4, 4) matrix, row by row.
        regions: number of its regions in the library.
        encoder: the encoder's name.
        weights_sha256: SHA-256 of the encoder's weights.
        setting: the encoder's inference mode.
        added: when it was added, UTC, ISO 8601.
        series_uid: DICOM SeriesInstanceUID, only if it was asked for.
    """

    scan: str
    embedding: str
    path: str
    fingerprint: str
    size_ijk: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    ijk_to_ras: tuple[float, ...]
    regions: int
    encoder: str
    weights_sha256: str
    setting: str
    added: str = ""
    series_uid: str | None = None

    stamp = deprecated_attribute("stamp", "fingerprint")
    there = deprecated_attribute("there", "exists")

    @property
    def exists(self) -> bool | None:
        """Whether the file or folder is still where it was; None if that was not looked at, see `locations.file_exists`."""
        return file_exists(self.path)

    @classmethod
    def columns(cls) -> list[str]:
        """The columns of the table of scans and of an export, in the order of the attributes."""
        return [_COLUMNS.get(each.name, each.name) for each in fields(cls)]

    def to_row(self) -> dict[str, Any]:
        """The record by column."""
        return dict(zip(self.columns(), asdict(self).values(), strict=True))

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> ScanRecord:
        """The record that `to_row` wrote; lists become tuples."""
        values: list[Any] = [tuple(v) if isinstance(v, list) else v for v in map(row.__getitem__, cls.columns())]
        return cls(*values)


_COLUMNS = {"fingerprint": "stamp"}
"""Columns of the table of scans whose names differ from those of the attributes."""


@dataclass(frozen=True, eq=False)
class Draft:
    """A scan's regions before they are projected with the library's basis.

    Attributes:
        record: of the scan.
        points_ras: (N, 3) float32, RAS mm of its regions.
        features: (N, channels) float32 at these points.
        scan_vector: (S,) float32.
        identity: what made the features: encoder, weights, tiling and version.
        signature: of the pyramid.
        levels: names of the pyramid levels that the features are of.
    """

    record: ScanRecord
    points_ras: NDArray[np.float32]
    features: torch.Tensor
    scan_vector: NDArray[np.float32]
    identity: dict[str, Any]
    signature: str
    levels: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class ScanRows:
    """A scan's rows, ready to be committed.

    Attributes:
        record: of the scan.
        scan_vector: (S,) float32, stored with the record.
        points_ras: (N, 3) float32, RAS mm of its regions.
        vectors: (N, D) float16 of unit length, in the library's basis.
    """

    record: ScanRecord
    scan_vector: NDArray[np.float32]
    points_ras: NDArray[np.float32]
    vectors: NDArray[np.float16]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return self.scan_vector.nbytes + self.points_ras.nbytes + self.vectors.nbytes


def resolve_scan(records: Sequence[ScanRecord], scan: str) -> str:
    """The ID of the scan with this path, or whose ID starts with these digits.

    Raises:
        LibraryError: there is none, or several.
    """
    path = os.path.abspath(Path(scan).expanduser())  # noqa: PTH100 - normalizes "..", keeps symbolic links
    found = {record.scan for record in records if record.path in (scan, path)}
    if not found and len(scan) >= _MIN_DIGITS:
        found = {record.scan for record in records if record.scan.startswith(scan)}
    if len(found) != 1:
        raise LibraryError(
            f"Expected one scan of the library that matches '{scan}', found {len(found)} scans. Give its path, or at least "
            f"the first {_MIN_DIGITS} digits of its ID, which is in the exported list of scans."
        )
    return found.pop()
