"""One scan as plain rows: what the library keeps of it. Nothing here writes, so it may run anywhere."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from CoralBayLib.core.errors import LibraryError, VolumeError
from CoralBayLib.core.progress import CancelToken, Progress
from CoralBayLib.encoders.base import Encoder
from CoralBayLib.features.embedding import content_hash, embed
from CoralBayLib.features.pyramid import SIMILARITY_SPACING_MM, FeaturePyramid
from CoralBayLib.features.store import Store
from CoralBayLib.imaging.dicom import series_uid
from CoralBayLib.imaging.grid import Grid, Volume
from CoralBayLib.imaging.volume_io import quiet_itk, read_volume

from .basis import LibraryBasis
from .discovery import ScanSource

_FEWEST_DIGITS = 6


@dataclass(frozen=True)
class ScanRecord:
    """What a library tells of a scan; no voxels, and nothing of the patient unless the path does.

    Attributes:
        scan: SHA-256 of voxels and geometry: its name in the library.
        embedding: its key in the store of embeddings.
        path: where it was when it was added; empty for a volume from memory that was given no name.
        stamp: of the files, see `ScanSource`.
        size_ijk: voxels along I, J, K.
        spacing_mm: along I, J, K.
        ijk_to_ras: (4, 4) matrix, row by row.
        regions: how many regions of it the library holds.
        encoder: the encoder's name.
        weights_sha256: of the encoder's weights.
        setting: how the encoder was run.
        added: when it was added, UTC, ISO 8601.
        series_uid: DICOM SeriesInstanceUID, only when it was asked for.
    """

    scan: str
    embedding: str
    path: str
    stamp: str
    size_ijk: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    ijk_to_ras: tuple[float, ...]
    regions: int
    encoder: str
    weights_sha256: str
    setting: str
    added: str = ""
    series_uid: str | None = None

    @property
    def there(self) -> bool:
        """Whether the file or folder is still where it was."""
        return is_there(self.path)


@dataclass(frozen=True, eq=False)
class Draft:
    """A scan's regions before the library's basis is known.

    Attributes:
        record: what is told of the scan.
        points_ras: (N, 3) float32, RAS mm of its regions.
        features: (N, channels) float32 at these points.
        scan_vector: (S,) float32.
        identity: what made the features.
        signature: of the pyramid.
        levels: which the features are of.
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
        record: the row of the scan.
        scan_vector: (S,) float32, beside it.
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


def is_there(path: str) -> bool:
    """Whether the file or folder of a scan is still where it was."""
    return bool(path) and os.path.exists(path)


def read_source(source: ScanSource) -> tuple[Volume, str]:
    """The scan and the SHA-256 of its voxels and geometry.

    Raises:
        VolumeError: as `read_volume`.
    """
    volume = source.volume if source.volume is not None else read_volume(source.path)
    return volume, content_hash(volume, {}, ())


def draft_scan(
    source: ScanSource,
    volume: Volume,
    scan: str,
    encoder: Encoder,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
    *,
    store: Store | None = None,
    assume_hu: bool = False,
    with_uids: bool = False,
    levels: Sequence[str] | None = None,
) -> Draft:
    """Embed a scan and take its regions from it.

    Args:
        source: where it came from.
        volume: the scan.
        scan: its SHA-256, see `read_source`.
        encoder: from `load_encoder`.
        progress: told how far it is.
        cancel: checked between the network's layers.
        store: where embeddings are looked for and kept.
        assume_hu: skip the check that the values look like HU.
        with_uids: keep the DICOM SeriesInstanceUID.
        levels: names of those that tell like regions, as in the library's basis; found out when there is none yet.

    Raises:
        VolumeError: it is not a CT in HU, or there is no tissue in it.
        MemoryLimitError: it does not fit into memory.
        Cancelled: `cancel` was called.
    """
    pyramid = embed(volume, encoder, progress, cancel, store=store, assume_hu=assume_hu)
    middle = pyramid.for_similarity if levels is None else pyramid.select_levels(levels)
    points = region_points(middle)
    if not len(points):
        raise VolumeError("There is no tissue in it.")
    uid = None
    if with_uids and source.volume is None:
        with quiet_itk():
            uid = series_uid(Path(source.path))
    record = ScanRecord(
        scan=scan,
        embedding=pyramid.key,
        path=source.path,
        stamp=source.stamp,
        size_ijk=volume.grid.size,
        spacing_mm=tuple(volume.grid.spacing_mm.tolist()),
        ijk_to_ras=tuple(volume.grid.ijk_to_ras.ravel().tolist()),
        regions=0,
        encoder=encoder.name,
        weights_sha256=encoder.weights_sha256,
        setting=encoder.tiling.name,
        series_uid=uid,
    )
    return Draft(
        record,
        points.astype(np.float32),
        middle.sample(points),
        scan_vector(pyramid),
        pyramid.identity,
        pyramid.signature,
        tuple(level.name for level in middle.levels),
    )


def rows_of(draft: Draft, basis: LibraryBasis) -> ScanRows:
    """The rows of a scan, in the library's basis.

    Raises:
        EncoderError: the scan has other features.
    """
    basis.require(draft.identity, draft.signature, draft.levels)
    vectors = basis.project(draft.features)
    # What lies exactly at the mean has no direction to compare.
    there = np.any(vectors != 0, axis=1)
    record = replace(draft.record, regions=int(there.sum()))
    return ScanRows(record, draft.scan_vector, draft.points_ras[there], vectors[there].astype(np.float16))


def region_points(levels: FeaturePyramid) -> NDArray[np.float64]:
    """(N, 3) RAS mm of a scan's regions: the body's points of the finest level's own lattice, or of one as fine as is
    useful where that is finer still."""
    finest: Grid = min((level.grid for level in levels.levels), key=lambda grid: float(grid.spacing_mm.max()))
    step = np.maximum(finest.spacing_mm, SIMILARITY_SPACING_MM[0])
    lattice = finest.with_spacing(step)
    k, j, i = np.indices(lattice.shape)
    points = lattice.to_ras(np.stack([i, j, k], -1).reshape(-1, 3))
    points = points[levels.body.grid.contains(points)]
    return points[levels.body.nearest_values(points) > 0]


def scan_vector(pyramid: FeaturePyramid) -> NDArray[np.float32]:
    """A scan's own (S,) vector: the encoder's, or where a level of it was not computed the average of those that were."""
    if pyramid.scan_embedding is not None:
        return pyramid.scan_embedding.float().numpy()
    return torch.cat([level.features.float().mean(dim=(1, 2, 3)) for level in pyramid.levels]).numpy()


def named(records: Sequence[ScanRecord], scan: str) -> list[str]:
    """The name of the scan that is meant: by path, or by the first digits of its name.

    Raises:
        LibraryError: there is none, or several.
    """
    path = os.path.abspath(os.path.expanduser(scan))
    names = sorted({record.scan for record in records if record.path in (scan, path)})
    if not names and len(scan) >= _FEWEST_DIGITS:
        names = sorted({record.scan for record in records if record.scan.startswith(scan)})
    if len(names) != 1:
        raise LibraryError(
            f"{len(names)} scans of the library are called '{scan}'; one is needed. Give its path, or at least the first "
            f"{_FEWEST_DIGITS} digits of its name, as `coralbay library export` writes them."
        )
    return names
