"""LanceDB behind two thin classes, a database and a table.

LanceDB is an embedded database whose readers need no lock. Nothing outside this folder touches its objects. It is imported at
first use, so that everything else works without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from CoralBayLib.core.errors import LibraryError, Remedy
from CoralBayLib.core.paths import remove_quietly
from CoralBayLib.core.requirements import LIBRARY

from .lance_errors import LANCE_ERRORS, explain_compacting, explain_reading, explain_writing, is_missing_table
from .states import damaged_manifests

if TYPE_CHECKING:
    import pyarrow as pa

VECTOR = "vector"
"""The column that is searched."""
_INDEX_CACHE_BYTES = 1 << 30
_METADATA_CACHE_BYTES = 1 << 28


def import_lancedb() -> Any:
    """The package `lancedb`.

    Raises:
        LibraryError: it is not installed.
    """
    try:
        import lancedb
    except ImportError as error:
        raise LibraryError(
            f"A library of scans needs the Python package LanceDB ({error}).",
            remedy=Remedy.INSTALL_PACKAGE,
            package=LIBRARY,
        ) from error
    return lancedb


class Database:
    """A connection to LanceDB that always reads the latest state.

    Args:
        uri: a folder, or an address of object storage.
        cached: keep indexes and metadata in memory between searches.
        options: for object storage, as LanceDB names them.

    Attributes:
        lance: LanceDB's own connection.

    Raises:
        LibraryError: LanceDB is not installed, or the database cannot be opened.
    """

    def __init__(self, uri: str, cached: bool = False, options: Mapping[str, str] | None = None) -> None:
        package = import_lancedb()
        session = package.Session(_INDEX_CACHE_BYTES, _METADATA_CACHE_BYTES) if cached else None
        options = dict(options) if options is not None else None
        self._folder = None if "://" in uri else Path(uri)
        with explain_reading():
            self.lance = package.connect(uri, read_consistency_interval=timedelta(0), storage_options=options, session=session)

    def open(self, name: str, label: str = "") -> Table | None:
        """A table; None if there is no such table.

        Args:
            name: in the database.
            label: in messages; the same as `name` if empty.

        Raises:
            LibraryError: the table cannot be read.
        """
        with explain_reading(label or name):
            try:
                return Table(self.lance.open_table(name), label or name, self, name)
            except ValueError as error:
                if is_missing_table(error):
                    return None
                raise

    def create(self, name: str, rows: pa.Table | None = None, schema: pa.Schema | None = None, label: str = "") -> Table:
        """Create a table with these rows, or an empty one of this schema.

        Raises:
            StoreError: it could not be written.
        """
        with explain_writing():
            return Table(self.lance.create_table(name, rows, schema=schema), label or name, self, name)

    def drop(self, name: str) -> None:
        """Delete a table if it exists."""
        self.lance.drop_table(name, ignore_missing=True)

    def damaged_states(self, name: str) -> list[Path]:
        """The files of a table's states that cannot be read, as long as another can; none on object storage.

        If the newest is among them, the table cannot be opened.
        """
        if self._folder is None:
            return []
        return damaged_manifests(self._folder / f"{name}.lance", lambda: self.lance.open_table(name))

    def remove_damaged_states(self, name: str) -> int:
        """Remove a table's states that cannot be read; returns how many. The lock must be held.

        Without its newest state, the table is as it was before the last change.
        """
        removed = 0
        # Damage to earlier states may show only when the newest can be read.
        while count := sum(remove_quietly(path) for path in self.damaged_states(name)):
            removed += count
        return removed

    def names(self) -> list[str]:
        """The names of all tables.

        Raises:
            LibraryError: they cannot be read.
        """
        found: list[str] = []
        token = None
        with explain_reading():
            while True:
                page = self.lance.list_tables(page_token=token, limit=100)
                found += page.tables
                token = page.page_token
                if not token:
                    return found


class Table:
    """A table of a `Database`. Methods that read raise LibraryError, and methods that write StoreError.

    Args:
        lance: LanceDB's own table.
        label: what messages call it.
        database: that it is in.
        name: in the database.

    Attributes:
        lance: LanceDB's own table.
        label: what messages call it.
    """

    def __init__(self, lance: Any, label: str, database: Database, name: str) -> None:
        self.lance = lance
        self.label = label
        self._database, self._name = database, name

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns."""
        with explain_reading(self.label):
            return self.lance.schema

    def require_columns(self, names: Iterable[str], lists: Iterable[str]) -> None:
        """Check that the table has these columns; those in `lists` hold lists of one length.

        Raises:
            LibraryError: one is missing or of another type.
        """
        schema = self.schema
        wrong = [name for name in names if name not in schema.names]
        wrong += [name for name in lists if name in schema.names and not hasattr(schema.field(name).type, "list_size")]
        if wrong:
            raise LibraryError(
                f"The table '{self.label}' of the library is damaged: it lacks the columns {', '.join(wrong)}.",
                remedy=Remedy.CHECK_LIBRARY,
            )

    @property
    def vector_length(self) -> int:
        """Length of the vectors that are searched."""
        return self.schema.field(VECTOR).type.list_size

    @property
    def nbytes(self) -> int:
        """Size of the current state in bytes; earlier states that are still on disk are not counted."""
        with explain_reading(self.label):
            return int(self.lance.stats()["total_bytes"])

    def count(self, where: str | None = None) -> int:
        """How many rows there are, or fulfil a condition in SQL."""
        with explain_reading(self.label):
            return self.lance.count_rows(where)

    def read(self, columns: Sequence[str] | None = None, where: str | None = None) -> pa.Table:
        """All rows, or those that fulfil a condition in SQL."""
        with explain_reading(self.label):
            return self._query(columns, where).to_arrow()

    def batches(self, size: int, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """All rows, at most `size` at a time."""
        with explain_reading(self.label):
            yield from self._query(columns, None).to_batches(size)

    def nearest(
        self,
        vector: Any,
        count: int,
        columns: Sequence[str],
        where: str | None = None,
        *,
        probes: int | None = None,
        refine: int | None = None,
    ) -> pa.Table:
        """The rows whose vectors have the largest cosine with a (D,) vector, best first; `_distance` is 1 - cosine.

        Args:
            vector: (D,) float32.
            count: how many rows.
            columns: to return; `_distance` is one.
            where: only rows that fulfil this condition in SQL.
            probes: partitions of the index to search; None compares every row.
            refine: this many times `count` candidates of the index are compared exactly.
        """
        with explain_reading(self.label):
            query = self.lance.search(vector, vector_column_name=VECTOR).distance_type("cosine").limit(count)
            query = query.bypass_vector_index() if probes is None else query.nprobes(probes).refine_factor(refine)
            if where:
                query = query.where(where)
            return query.select(list(columns)).to_arrow()

    def append(self, rows: pa.Table | list[dict[str, Any]]) -> None:
        """Add rows."""
        with explain_writing():
            self.lance.add(rows)

    def replace(self, key: str, rows: pa.Table) -> None:
        """Add rows, each in place of the one with the same value in the column `key` if there is one."""
        with explain_writing():
            self.lance.merge_insert(key).when_matched_update_all().when_not_matched_insert_all().execute(rows)

    def update(self, where: str, values: Mapping[str, Any]) -> None:
        """Change the rows that fulfil a condition in SQL."""
        with explain_writing():
            self.lance.update(where=where, values=dict(values))

    def delete(self, where: str) -> None:
        """Delete the rows that fulfil a condition in SQL."""
        with explain_writing():
            self.lance.delete(where)

    def compact(self, keep: timedelta) -> None:
        """Merge small files, add new rows to the index, and delete files that no state younger than `keep` needs.

        The writer lock must be held: files that belong to no state are taken for those of a writer that was killed. Earlier
        states that cannot be read are removed.
        """
        with explain_compacting():
            try:
                self.lance.optimize(cleanup_older_than=keep, delete_unverified=True)
            except LANCE_ERRORS:
                if not self._database.remove_damaged_states(self._name):
                    raise
                self.lance.optimize(cleanup_older_than=keep, delete_unverified=True)

    def _query(self, columns: Sequence[str] | None, where: str | None) -> Any:
        query = self.lance.search()
        if columns is not None:
            query = query.select(list(columns))
        if where is not None:
            query = query.where(where)
        return query.limit(self.lance.count_rows())
