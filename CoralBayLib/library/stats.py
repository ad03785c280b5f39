"""Statistics of a library."""

from __future__ import annotations

from dataclasses import dataclass

from .basis import load_basis
from .storage.base import Storage
from .storage.index import find_index
from .tables import Tables


@dataclass(frozen=True)
class Stats:
    """What a library holds of one encoder.

    Attributes:
        encoder: its name.
        weights_sha256: of its weights.
        setting: its inference mode.
        scans: number of scans.
        regions: number of regions.
        dimension: length of a region's vector.
        basis_scans: number of scans that the basis was fitted on.
        index: kind of the approximate index; empty if searches are exact.
        indexed: number of regions in the index.
    """

    encoder: str
    weights_sha256: str
    setting: str
    scans: int
    regions: int
    dimension: int
    basis_scans: int
    index: str
    indexed: int


def compute_stats(storage: Storage, encoder: str) -> Stats:
    """The statistics of an encoder.

    Args:
        storage: of the library.
        encoder: its name or slug.

    Raises:
        LibraryError: the library is damaged.
    """
    basis = load_basis(storage, encoder)
    tables = Tables(storage, encoder)
    scans, regions, index = 0, 0, None
    if tables.complete:
        scans, regions, index = tables.scans.count(), tables.regions.count(), find_index(tables.regions)
    return Stats(
        encoder=basis.identity["encoder"],
        weights_sha256=basis.identity["weights"],
        setting=basis.identity["tiling"],
        scans=scans,
        regions=regions,
        dimension=len(basis.projection),
        basis_scans=basis.scans,
        index=index.kind if index is not None else "",
        indexed=index.indexed if index is not None else 0,
    )
