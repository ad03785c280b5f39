"""The Hugging Face hub: metadata of a file, and the hub's cache on this computer.

All requests use the hub's own client, which follows HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_OFFLINE and the proxy variables.
"""

from __future__ import annotations

import os
import queue
import re
import threading
import time
from pathlib import Path
from typing import Any

from CoralBayLib.core.errors import Cancelled, WeightsError
from CoralBayLib.core.progress import CancelToken, raise_if_cancelled

from .sources import WeightsSource, sha256_of

_SHA256 = re.compile(r"[0-9a-f]{64}")


def endpoint() -> str:
    """Address of the hub."""
    from huggingface_hub import constants

    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def address(source: WeightsSource) -> str:
    """Address of the file on the hub."""
    return f"{endpoint()}/{source.repo_id}/resolve/{source.revision}/{source.filename}"


def is_offline() -> bool:
    """Whether the environment forbids the hub's client to use the network."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE) or os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def peek_in_cache(source: WeightsSource) -> Path | None:
    """Look up the file in the hub's cache without reading it."""
    from huggingface_hub import try_to_load_from_cache

    if not source.downloadable:
        return None
    found = try_to_load_from_cache(source.repo_id, source.filename, revision=source.revision)
    return Path(found) if isinstance(found, str) else None


def recorded_sha256(path: Path) -> str | None:
    """The SHA-256 that is the name of a stored file; None on file systems without links."""
    # The cache names large files by their SHA-256 and links to them.
    stored_as = path.resolve().name
    return stored_as if _SHA256.fullmatch(stored_as) else None


def verified_in_cache(source: WeightsSource) -> tuple[Path | None, str]:
    """The file in the hub's cache, verified when its SHA-256 is recorded.

    Returns:
        The file and "found", or None and the reason.
    """
    path = peek_in_cache(source)
    if path is None:
        return None, "does not hold the file"
    if recorded_sha256(path) not in (None, sha256_of(path)):
        return None, "holds a damaged copy (its SHA-256 is not the published one)"
    return path, "found"


def remove_from_cache(source: WeightsSource) -> int:
    """Delete this revision of the repository from the hub's cache.

    Returns:
        The bytes freed.

    Raises:
        WeightsError: the file could not be deleted.
    """
    from huggingface_hub import constants, scan_cache_dir

    if peek_in_cache(source) is None:
        return 0
    plan = scan_cache_dir(constants.HF_HUB_CACHE).delete_revisions(source.revision)
    plan.execute()
    if peek_in_cache(source) is not None:
        raise WeightsError(
            f"{source.filename} could not be deleted from the Hugging Face cache. Close other programs that use it, then "
            "try again."
        )
    return plan.expected_freed_size


def ask(source: WeightsSource, timeout_s: float, cancel: CancelToken | None = None) -> tuple[str, int | None]:
    """Ask the hub for the SHA-256 and the size of a file.

    Args:
        source: the weights.
        timeout_s: time limit in seconds, in total.
        cancel: stops the wait.

    Returns:
        The SHA-256, and the size in bytes or None.

    Raises:
        ConnectionError: the hub does not answer, or its answer cannot be used; the message says why.
        Cancelled: the user cancelled.
    """
    try:
        metadata = _probe(address(source), timeout_s, cancel)
    except Cancelled:
        raise
    except Exception as error:  # network, proxy and hub raise errors of many types
        raise ConnectionError(f"no usable answer ({type(error).__name__}: {reason_of(error)})") from error
    if metadata.commit_hash not in (None, source.revision):
        raise ConnectionError(f"answered with revision {metadata.commit_hash}, expected {source.revision}")
    if not _SHA256.fullmatch(metadata.etag or ""):
        raise ConnectionError("did not announce a SHA-256 to verify the file against")
    return metadata.etag, metadata.size


def _probe(url: str, timeout_s: float, cancel: CancelToken | None) -> Any:
    """The metadata of a file on the hub.

    The request runs in a thread that is abandoned at the deadline, since no setting of the client limits the time for name
    resolution and proxies.
    """
    from huggingface_hub import get_hf_file_metadata

    answers: queue.Queue = queue.Queue()

    def ask_hub() -> None:
        try:
            answers.put((get_hf_file_metadata(url, timeout=timeout_s), None))
        except Exception as error:  # raised again in the caller's thread
            answers.put((None, error))

    threading.Thread(target=ask_hub, name="coralbay-hub-probe", daemon=True).start()
    deadline = time.monotonic() + timeout_s
    while True:
        raise_if_cancelled(cancel)
        try:
            metadata, error = answers.get(timeout=min(0.1, timeout_s))
            break
        except queue.Empty:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no answer within {timeout_s:g} s") from None
    if error is not None:
        raise error
    return metadata


def reason_of(error: BaseException) -> str:
    """The first line of an error message of the hub's client."""
    return (str(error).strip().splitlines() or ["no message"])[0]
