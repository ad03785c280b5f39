"""The search for a weights file: a path, the environment, our folder, the hub's cache, and with consent the hub."""

from __future__ import annotations

import os
from pathlib import Path

from CoralBayLib.core.errors import EncoderError, Remedy, WeightsError
from CoralBayLib.core.formatting import format_bytes
from CoralBayLib.core.progress import CancelToken, Progress, report
from CoralBayLib.encoders.cards import shipped_card

from . import cache, download, hub
from .sources import FALLBACK, Consent, DownloadRequest, FoundWeights, WeightsSource, sha256_of


def find_weights(
    source: WeightsSource,
    path: str | Path | None = None,
    consent: Consent = None,
    timeout_s: float = 10,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> FoundWeights:
    """The first weights file found, in this order: `path`, the environment, our folder, the hub's cache, the hub.

    Args:
        source: what to look for.
        path: a file, or a folder that holds it.
        consent: True, or a function that says yes to a `DownloadRequest`; otherwise no network is used.
        timeout_s: the longest to wait for a hub that does not answer, in all.
        progress: told how far a download is.
        cancel: ends a download; what came is kept, and the next one goes on from there.

    Raises:
        WeightsError: nothing could be had; the message lists what was tried and what to do, and the remedy is GET_WEIGHTS.
        Cancelled: the user cancelled.
    """
    name = Path(source.filename).name
    if path is not None:
        return FoundWeights(_given(Path(path), source, "weights="), f"local file {name}")
    if os.environ.get(source.env):
        return FoundWeights(_given(Path(os.environ[source.env]), source, source.env), f"local file by {source.env}")

    tried = [f"{source.env}: not set"]
    record, outcome = cache.verified(source)
    if record is not None:
        return FoundWeights(cache.path_of(record), source.origin)
    tried.append(f"CoralBay's folder: {outcome}")
    if source.downloadable:
        found, outcome = hub.verified_in_cache(source)
        if found is not None:
            return FoundWeights(found, source.origin)
        tried.append(f"the hub's cache: {outcome}")
        refusal = _refusal(source, consent)
        if refusal is None:
            try:
                return FoundWeights(_fetch(source, timeout_s, progress, cancel), source.origin)
            except ConnectionError as error:
                refusal = str(error)
        tried.append(f"{hub.endpoint()}: {refusal}")
    raise WeightsError(
        f"No weights for '{source.encoder}'. Tried: {'; '.join(tried)}. What to do: {_advice(source)} pass it as weights= "
        f"or name it in the environment variable {source.env}; or import a bundle (`coralbay weights import`); or use "
        f"encoder '{FALLBACK}', whose weights come with CoralBay.",
        remedy=Remedy.GET_WEIGHTS,
        encoder=source.encoder,
        reason=tried[-1],
    )


def _given(path: Path, source: WeightsSource, by: str) -> Path:
    """The file that the user named, who is told when it is not there rather than given another."""
    path = path.expanduser()
    name = Path(source.filename).name
    candidates = [path / source.filename, path / name] if path.is_dir() else [path]
    for file in candidates:
        if file.is_file():
            return file
    what = f"the folder holds no {name}" if path.is_dir() else "there is no such file or folder"
    raise WeightsError(f"{by} names '{path}', but {what}. Name a weights file or a folder that holds {name}.")


def _advice(source: WeightsSource) -> str:
    if source.downloadable:
        return f"allow the download; or get {source.filename} from {hub.address(source)} by hand and"
    return f"{source.by_hand or f'Get {source.filename} from those who publish it.'} Then"


def _refusal(source: WeightsSource, consent: Consent) -> str | None:
    """Why the hub must not be asked, or None when it may."""
    if hub.is_offline():
        return "not asked, HF_HUB_OFFLINE is set"
    if callable(consent):
        request = DownloadRequest(
            f"weights of the encoder '{source.encoder}' ({source.filename})",
            _size(source),
            hub.address(source),
            source.licence,
        )
        consent = consent(request)
    return None if consent else "not asked, no consent to a download was given"


def _size(source: WeightsSource) -> str:
    begun = cache.partial_bytes(source.encoder)
    told = f"; {format_bytes(begun)} of it are here already" if begun else ""
    try:
        published = shipped_card(source.encoder).weights_bytes
    except EncoderError:
        published = None
    return (format_bytes(published) if published else "not published; the hub tells when the download begins") + told


def _fetch(source: WeightsSource, timeout_s: float, progress: Progress | None, cancel: CancelToken | None) -> Path:
    """The file fetched from the hub, verified, and put on the shelf.

    Raises:
        WeightsError: the file that came is not the one the hub announced, or cannot be kept.
        ConnectionError: it did not come.
    """
    expected, size = hub.ask(source, timeout_s, cancel)
    cache.make_folder(source.encoder)
    with cache.locked(source.encoder):
        # Another process may have brought it since it was looked for.
        record, _outcome = cache.verified(source)
        if record is not None:
            return cache.path_of(record)
        part = cache.partial(source.encoder, expected)
        title = f"Downloading the weights of {source.encoder}"
        resumed = part.exists()
        download.download(hub.address(source), part, size, title, progress, cancel)
        report(progress, 1.0, f"Checking the weights of {source.encoder}")
        came = sha256_of(part)
        if came != expected and resumed:
            # What an earlier try left may have been damaged since.
            part.unlink()
            download.download(hub.address(source), part, size, title, progress, cancel)
            came = sha256_of(part)
        if came != expected:
            part.unlink()
            raise WeightsError(
                f"The downloaded {source.filename} has SHA-256 {came}, expected {expected}. It was deleted; try again, and "
                "if it happens again a proxy may be changing downloads: get the file by another way and pass weights=."
            )
        path = cache.install(cache.Record.of(source, part), part)
        cache.drop_partials(source.encoder)
        return path
