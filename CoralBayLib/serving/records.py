"""A job of a client, and the computation that one or several jobs wait for."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from CoralBayLib.core.errors import VolumeError
from CoralBayLib.encoders.base import EncoderProperties
from CoralBayLib.features.identity import store_key
from CoralBayLib.imaging.grid import Volume
from CoralBayLib.remote.wire import QUEUED, JobRequest


class QueueFullError(Exception):
    """Every place of the queue is taken."""


class PartError(Exception):
    """A part does not fit the job."""


@dataclass(eq=False)
class Work:
    """The computation of one pyramid, for one or several jobs.

    Attributes:
        request: of the job that it began with.
        voxels: file with the voxels.
        jobs: IDs of the jobs that wait for it.
        state: QUEUED, RUNNING, DONE or FAILED.
        fraction, message: of its progress.
        error: what went wrong, as `CoralBayError.as_dict`.
        begin_s: when it was started, on the monotonic clock.
        version: increased by every change.
        cancelled: set when nobody waits for it any more.
    """

    request: JobRequest
    voxels: Path
    jobs: set[str] = field(default_factory=set)
    state: str = QUEUED
    fraction: float = 0.0
    message: str = ""
    error: dict[str, Any] | None = None
    begin_s: float = 0.0
    version: int = 1
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(eq=False)
class Job:
    """What one client waits for.

    Attributes:
        id: known to this client only.
        request: what it asked for.
        voxels: file that its parts are written to.
        received: numbers of the parts that have arrived.
        work: the computation, once all parts have arrived.
        finished: whether the result was there from the beginning.
        seen_s: when its client last asked, on the monotonic clock.
        receiving: held while a part is written, so that voxels that were checked are not written again.
    """

    id: str
    request: JobRequest
    voxels: Path
    received: set[int] = field(default_factory=set)
    work: Work | None = None
    finished: bool = False
    seen_s: float = field(default_factory=time.monotonic)
    receiving: asyncio.Lock = field(default_factory=asyncio.Lock)


def check_voxels(request: JobRequest, voxels: Path, encoder: EncoderProperties) -> None:
    """Compare voxels with the key that was announced, which their hash is part of.

    Args:
        request: what is asked for.
        voxels: file with all voxels.
        encoder: of the request.

    Raises:
        VolumeError: they are those of another scan.
        OSError: they cannot be read.
    """
    array = np.memmap(voxels, request.dtype, "r", shape=tuple(request.shape))
    if store_key(Volume(array, request.grid()), encoder, request.levels) != request.key:
        raise VolumeError("The scan that arrived is not the one that was announced: its hash is another.")


def write_part(job: Job, number: int, data: bytes) -> None:
    """Write a part of the voxels to its place in the file of a job.

    Raises:
        ValueError: the part is damaged.
        OSError: it cannot be written.
    """
    voxels = job.request.decode_part(data, number)
    at = number * job.request.part_shape(0)[0] * voxels.itemsize
    job.voxels.touch(mode=0o600)
    with job.voxels.open("r+b") as file:
        file.seek(at)
        file.write(voxels.tobytes())
