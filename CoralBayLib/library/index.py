"""The approximate index over regions: built once there are enough, trained anew as they become more.

Between two trainings LanceDB takes new rows into the index when the table is tidied, and until then compares them one
by one.

Measured with `Testing/benchmarks/library.py`. Below `FROM_ROWS` an exact search takes no longer than is pleasant.
"""

from __future__ import annotations

import math
from typing import Any

FROM_ROWS = 200_000
"""Regions from which on there is an index."""
GROWTH = 2.0
"""The index is trained anew when there are so many times more rows than at its last training."""
_REFINED = 300
"""At least so many candidates of the index, and twice as many as are wanted, are compared exactly."""
_PROBES = 20
"""Parts of the index that a search looks into."""
_ITERATIONS = 10
"""Of the clustering that makes the parts; more took longer and found no more."""
_COLUMN = "vector"


def maintain(regions: Any) -> None:
    """Build or renew the index of a table of regions where that is due; call it with the lock held."""
    rows = regions.count_rows()
    known = described(regions)
    if rows < FROM_ROWS:
        return
    if known is None or rows > GROWTH * _trained_on(known.name):
        build(regions)
        if known is not None and known.name != _name(rows):
            regions.drop_index(known.name)


def build(regions: Any, config: Any = None) -> None:
    """Train an index on all rows of a table."""
    from lancedb.index import Bitmap, IvfRq, IvfSq

    rows = regions.count_rows()
    # RaBitQ takes vectors whose length is a multiple of 8, which a basis of full size has.
    kind = IvfRq if regions.schema.field(_COLUMN).type.list_size % 8 == 0 else IvfSq
    config = config or kind(distance_type="cosine", num_partitions=partitions(rows), max_iterations=_ITERATIONS)
    regions.create_index(_COLUMN, config=config, name=_name(rows), replace=True)
    regions.create_index("scan", config=Bitmap(), replace=True)


def partitions(rows: int) -> int:
    """Parts of an index: fewer are built sooner, more leave less to look through."""
    return max(16, round(math.sqrt(rows) / 8))


def described(regions: Any) -> Any:
    """LanceDB's description of the index of a table, or None."""
    found = [index for index in regions.list_indices() if _COLUMN in index.columns]
    return max(found, key=lambda index: _trained_on(index.name)) if found else None


def nearest(regions: Any, vector: Any, count: int, exact: bool = False) -> Any:
    """A query for the regions most like a (D,) vector, best first; `_distance` is 1 - cosine."""
    query = regions.search(vector, vector_column_name=_COLUMN).distance_type("cosine").limit(count)
    return query.bypass_vector_index() if exact else query.nprobes(_PROBES).refine_factor(max(2, -(-_REFINED // count)))


def _name(rows: int) -> str:
    """The index's name tells on how many rows it was trained, which LanceDB does not keep."""
    return f"{_COLUMN}_{rows}"


def _trained_on(name: str) -> float:
    count = name.removeprefix(f"{_COLUMN}_")
    return float(count) if count.isdigit() else math.inf
