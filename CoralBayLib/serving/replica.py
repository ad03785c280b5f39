"""One process that embeds scans, as Ray Serve runs it; each has an encoder in memory."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from CoralBayLib.core.errors import Cancelled, CoralBayError, EncoderError, MemoryLimitError, Remedy, ServerError
from CoralBayLib.core.progress import CancelToken
from CoralBayLib.imaging.grid import Volume
from CoralBayLib.imaging.hounsfield import check_ct
from CoralBayLib.remote.wire import JobRequest

from .settings import ServerSettings

if TYPE_CHECKING:
    from CoralBayLib.encoders.base import Encoder

_log = logging.getLogger("ray.serve")
_LOOK_S = 0.05


class Replica:
    """Embeds one scan after the other.

    Args:
        settings: of the server.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._encoder: tuple[tuple[str, str], Encoder] | None = None
        if settings.encoder_file:
            from CoralBayLib.encoders import load_encoder_file

            load_encoder_file(settings.encoder_file)

    async def embed(self, request: dict[str, Any], voxels: str) -> AsyncIterator[dict[str, Any]]:
        """Embed a scan and put the features into the server's cache.

        Args:
            request: see `JobRequest`.
            voxels: file with the voxels, which have been compared with the key.

        Yields:
            Fraction and message; or the error that ended the work, as `CoralBayError.as_dict`.
        """
        latest: list[dict[str, Any]] = [{"fraction": 0.0, "message": "Preparing the CT"}]
        cancel = CancelToken()

        def report(fraction: float, message: str) -> None:
            latest[0] = {"fraction": round(fraction, 3), "message": message}

        work = asyncio.ensure_future(asyncio.to_thread(self._embed, JobRequest.from_json(request), voxels, report, cancel))
        reported: dict[str, Any] | None = None
        try:
            while not work.done():
                if latest[0] is not reported:
                    reported = latest[0]
                    yield reported
                await asyncio.wait({work}, timeout=_LOOK_S)
            error = work.result()
            if error is not None:
                yield error.as_dict()
        finally:
            # The next scan begins when this one has left the memory.
            cancel.cancel()
            await asyncio.wait({work})

    def _embed(self, request: JobRequest, voxels: str, report: Any, cancel: CancelToken) -> CoralBayError | None:
        begin = time.monotonic()
        error: CoralBayError | None = None
        try:
            self._store(request, Path(voxels), report, cancel)
        except CoralBayError as fault:
            error = fault
        except MemoryError:
            error = MemoryLimitError("There is too little memory for this scan.", remedy=Remedy.FREE_MEMORY)
        except Exception as fault:
            if "out of memory" in str(fault) or "allocate memory" in str(fault):  # as torch says it
                error = MemoryLimitError("There is too little memory for this scan.", remedy=Remedy.FREE_MEMORY)
            else:
                _log.error("%s: unexpected %s", request.key[:12], type(fault).__name__)
                error = ServerError(f"The scan could not be embedded ({type(fault).__name__}).", remedy=Remedy.TRY_LATER)
        outcome = "embedded" if error is None else type(error).__name__
        _log.info("%s: %s, %d voxels, %.1f s", request.key[:12], outcome, request.voxels, time.monotonic() - begin)
        return None if isinstance(error, Cancelled) else error

    def _store(self, request: JobRequest, voxels: Path, report: Any, cancel: CancelToken) -> None:
        from CoralBayLib.features.embedding import compute_pyramid
        from CoralBayLib.features.identity import choose_levels
        from CoralBayLib.features.store import Store

        store = Store(self._settings.cache, self._settings.cache_bytes)
        volume = Volume(np.fromfile(voxels, request.dtype).reshape(request.shape), request.grid())
        encoder = self._load(request.encoder, request.setting)
        if encoder.weights_sha256 != request.weights:
            raise EncoderError(f"The server's weights of '{request.encoder}' have changed. Ask for its encoders again.")
        check_ct(volume, assume_hu=request.assume_hu)
        if request.key not in store:
            store.put(compute_pyramid(volume, encoder, choose_levels(encoder, request.levels), request.key, report, cancel))

    def _load(self, name: str, setting: str) -> Encoder:
        if self._encoder is None or self._encoder[0] != (name, setting):
            from CoralBayLib.encoders import load_encoder

            self._encoder = None  # not two of them in memory
            encoder = load_encoder(name, self._settings.weights, self._settings.device, setting=setting or None)
            self._encoder = (name, setting), encoder
        return self._encoder[1]
