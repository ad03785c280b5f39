"""What a library holds, in numbers."""

from __future__ import annotations

from dataclasses import dataclass

from .index import described
from .storage.base import Place
from .storage.lance import readable
from .tables import Tables


@dataclass(frozen=True)
class Stats:
    """What a library holds of one encoder.

    Attributes:
        encoder: its name.
        weights_sha256: of its weights.
        setting: how it was run.
        scans: how many.
        regions: how many.
        dimension: length of a region's vector.
        basis_scans: how many scans the basis was fitted on.
        index: kind of the approximate index; empty while searches are exact.
        indexed: regions in the index.
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


def stats_of(folder: Place, encoder: str) -> Stats:
    """What a library holds of an encoder.

    Args:
        folder: the library's.
        encoder: as it is in the names of files.

    Raises:
        LibraryError: the library is damaged.
    """
    basis = folder.load_basis(encoder)
    tables = Tables(folder, encoder)
    scans, regions, index = 0, 0, None
    if tables.complete:
        with readable(encoder):
            scans, regions, index = tables.scans.count_rows(), tables.regions.count_rows(), described(tables.regions)
    return Stats(
        encoder=basis.identity["encoder"],
        weights_sha256=basis.identity["weights"],
        setting=basis.identity["tiling"],
        scans=scans,
        regions=regions,
        dimension=len(basis.projection),
        basis_scans=basis.scans,
        index=index.index_type if index is not None else "",
        indexed=(index.num_indexed_rows or 0) if index is not None else 0,
    )
