"""The approximate index of a table of regions: built once there are enough, retrained as the table grows.

Between two trainings LanceDB adds new rows to the index when the table is compacted, and compares them one by one until then.
`Testing/benchmarks/library.py` measures it. Below `FROM_ROWS` an exact search is fast enough.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .lance import VECTOR, Table
from .lance_errors import explain_reading

if TYPE_CHECKING:
    import pyarrow as pa

FROM_ROWS = 200_000
"""Number of regions from which the table has an index."""
GROWTH = 2.0
"""The index is retrained when the table has more than this many times the rows of the last training."""
_REFINED = 300
"""Least number of candidates of the index that are compared exactly; at least twice as many as are wanted."""
_PROBES = 20
"""Partitions of the index that are searched."""
_ITERATIONS = 10
"""Of the clustering that makes the partitions; more took longer and did not raise the recall."""


@dataclass(frozen=True)
class IndexInfo:
    """The index of a table.

    Attributes:
        name: holds the number of rows that it was trained on.
        kind: LanceDB's name for it.
        indexed: rows in it.
        unindexed: rows of the table that are not in it yet.
    """

    name: str
    kind: str
    indexed: int
    unindexed: int


def maintain(regions: Table) -> None:
    """Build or retrain the index of a table where that is due. The writer lock must be held; raises what LanceDB raises."""
    rows = regions.count()
    known = find_index(regions)
    if rows < FROM_ROWS:
        return
    if known is None or rows > GROWTH * _trained_on(known.name):
        build(regions)
        if known is not None and known.name != _name(rows):
            regions.lance.drop_index(known.name)


def build(regions: Table, config: Any = None) -> None:
    """Train an index on all rows of a table.

    Args:
        regions: the table.
        config: LanceDB's settings; those of a library if None.
    """
    from lancedb.index import Bitmap, IvfRq, IvfSq

    rows = regions.count()
    # RaBitQ needs vectors whose length is a multiple of 8; a full-size basis gives such.
    kind = IvfRq if regions.vector_length % 8 == 0 else IvfSq
    config = config or kind(distance_type="cosine", num_partitions=partitions(rows), max_iterations=_ITERATIONS)
    regions.lance.create_index(VECTOR, config=config, name=_name(rows), replace=True)
    regions.lance.create_index("scan", config=Bitmap(), replace=True)


def partitions(rows: int) -> int:
    """Partitions of an index: fewer are built faster, more are searched faster."""
    return max(16, round(math.sqrt(rows) / 8))


def find_index(regions: Table) -> IndexInfo | None:
    """The index of a table, if it has one.

    Raises:
        LibraryError: the table cannot be read.
    """
    with explain_reading(regions.label):
        found = [index for index in regions.lance.list_indices() if VECTOR in index.columns]
    if not found:
        return None
    index = max(found, key=lambda index: _trained_on(index.name))
    return IndexInfo(index.name, str(index.index_type), index.num_indexed_rows or 0, index.num_unindexed_rows or 0)


def nearest(
    regions: Table, vector: Any, count: int, columns: Sequence[str], where: str | None = None, exact: bool = False
) -> pa.Table:
    """The regions most similar to a (D,) vector, best first, through the index unless `exact`; see `Table.nearest`."""
    if exact:
        return regions.nearest(vector, count, columns, where)
    refine = max(2, -(-_REFINED // count))
    return regions.nearest(vector, count, columns, where, probes=_PROBES, refine=refine)


def _name(rows: int) -> str:
    """The index's name holds the number of rows that it was trained on, which LanceDB does not keep."""
    return f"{VECTOR}_{rows}"


def _trained_on(name: str) -> float:
    count = name.removeprefix(f"{VECTOR}_")
    return float(count) if count.isdigit() else math.inf
