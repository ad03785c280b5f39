"""A lock for writers on object storage, where there are no locks: a table of one row that tells who holds it.

Every change of a LanceDB table is made only if nobody has changed it meanwhile (the storage must know conditional writes,
as S3 does), so of two who take the lock at once one gets it. Whoever holds it counts on in the row; a holder that has not
done so for `DEAD_AFTER_S` is taken for dead by those who wait, each by its own clock, and the lock is taken from it. A holder
that was only held up finds that out before its next step; see `Lease.require`.
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

from .lance import writable

DEAD_AFTER_S = 60.0
GOOD_FOR_S = 50.0
"""Shorter, so that a holder gives up before others take the lock."""
BEAT_S = 10.0
_LOOK_EVERY_S = 1.0
_TIDY_EVERY = 100
_KEPT = timedelta(minutes=10)
"""Every taking of the lock leaves files, which are removed now and then once they are this old."""
_ERRORS = (OSError, ValueError, RuntimeError)
TABLE = "lock"


def _now() -> float:
    """Seconds of a clock that goes on while the machine sleeps, where there is one."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.clock_gettime(clock) if clock is not None else time.monotonic()


class Lease:
    """The lock, for one time of holding it.

    Args:
        db: LanceDB's connection.
    """

    def __init__(self, db: Any) -> None:
        self._db, self._me = db, uuid4().hex
        self._good_until = 0.0
        self._times = 0
        self._lost = False
        self._released = threading.Event()
        self._beating: threading.Thread | None = None

    def acquire(self, cancel: CancelToken | None = None) -> None:
        """Take the lock; waits for it.

        Raises:
            StoreError: the storage cannot be written.
            Cancelled: `cancel` was called while waiting.
        """
        with writable():
            self._table = self._opened()
            seen, since = None, _now()
            while True:
                raise_if_cancelled(cancel)
                owner, beat = self._read()
                begin = _now()
                if (owner, beat) != seen:
                    seen, since = (owner, beat), begin
                # An answer that was lost on its way leaves us the owner without our knowing.
                if owner == self._me or ((not owner or begin - since > DEAD_AFTER_S) and self._take(owner, beat)):
                    if not beat and not owner:
                        # The first ever: another who made the table at the same time may have written over it.
                        time.sleep(_LOOK_EVERY_S)
                        continue
                    self._good_until, self._times = begin + GOOD_FOR_S, beat
                    break
                if owner:
                    time.sleep(_LOOK_EVERY_S)
        self._beating = threading.Thread(target=self._beat, daemon=True)
        self._beating.start()

    def require(self) -> None:
        """See that the lock is still held.

        Raises:
            LostLockError: it may be another's by now.
        """
        if self._lost or _now() > self._good_until:
            raise LostLockError(
                "The library's storage did not answer for so long that another writer may have begun. This scan was not "
                "added; start again, what was done stays done."
            )

    def release(self) -> None:
        """Give the lock back; where that fails, the others wait until it has run out."""
        self._released.set()
        if self._beating is not None:
            self._beating.join()
        with suppress(*_ERRORS):
            if self._times % _TIDY_EVERY == 0:
                self._table.optimize(cleanup_older_than=_KEPT)
            self._table.update(where=f"owner = '{self._me}'", values={"owner": ""})

    def _opened(self) -> Any:
        import pyarrow as pa

        try:
            return self._db.open_table(TABLE)
        except ValueError as error:
            if "was not found" not in str(error):
                raise
        try:
            return self._db.create_table(TABLE, pa.table({"owner": [""], "beat": pa.array([0], pa.int64())}))
        except _ERRORS as error:
            # Another made it at the same time.
            if "already exists" not in str(error) and not _crowded(error):
                raise
        return self._db.open_table(TABLE)

    def _read(self) -> tuple[str, int]:
        rows = self._table.search().limit(1).to_arrow().to_pylist()
        return rows[0]["owner"], rows[0]["beat"]

    def _take(self, owner: str, beat: int) -> bool:
        where = f"owner = '{owner}' AND beat = {beat}"
        try:
            return self._table.update(where=where, values={"owner": self._me, "beat": beat + 1}).rows_updated == 1
        except _ERRORS as error:
            # Too many others took it at once; whoever got it is seen at the next look.
            if _crowded(error):
                return False
            raise

    def _beat(self) -> None:
        while not self._released.wait(BEAT_S):
            begin = _now()
            with suppress(*_ERRORS):
                mine = f"owner = '{self._me}'"
                if self._table.update(where=mine, values_sql={"beat": "beat + 1"}).rows_updated != 1:
                    self._lost = True
                    return
                self._good_until = begin + GOOD_FOR_S


def _crowded(error: Exception) -> bool:
    return any(word in str(error).lower() for word in ("conflict", "contention", "concurrent"))
