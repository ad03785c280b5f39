"""Embedding on the machines of a Ray cluster. What they make is committed here, in the order of the scans, so that the
library is the same as if all had been done in one process.

Every machine must see the scans under the same paths, and the encoder's weights. Ray is imported at first use.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

from CoralBayLib.core.errors import CoralBayError, LibraryError
from CoralBayLib.core.paths import error_message
from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, report
from CoralBayLib.encoders.base import Encoder

from .discovery import ScanSource
from .workers import Made, Wanted, make

RETRIES = 3
"""How often a scan is given to another worker when its worker was lost."""
_LOOK_EVERY_S = 0.5
_REACHED_WITHIN_S = 10.0
_AHEAD = 2
"""Scans in work for each of the cluster's processors."""


class OnRay:
    """Makes drafts on a Ray cluster.

    Args:
        load: makes the encoder; called once in each worker process, so it must be a function that can be sent there.
        address: of the cluster, such as "auto" or "ray://host:10001"; "local" starts one on this machine.
        processors: processors that one scan gets.

    Raises:
        LibraryError: Ray is not installed, or the cluster cannot be reached.

    Example::

        workers = OnRay(partial(load_encoder, "coralbay-mini"), "ray://head:10001")
        library.add("/data/scans", load_encoder("coralbay-mini"), workers=workers)
    """

    def __init__(self, load: Callable[[], Encoder], address: str = "auto", processors: float = 1) -> None:
        # Ray tells its makers how it is used unless it is told not to.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError as error:
            raise LibraryError(
                f"Embedding on a cluster needs the package Ray ({error}). Install it: pip install ray"
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
        # A scan that takes down its worker, by want of memory say, is not tried for ever.
        self._work = ray.remote(num_cpus=processors, max_retries=RETRIES)(_work)
        self._load, self._key = load, uuid4().hex
        self._processors = processors

    def drafts(
        self, sources: Sequence[ScanSource], wanted: Wanted, progress: Progress | None, cancel: CancelToken | None
    ) -> Iterator[Made]:
        """As in `Workers`; several scans are in work at a time.

        Raises:
            Cancelled: `cancel` was called.
            EncoderError: the encoder cannot be used.
        """
        ray, waiting = self._ray, deque(sources)
        told = replace(wanted, known=frozenset(wanted.known))
        most = max(1, int(_AHEAD * ray.cluster_resources().get("CPU", 1) / self._processors))
        running: deque[tuple[ScanSource, Any]] = deque()
        try:
            while waiting or running:
                raise_if_cancelled(cancel)
                while waiting and len(running) < most:
                    source = waiting.popleft()
                    running.append((source, self._work.remote(self._key, self._load, source, told)))
                source, ref = running.popleft()
                report(progress, 0.0, "Embedding")
                raise_if_cancelled(cancel)
                try:
                    while not ray.wait([ref], timeout=_LOOK_EVERY_S)[0]:
                        raise_if_cancelled(cancel)
                    yield ray.get(ref)
                except ray.exceptions.RayTaskError as error:
                    cause = error.cause
                    raise cause if isinstance(cause, CoralBayError) else error from None
                except ray.exceptions.RayError as error:
                    words = f"Its worker was lost {RETRIES + 1} times ({type(error).__name__}); it may need more memory."
                    yield Made(source, reason=words)
        finally:
            for _, ref in running:
                ray.cancel(ref, force=True)


def _require_reachable(address: str) -> None:
    """OSError when nothing listens at `host:port`: Ray itself goes on trying for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACHED_WITHIN_S).close()


_encoders: dict[str, Encoder] = {}


def _work(key: str, load: Callable[[], Encoder], source: ScanSource, wanted: Wanted) -> Made:
    """One scan's draft, in a worker process; the encoder stays for the next."""
    if key not in _encoders:
        _encoders.clear()
        _encoders[key] = load()
    return make(source, _encoders[key], wanted)
