"""Drafts made on the machines of a Ray cluster.

This process commits them in the order of the scans, so the library is the same as if one process had done everything. Every
machine needs the scans under the same paths, and the encoder's weights. Ray is imported at first use.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

from CoralBayLib.core.deprecation import deprecated_names
from CoralBayLib.core.errors import CoralBayError, LibraryError, Remedy
from CoralBayLib.core.paths import error_message
from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, report
from CoralBayLib.core.requirements import RAY
from CoralBayLib.encoders.base import Encoder
from CoralBayLib.imaging.discovery import ScanSource

from .drafts import DraftOptions, DraftResult, make_draft

__getattr__ = deprecated_names(__name__, {"OnRay": "RayWorkers"})

RETRIES = 3
"""How often a scan is given to another worker after its worker was lost."""
_POLL_S = 0.5
_CONNECT_TIMEOUT_S = 10.0
_SCANS_PER_PROCESSOR = 2
"""Scans that are submitted at the same time, for each processor of the cluster."""


class RayWorkers:
    """Makes drafts on a Ray cluster.

    Args:
        load: loads the encoder; called once in each worker process, so Ray must be able to pickle it.
        address: of the cluster, for example "auto" or "ray://host:10001"; "local" starts one on this computer.
        processors: number of processors for one scan.

    Raises:
        LibraryError: Ray is not installed, or the cluster cannot be reached.

    Example::

        workers = RayWorkers(partial(load_encoder, "coralbay-mini"), "ray://head:10001")
        library.add("/data/scans", load_encoder("coralbay-mini"), workers=workers)
    """

    def __init__(self, load: Callable[[], Encoder], address: str = "auto", processors: float = 1) -> None:
        # Ray reports its use to its developers unless this is set.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError as error:
            raise LibraryError(
                f"Embedding on a cluster needs the Python package Ray ({error}).",
                remedy=Remedy.INSTALL_PACKAGE,
                package=RAY,
            ) from error
        self._ray = ray
        try:
            if not ray.is_initialized():
                _require_reachable(address)
                options: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
                ray.init(address=address, log_to_driver=False, **options)
        except (ConnectionError, OSError, RuntimeError, ValueError) as error:
            raise LibraryError(
                f"The Ray cluster '{address}' cannot be reached ({error_message(error)}). Check its address."
            ) from error
        # Retries are limited because a scan may itself kill its worker, for example by using all memory.
        self._work = ray.remote(num_cpus=processors, max_retries=RETRIES)(_work)
        self._load, self._key = load, uuid4().hex
        self._processors = processors

    def drafts(
        self, sources: Sequence[ScanSource], options: DraftOptions, progress: Progress | None, cancel: CancelToken | None
    ) -> Iterator[DraftResult]:
        """See `DraftWorkers.drafts`; several scans are processed at the same time.

        Raises:
            Cancelled: `cancel` was called.
            EncoderError: the encoder cannot be used.
        """
        ray, waiting = self._ray, deque(sources)
        options = replace(options, known=frozenset(options.known))
        limit = max(1, int(_SCANS_PER_PROCESSOR * ray.cluster_resources().get("CPU", 1) / self._processors))
        running: deque[tuple[ScanSource, Any]] = deque()
        try:
            while waiting or running:
                raise_if_cancelled(cancel)
                while waiting and len(running) < limit:
                    source = waiting.popleft()
                    running.append((source, self._work.remote(self._key, self._load, source, options)))
                source, ref = running.popleft()
                report(progress, 0.0, "Embedding")
                raise_if_cancelled(cancel)
                try:
                    while not ray.wait([ref], timeout=_POLL_S)[0]:
                        raise_if_cancelled(cancel)
                    yield ray.get(ref)
                except ray.exceptions.RayTaskError as error:
                    cause = error.cause
                    raise cause if isinstance(cause, CoralBayError) else error from None
                except ray.exceptions.RayError as error:
                    reason = f"Its worker was lost {RETRIES + 1} times ({type(error).__name__}); it may need more memory."
                    yield DraftResult(source, reason=reason)
        finally:
            for _, ref in running:
                ray.cancel(ref, force=True)


def _require_reachable(address: str) -> None:
    """Raise OSError if nothing listens at `host:port`; Ray itself would retry for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_TIMEOUT_S).close()


_encoders: dict[str, Encoder] = {}


def _work(key: str, load: Callable[[], Encoder], source: ScanSource, options: DraftOptions) -> DraftResult:
    """Make one draft in a worker process, which keeps the encoder for the next."""
    if key not in _encoders:
        _encoders.clear()
        _encoders[key] = load()
    return make_draft(source, _encoders[key], options)
