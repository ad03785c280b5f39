"""From a scan's file to its draft, and from the draft to rows. Nothing here writes to the library, so it can run anywhere."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from CoralBayLib.core.errors import (
    Cancelled,
    CoralBayError,
    EncoderError,
    LibraryError,
    Remedy,
    StoreError,
    VolumeError,
    WeightsError,
)
from CoralBayLib.core.paths import error_message
from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, report
from CoralBayLib.encoders.base import Encoder
from CoralBayLib.features.embedding import embed
from CoralBayLib.features.identity import content_hash
from CoralBayLib.features.pyramid import SIMILARITY_SPACING_MM, FeaturePyramid
from CoralBayLib.features.store import Store
from CoralBayLib.imaging.dicom import series_uid
from CoralBayLib.imaging.discovery import ScanSource
from CoralBayLib.imaging.grid import Grid, Volume
from CoralBayLib.imaging.volume_io import quiet_itk, read_volume

from .basis import LibraryBasis
from .records import Draft, ScanRecord, ScanRows


@dataclass(frozen=True)
class DraftOptions:
    """How drafts are made.

    Attributes:
        known: IDs of scans that need no draft.
        levels: names of the pyramid levels that the library compares; None while there is no basis.
        store: where embeddings are looked for and kept.
        assume_hu: skip the check that the values look like HU.
        with_uids: keep DICOM SeriesInstanceUIDs.
    """

    known: Collection[str] = ()
    levels: Sequence[str] | None = None
    store: Store | None = None
    assume_hu: bool = False
    with_uids: bool = False


@dataclass(frozen=True, eq=False)
class DraftResult:
    """The result of one scan.

    Attributes:
        source: the scan.
        draft: its regions, unless it is known or could not be used.
        known: its ID, if it is one of the known scans.
        reason: why it could not be used.
        remedy: what can be done about that.
        seconds: duration.
    """

    source: ScanSource
    draft: Draft | None = None
    known: str = ""
    reason: str = ""
    remedy: Remedy | None = None
    seconds: float = 0.0


def make_draft(
    source: ScanSource,
    encoder: Encoder,
    options: DraftOptions,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> DraftResult:
    """Read a scan and make its draft.

    Raises:
        Cancelled: `cancel` was called.
        EncoderError: the encoder cannot be used, for this or any other scan.
    """
    raise_if_cancelled(cancel)
    report(progress, 0.0, "Reading")
    begin = time.perf_counter()
    try:
        volume, scan = read_source(source)
        if scan in options.known:
            return DraftResult(source, known=scan)
        draft = draft_scan(source, volume, scan, encoder, options, progress, cancel)
    except (Cancelled, EncoderError, WeightsError, StoreError, LibraryError):
        # These are not caused by this scan, so they would occur with the next one too.
        raise
    except Exception as error:  # whatever is wrong with one scan, the others are still tried
        if isinstance(error, CoralBayError):
            return DraftResult(source, reason=str(error), remedy=error.remedy)
        return DraftResult(source, reason=f"It could not be used ({type(error).__name__}: {error_message(error)}).")
    return DraftResult(source, draft, seconds=time.perf_counter() - begin)


def read_source(source: ScanSource) -> tuple[Volume, str]:
    """The scan, and the SHA-256 of its voxels and geometry.

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
    options: DraftOptions,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> Draft:
    """Embed a scan and sample its features at its regions.

    Args:
        source: where the scan came from.
        volume: the scan.
        scan: its SHA-256, see `read_source`.
        encoder: from `load_encoder`.
        options: see `DraftOptions`.
        progress: called with the fraction done and a message.
        cancel: checked between the network's layers.

    Raises:
        VolumeError: it is not a CT in HU, or contains no tissue.
        MemoryLimitError: it does not fit into memory.
        Cancelled: `cancel` was called.
    """
    pyramid = embed(volume, encoder, progress, cancel, store=options.store, assume_hu=options.assume_hu)
    compared = pyramid.for_similarity if options.levels is None else pyramid.select_levels(options.levels)
    points = region_points(compared)
    if not len(points):
        raise VolumeError("The scan contains no tissue.")
    uid = None
    if options.with_uids and source.volume is None:
        with quiet_itk():
            uid = series_uid(Path(source.path))
    record = ScanRecord(
        scan=scan,
        embedding=pyramid.key,
        path=source.path,
        fingerprint=source.fingerprint,
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
        compared.sample(points),
        scan_vector(pyramid),
        pyramid.identity,
        pyramid.signature,
        tuple(level.name for level in compared.levels),
    )


def project_draft(draft: Draft, basis: LibraryBasis) -> ScanRows:
    """The rows of a scan, in the library's basis.

    Raises:
        EncoderError: the scan's features are not those of the library.
    """
    basis.require(draft.identity, draft.signature, draft.levels)
    vectors = basis.project(draft.features)
    # A vector exactly at the mean has no direction that could be compared.
    kept = np.any(vectors != 0, axis=1)
    record = replace(draft.record, regions=int(kept.sum()))
    return ScanRows(record, draft.scan_vector, draft.points_ras[kept], vectors[kept].astype(np.float16))


def region_points(pyramid: FeaturePyramid) -> NDArray[np.float64]:
    """(N, 3) RAS mm of a scan's regions: points in the body on the lattice of the finest level.

    The lattice is coarsened to `SIMILARITY_SPACING_MM` where the level is finer.
    """
    finest: Grid = min((level.grid for level in pyramid.levels), key=lambda grid: float(grid.spacing_mm.max()))
    lattice = finest.with_spacing(np.maximum(finest.spacing_mm, SIMILARITY_SPACING_MM[0]))
    k, j, i = np.indices(lattice.shape)
    points = lattice.to_ras(np.stack([i, j, k], -1).reshape(-1, 3))
    points = points[pyramid.body.grid.contains(points)]
    return points[pyramid.body.nearest_values(points) > 0]


def scan_vector(pyramid: FeaturePyramid) -> NDArray[np.float32]:
    """The (S,) vector of a whole scan: the encoder's own, or the mean features of the levels that were computed."""
    if pyramid.scan_embedding is not None:
        return pyramid.scan_embedding.float().numpy()
    return torch.cat([level.features.float().mean(dim=(1, 2, 3)) for level in pyramid.levels]).numpy()
