"""The Hugging Face hub: what it says of a file, and its cache on this machine.

All of it goes through the hub's own client, so HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_OFFLINE and the proxy variables
mean here what they mean everywhere.
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
    """The hub's address."""
    from huggingface_hub import constants

    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def address(source: WeightsSource) -> str:
    """Of the file."""
    return f"{endpoint()}/{source.repo_id}/resolve/{source.revision}/{source.filename}"


def is_offline() -> bool:
    """Whether the user has forbidden the hub's client to use the network."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE) or os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def peek_in_cache(source: WeightsSource) -> Path | None:
    """The file in the hub's cache, not yet verified."""
    from huggingface_hub import try_to_load_from_cache

    if not source.downloadable:
        return None
    found = try_to_load_from_cache(source.repo_id, source.filename, revision=source.revision)
    return Path(found) if isinstance(found, str) else None


def recorded_sha256(path: Path) -> str | None:
    """The SHA-256 a file of the cache is stored under; None where links are not to be had."""
    # Large files are stored under their SHA-256 and linked to.
    stored_as = path.resolve().name
    return stored_as if _SHA256.fullmatch(stored_as) else None


def verified_in_cache(source: WeightsSource) -> tuple[Path | None, str]:
    """The file in the hub's cache, verified where it can be, or None and why not."""
    path = peek_in_cache(source)
    if path is None:
        return None, "does not hold the file"
    if recorded_sha256(path) not in (None, sha256_of(path)):
        return None, "holds a damaged copy (its SHA-256 is not the published one)"
    return path, "found"


def remove_from_cache(source: WeightsSource) -> int:
    """Delete this revision of the repository from the hub's cache; returns the bytes freed.

    Raises:
        WeightsError: it could not be deleted.
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
    """The SHA-256 and the size that the hub announces for a file.

    Raises:
        ConnectionError: there is no answer, or none to rely on; says which.
        Cancelled: the user did not want to wait.
    """
    try:
        metadata = _probe(address(source), timeout_s, cancel)
    except Cancelled:
        raise
    except Exception as error:  # whatever the network, a proxy or the hub came up with
        raise ConnectionError(f"no usable answer ({type(error).__name__}: {reason_of(error)})") from error
    if metadata.commit_hash not in (None, source.revision):
        raise ConnectionError(f"answered with revision {metadata.commit_hash}, expected {source.revision}")
    if not _SHA256.fullmatch(metadata.etag or ""):
        raise ConnectionError("did not announce a SHA-256 to verify the file against")
    return metadata.etag, metadata.size


def _probe(url: str, timeout_s: float, cancel: CancelToken | None) -> Any:
    """The hub's word on a file. Runs in a thread that is abandoned at the deadline: name resolution and proxies have
    time limits of their own, which no client setting bounds."""
    from huggingface_hub import get_hf_file_metadata

    answers: queue.Queue = queue.Queue()

    def ask_hub() -> None:
        try:
            answers.put((get_hf_file_metadata(url, timeout=timeout_s), None))
        except Exception as error:  # raised again by the caller's thread
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
    """The first line of what the client says."""
    return (str(error).strip().splitlines() or ["no message"])[0]
