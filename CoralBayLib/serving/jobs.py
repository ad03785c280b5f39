"""The jobs of a server: received in parts, queued in order, computed once for equal scans, cancelled, forgotten.

Everything runs in one event loop; the computation itself is a function that is given. Imports neither Ray nor torch.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from CoralBayLib.core.errors import ServerError, VolumeError
from CoralBayLib.core.paths import remove_quietly
from CoralBayLib.remote.wire import DONE, FAILED, QUEUED, RECEIVING, RUNNING, JobRequest

from .metrics import Metrics
from .records import Job, PartError, QueueFullError, Work, write_part

Compute = Callable[[dict[str, Any], str], AsyncIterator[dict[str, Any]]]
"""Computes the pyramid of a request from a file of voxels; see `replica.Replica.embed`."""
Check = Callable[[JobRequest, Path], None]
"""Raises an error when the voxels in a file are not those of a request; see `records.check_voxels`."""

_RETRIES = 2
"""How often a scan is given to another replica after its replica was lost."""
_LOOK_S = 0.05
_LONG_POLL_S = 5.0
_FIRST_RATE = 1e-6
"""Seconds for a voxel, before anything was measured."""


class Jobs:
    """All jobs of a server.

    Args:
        folder: for voxels while they wait; emptied now, and of each job when it ends.
        compute: computes one pyramid.
        check: compares voxels with their key, before anybody else waits for them.
        stored: whether the pyramid of a key is in the cache.
        metrics: counts what happens.
        places: most jobs at the same time.
        runners: most computations at the same time.
        abandon_s: a job that its client does not ask about for this long is ended, seconds.
    """

    def __init__(
        self,
        folder: Path,
        compute: Compute,
        check: Check,
        stored: Callable[[str], bool],
        metrics: Metrics,
        places: int,
        runners: int,
        abandon_s: float,
    ) -> None:
        self.folder, self.places, self.abandon_s = folder, places, abandon_s
        self._compute, self._check, self._stored = compute, check, stored
        self._metrics, self._runners = metrics, runners
        self._jobs: dict[str, Job] = {}
        self._works: dict[str, Work] = {}
        self._queue: deque[Work] = deque()
        self._queued = asyncio.Condition()
        self._rate = _FIRST_RATE
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        for file in folder.iterdir():
            remove_quietly(file)

    def begin(self, request: JobRequest) -> Job:
        """A new job.

        Raises:
            QueueFullError: every place is taken.
        """
        identifier = secrets.token_urlsafe(32)
        job = Job(identifier, request, self.folder / secrets.token_hex(16))
        work = self._work(request.key)
        if self._stored(request.key):
            job.finished = True
            self._metrics.found.inc()
        elif work is not None:
            self._join(job, work)
        elif sum(not each.finished for each in self._jobs.values()) >= self.places:
            self._metrics.refused.inc()
            raise QueueFullError
        self._jobs[identifier] = job
        return job

    def find(self, identifier: str) -> Job | None:
        """The job of an ID, which counts as asked about now; None if there is none."""
        job = self._jobs.get(identifier)
        if job is not None:
            job.seen_s = time.monotonic()
        return job

    async def receive(self, job: Job, number: int, data: bytes) -> None:
        """Take one part of the voxels; a part that has arrived already is ignored.

        Raises:
            PartError: it is no part of this job, or damaged.
            VolumeError: it was the last part, and the voxels are not those that were announced; the job is forgotten.
            OSError: it cannot be written.
        """
        async with job.receiving:
            if job.work is not None or job.finished or number in job.received:
                return
            if not 0 <= number < job.request.parts:
                raise PartError(f"there is no part {number}")
            try:
                await asyncio.to_thread(write_part, job, number, data)
                if len(job.received) == job.request.parts - 1:
                    await self._complete(job)
                job.received.add(number)
            except VolumeError:
                self.remove(job)
                raise
            except ValueError as error:
                raise PartError(str(error)) from error
            finally:
                if job.id not in self._jobs and job.work is None:  # it was removed meanwhile
                    remove_quietly(job.voxels)

    async def _complete(self, job: Job) -> None:
        """Queue a job that has all its voxels."""
        if not self._is_done(job) and self._work(job.request.key) is None:
            await asyncio.to_thread(self._check, job.request, job.voxels)
        if job.id not in self._jobs or self._is_done(job):
            return
        work = self._work(job.request.key)
        if work is not None:
            self._join(job, work)
            return
        work = self._works[job.request.key] = Work(job.request, job.voxels)
        self._join(job, work)
        self._queue.append(work)
        async with self._queued:
            self._queued.notify()

    def remove(self, job: Job) -> None:
        """Forget a job; its computation ends if no other job waits for it."""
        self._jobs.pop(job.id, None)
        work = job.work
        if work is None:
            remove_quietly(job.voxels)
            return
        work.jobs.discard(job.id)
        if work.jobs:
            return
        work.cancelled.set()
        if work.state == QUEUED:
            self._queue.remove(work)
            self._close(work)

    def state(self, job: Job) -> dict[str, Any]:
        """What a client is told of its job."""
        work = job.work
        if job.finished or (work is None and self._is_done(job)):
            return {"job": job.id, "state": DONE, "version": 0}
        if work is None:
            following = next(n for n in range(job.request.parts + 1) if n not in job.received)
            return {"job": job.id, "state": RECEIVING, "next": following, "version": 0}
        status: dict[str, Any] = {"job": job.id, "state": work.state, "version": self._version(work)}
        if work.state == QUEUED:
            status["place"] = self._queue.index(work) + 1
            status["seconds_left"] = self._seconds_left(work)
        elif work.state == RUNNING:
            status |= {"fraction": work.fraction, "message": work.message, "seconds_left": self._seconds_left(work)}
        elif work.state == FAILED:
            status["error"] = work.error
        return status

    async def changed_state(self, job: Job, seen: int) -> dict[str, Any]:
        """As `state`, after a wait for a change of what the client has seen."""
        end = time.monotonic() + _LONG_POLL_S
        while job.work is not None and job.work.state in (QUEUED, RUNNING) and self._version(job.work) == seen:
            if time.monotonic() > end:
                break
            job.seen_s = time.monotonic()
            await asyncio.sleep(_LOOK_S)
        return self.state(job)

    async def run(self) -> None:
        """Compute what is queued, one after the other, for ever."""
        while True:
            async with self._queued:
                await self._queued.wait_for(lambda: bool(self._queue))
                work = self._queue.popleft()
            work.state, work.begin_s = RUNNING, time.monotonic()
            work.version += 1
            try:
                await self._run(work)
            finally:
                self._close(work)

    def sweep(self) -> None:
        """End the jobs that nobody asks about."""
        for job in list(self._jobs.values()):
            if time.monotonic() - job.seen_s > self.abandon_s:
                if not job.finished and (job.work is None or job.work.state in (QUEUED, RUNNING)):
                    self._metrics.abandoned.inc()
                self.remove(job)

    def counts(self) -> dict[str, int]:
        """Number of jobs that are received, and of computations that wait and run."""
        return {
            RECEIVING: sum(job.work is None and not job.finished for job in self._jobs.values()),
            QUEUED: len(self._queue),
            RUNNING: sum(work.state == RUNNING for work in self._works.values()),
        }

    async def _run(self, work: Work) -> None:
        error: dict[str, Any] | None = None
        for attempt in range(_RETRIES + 1):
            if work.cancelled.is_set():
                return
            try:
                error = await self._attempt(work)
                break
            except asyncio.CancelledError:
                raise
            except Exception:  # whatever ended the replica, another one may do the work
                self._metrics.lost.inc()
                work.fraction, work.message = 0.0, f"Beginning again ({attempt + 1})"
                work.version += 1
                error = ServerError(
                    "The process that embeds the scan ended each time; the scan may need too much memory."
                ).as_dict()
        if work.cancelled.is_set():
            self._metrics.cancelled.inc()
            return
        seconds = time.monotonic() - work.begin_s
        work.state, work.error = (DONE, None) if error is None else (FAILED, error)
        work.version += 1
        (self._metrics.done if error is None else self._metrics.failed).inc()
        if error is None:
            self._metrics.seconds.observe(seconds)
            self._rate = (
                seconds / work.request.voxels
                if self._rate == _FIRST_RATE
                else 0.7 * self._rate + 0.3 * seconds / work.request.voxels
            )

    async def _attempt(self, work: Work) -> dict[str, Any] | None:
        """Compute once; returns the error, if any. Ends early when the work is cancelled."""
        events = self._compute(work.request.as_json(), str(work.voxels)).__aiter__()
        cancelled = asyncio.ensure_future(work.cancelled.wait())
        try:
            while True:
                following = asyncio.ensure_future(_next(events))
                await asyncio.wait({following, cancelled}, return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    following.cancel()
                    await asyncio.gather(following, return_exceptions=True)
                    return None
                event = following.result()
                if event is None:
                    return None
                if "error" in event:
                    return event
                work.fraction, work.message = float(event["fraction"]), str(event["message"])
                work.version += 1
        finally:
            cancelled.cancel()
            close = getattr(events, "aclose", None)
            if close is not None:
                await close()

    def _work(self, key: str) -> Work | None:
        """The computation of a key that a job may join; one that was cancelled ends without a result."""
        work = self._works.get(key)
        return None if work is None or work.cancelled.is_set() else work

    def _join(self, job: Job, work: Work) -> None:
        if job.voxels != work.voxels:
            remove_quietly(job.voxels)
        job.work = work
        work.jobs.add(job.id)

    def _close(self, work: Work) -> None:
        if self._works.get(work.request.key) is work:
            del self._works[work.request.key]
        remove_quietly(work.voxels)

    def _is_done(self, job: Job) -> bool:
        # Another client may have sent the same scan in the meantime.
        if self._stored(job.request.key):
            job.finished = True
            remove_quietly(job.voxels)
        return job.finished

    def _version(self, work: Work) -> int:
        # A place in the queue changes when another work does.
        return work.version if work.state != QUEUED else -1 - self._queue.index(work)

    def _seconds_left(self, work: Work) -> float:
        running = [each for each in self._works.values() if each.state == RUNNING]
        if work.state == RUNNING:
            return max(0.0, work.request.voxels * self._rate * (1 - work.fraction))
        ahead = sum(each.request.voxels * (1 - each.fraction) for each in running)
        ahead += sum(each.request.voxels for each in list(self._queue)[: self._queue.index(work)])
        return ahead * self._rate / self._runners + work.request.voxels * self._rate


async def _next(events: AsyncIterator[dict[str, Any]]) -> dict[str, Any] | None:
    try:
        return await events.__anext__()
    except StopAsyncIteration:
        return None
