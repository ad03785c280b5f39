"""The writer lock on object storage, which has no locks of its own: a table of one row that names the holder.

LanceDB makes a change only if nobody else has changed the table meanwhile (the storage must support conditional writes, as S3
does), so of several who take the lock at once exactly one gets it. The holder increases a counter in the row. Those who wait
take a holder whose counter has not changed for `DEAD_AFTER_S` seconds, by their own clock, for dead and take the lock from it.
A holder that was only delayed notices this before its next step; see `Lease.require`.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import uuid4

from CoralBayLib.core.errors import LostLockError
from CoralBayLib.core.progress import CancelToken, raise_if_cancelled

from .lance import Database
from .lance_errors import LANCE_ERRORS, explain_writing, is_conflict, is_missing_table

DEAD_AFTER_S = 60.0
GOOD_FOR_S = 50.0
"""Seconds after its last beat for which a holder trusts its lock; shorter, so that it gives up before others take over."""
BEAT_S = 10.0
"""Seconds between two increments of the counter."""
_RETRY_S = 1.0
_COMPACT_EVERY = 100
"""Beats between two compactions of the table."""
_KEPT = timedelta(minutes=10)
"""Every change of the lock leaves files; compaction deletes those that are older than this."""
TABLE = "lock"


def _now() -> float:
    """Seconds of a clock that continues while the machine sleeps, where there is one."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.clock_gettime(clock) if clock is not None else time.monotonic()


class Lease:
    """The lock, held once.

    Args:
        db: the library's database.
    """

    def __init__(self, db: Database) -> None:
        self._db, self._me = db.lance, uuid4().hex
        self._good_until = 0.0
        self._count = 0
        self._lost = False
        self._released = threading.Event()
        self._beating: threading.Thread | None = None

    def acquire(self, cancel: CancelToken | None = None) -> None:
        """Take the lock; waits until it is free.

        Raises:
            StoreError: the storage cannot be written.
            Cancelled: `cancel` was called while waiting.
        """
        with explain_writing():
            self._table = self._open()
            seen, since = None, _now()
            while True:
                raise_if_cancelled(cancel)
                owner, beat = self._read()
                begin = _now()
                if (owner, beat) != seen:
                    seen, since = (owner, beat), begin
                # If an answer was lost, this process may be the owner without knowing it.
                if owner == self._me or ((not owner or begin - since > DEAD_AFTER_S) and self._take(owner, beat)):
                    if not beat and not owner:
                        # The first time: another process that created the table at the same time may have overwritten it.
                        time.sleep(_RETRY_S)
                        continue
                    self._good_until, self._count = begin + GOOD_FOR_S, beat
                    break
                if owner:
                    time.sleep(_RETRY_S)
        self._beating = threading.Thread(target=self._beat, daemon=True)
        self._beating.start()

    def require(self) -> None:
        """Check that the lock is still held.

        Raises:
            LostLockError: another writer may have it.
        """
        if self._lost or _now() > self._good_until:
            raise LostLockError(
                "The library's storage did not answer for so long that another writer may have started. This scan was not "
                "added. Start again; scans that were already added are kept."
            )

    def release(self) -> None:
        """Give the lock back; if that fails, others wait until it has expired."""
        self._released.set()
        if self._beating is not None:
            self._beating.join()
        with suppress(*LANCE_ERRORS):
            if self._count % _COMPACT_EVERY == 0:
                self._table.optimize(cleanup_older_than=_KEPT)
            self._table.update(where=f"owner = '{self._me}'", values={"owner": ""})

    def _open(self) -> Any:
        import pyarrow as pa

        try:
            return self._db.open_table(TABLE)
        except ValueError as error:
            if not is_missing_table(error):
                raise
        try:
            return self._db.create_table(TABLE, pa.table({"owner": [""], "beat": pa.array([0], pa.int64())}))
        except LANCE_ERRORS as error:
            # Another process may have created it at the same time.
            if not is_conflict(error):
                raise
        return self._db.open_table(TABLE)

    def _read(self) -> tuple[str, int]:
        rows = self._table.search().limit(1).to_arrow().to_pylist()
        return rows[0]["owner"], rows[0]["beat"]

    def _take(self, owner: str, beat: int) -> bool:
        where = f"owner = '{owner}' AND beat = {beat}"
        try:
            return self._table.update(where=where, values={"owner": self._me, "beat": beat + 1}).rows_updated == 1
        except LANCE_ERRORS as error:
            # Several processes took it at once; the next look shows which of them got it.
            if is_conflict(error):
                return False
            raise

    def _beat(self) -> None:
        while not self._released.wait(BEAT_S):
            begin = _now()
            with suppress(*LANCE_ERRORS):
                own = f"owner = '{self._me}'"
                if self._table.update(where=own, values_sql={"beat": "beat + 1"}).rows_updated != 1:
                    self._lost = True
                    return
                self._good_until = begin + GOOD_FOR_S
