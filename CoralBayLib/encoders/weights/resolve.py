"""Finds a weights file: a path, an environment variable, CoralBay's folder, the hub's cache, and with consent the hub."""

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
    """Find a weights file.

    The search order is `path`, the environment variable, CoralBay's folder, the hub's cache, the hub.

    Args:
        source: description of the weights.
        path: a file, or a folder that holds it. Nothing else is searched then.
        consent: True, or a function that returns True for a `DownloadRequest`, allows a download; otherwise no network is
            used.
        timeout_s: time limit for the first answer of the hub, in seconds.
        progress: called with the state of a download.
        cancel: stops a download; the part received so far is kept, and the next download continues from there.

    Raises:
        WeightsError: the weights are nowhere to be found (remedy GET_WEIGHTS); the message lists what was searched. Or the
            given file does not exist (remedy CHOOSE_WEIGHTS_FILE).
        Cancelled: the user cancelled.
    """
    if path is not None:
        file = _given_file(Path(path), source)
        return FoundWeights(file, f"local file {file.name}")
    if os.environ.get(source.env):
        file = _given_file(Path(os.environ[source.env]), source, f"{source.env} names ")
        return FoundWeights(file, f"local file by {source.env}")

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
        f"No weights for '{source.encoder}' were found. {_how_to_obtain(source)} Searched: {'; '.join(tried)}. Another choice "
        f"is the encoder '{FALLBACK}', whose weights come with CoralBay.",
        remedy=Remedy.GET_WEIGHTS,
        encoder=source.encoder,
        downloadable=source.downloadable,
        reason=tried[-1],
    )


def _given_file(path: Path, source: WeightsSource, origin: str = "") -> Path:
    """The file that the user named. When it does not exist, this is an error, and no other file is searched."""
    path = path.expanduser()
    name = Path(source.filename).name
    candidates = [path / source.filename, path / name] if path.is_dir() else [path]
    for file in candidates:
        if file.is_file():
            return file
    what = f"the folder holds no {name}" if path.is_dir() else "there is no such file or folder"
    raise WeightsError(
        f"{origin}'{path}', but {what}." if origin else f"The weights '{path}' cannot be used: {what}.",
        remedy=None if origin else Remedy.CHOOSE_WEIGHTS_FILE,
        encoder=source.encoder,
    )


def _how_to_obtain(source: WeightsSource) -> str:
    if source.downloadable:
        return f"The file is published at {hub.address(source)}."
    return source.by_hand or f"Obtain {source.filename} from its publisher."


def _refusal(source: WeightsSource, consent: Consent) -> str | None:
    """Why no download is allowed; None when it is."""
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
    resumed = f"; {format_bytes(begun)} are downloaded already" if begun else ""
    try:
        published = shipped_card(source.encoder).weights_bytes
    except EncoderError:
        published = None
    return (format_bytes(published) if published else "not published; known when the download begins") + resumed


def _fetch(source: WeightsSource, timeout_s: float, progress: Progress | None, cancel: CancelToken | None) -> Path:
    """Download the file, verify it, and move it to CoralBay's folder.

    Raises:
        WeightsError: the received file is not the announced one, or cannot be stored.
        ConnectionError: the download failed.
    """
    expected, size = hub.ask(source, timeout_s, cancel)
    cache.make_folder(source.encoder)
    with cache.locked(source.encoder):
        # Another process may have downloaded it since the search.
        record, _outcome = cache.verified(source)
        if record is not None:
            return cache.path_of(record)
        part = cache.partial(source.encoder, expected)
        title = f"Downloading the weights of {source.encoder}"
        resumed = part.exists()
        download.download(hub.address(source), part, size, title, progress, cancel)
        report(progress, 1.0, f"Checking the weights of {source.encoder}")
        received = sha256_of(part)
        if received != expected and resumed:
            # The part from an earlier download may be damaged.
            part.unlink()
            download.download(hub.address(source), part, size, title, progress, cancel)
            received = sha256_of(part)
        if received != expected:
            part.unlink()
            raise WeightsError(
                f"The downloaded {source.filename} has SHA-256 {received}, expected {expected}. It was deleted. Try "
                "again. If this happens again, a proxy may be changing downloads: obtain the file in another way."
            )
        path = cache.install(cache.Record.of(source, part), part)
        cache.drop_partials(source.encoder)
        return path
