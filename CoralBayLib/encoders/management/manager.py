"""The weights of all encoders on this computer: list, fetch and delete them."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from CoralBayLib.core.errors import WeightsError
from CoralBayLib.core.paths import error_message
from CoralBayLib.core.progress import CancelToken, Progress
from CoralBayLib.encoders.catalog import encoder_names, get_entry
from CoralBayLib.encoders.weights import cache, hub
from CoralBayLib.encoders.weights.resolve import find_weights
from CoralBayLib.encoders.weights.sources import (
    Consent,
    FoundWeights,
    PackagedWeights,
    ShippedWeights,
    Weights,
    WeightsSource,
    sha256_of,
)


@dataclass(frozen=True)
class WeightsState:
    """Where an encoder's weights are.

    Attributes:
        encoder: name of the encoder.
        location: "variable" (a file named by an environment variable), "folder" (CoralBay's own), "hub cache",
            "packages", "shipped", or "" when they are not on this computer.
        path: the file, or None; also None while packages have not assembled it yet.
        nbytes: size of the file.
        sha256: of the file, as recorded where it is kept; not computed.
        origin: where it comes from or can be obtained.
        licence: of the weights.
        part_bytes: size of an unfinished download.
        fetch_method: "download", "pip", or "" when CoralBay cannot fetch them or they come with it.
    """

    encoder: str
    location: str
    path: Path | None
    nbytes: int | None
    sha256: str | None
    origin: str
    licence: str
    part_bytes: int = 0
    fetch_method: str = ""

    @property
    def available(self) -> bool:
        """Whether the encoder can be loaded without fetching anything."""
        return bool(self.location)

    @property
    def deletable(self) -> bool:
        """Whether `delete` would delete anything."""
        return bool(self.part_bytes) or (self.path is not None and self.location in ("folder", "hub cache", "packages"))

    def as_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON. The keys "place" and "offered" are part of the command line's interface."""
        content = asdict(self)
        content["place"], content["offered"] = content.pop("location"), content.pop("fetch_method")
        return {**content, "path": str(self.path) if self.path else None}


def weights_of(encoder: str) -> Weights:
    """The description of an encoder's weights.

    Raises:
        EncoderError: there is no such encoder.
        WeightsError: the encoder manages its weights itself.
    """
    weights = get_entry(encoder).weights
    if weights is None:
        raise WeightsError(f"The encoder '{encoder}' manages its weights itself, so this command does not apply to it.")
    return weights


def states() -> list[WeightsState]:
    """Where the weights of all encoders are. Fast: uses no network and reads no weights file."""
    known = (get_entry(name).weights for name in encoder_names())
    return [_state(weights) for weights in known if weights is not None]


def state(encoder: str) -> WeightsState:
    """Where one encoder's weights are; raises as `weights_of`."""
    return _state(weights_of(encoder))


def _state(weights: Weights) -> WeightsState:
    fetch_method = ""
    if isinstance(weights, WeightsSource) and weights.downloadable:
        fetch_method = "download"
    elif isinstance(weights, PackagedWeights):
        fetch_method = "pip"
    location, path, sha256 = _locate(weights)
    return WeightsState(
        weights.encoder,
        location,
        path,
        path.stat().st_size if path else None,
        sha256,
        weights.by_hand if isinstance(weights, WeightsSource) and weights.by_hand and not location else weights.origin,
        weights.licence,
        cache.partial_bytes(weights.encoder),
        fetch_method,
    )


def _locate(weights: Weights) -> tuple[str, Path | None, str | None]:
    """Location, file and recorded SHA-256."""
    if isinstance(weights, ShippedWeights):
        exists = weights.path.is_file()
        return ("shipped", weights.path, sha256_of(weights.path)) if exists else ("", None, None)
    if isinstance(weights, WeightsSource) and os.environ.get(weights.env):
        try:
            return "variable", find_weights(weights).path, None
        except WeightsError:
            return "", None, None
    record, _outcome = cache.peek(weights)
    if record is not None:
        return "folder", cache.path_of(record), record.sha256
    if isinstance(weights, PackagedWeights):
        path = weights.find()
        available = path is not None or weights.installed()
        return "packages" if available else "", path, weights.sha256 if path else None
    path = hub.peek_in_cache(weights)
    return ("hub cache", path, hub.recorded_sha256(path)) if path is not None else ("", None, None)


def fetch(
    encoder: str, consent: Consent = None, progress: Progress | None = None, cancel: CancelToken | None = None
) -> FoundWeights:
    """Make an encoder's weights available on this computer.

    Args:
        encoder: name of the encoder.
        consent: as for `find_weights`.
        progress: called with the state of a download.
        cancel: stops a download; the part received so far is kept.

    Raises:
        EncoderError: there is no such encoder.
        WeightsError: the weights could not be obtained; says what to do.
        Cancelled: the user cancelled.
    """
    weights = weights_of(encoder)
    if isinstance(weights, WeightsSource):
        return find_weights(weights, consent=consent, progress=progress, cancel=cancel)
    if isinstance(weights, ShippedWeights):
        if not weights.path.is_file():
            raise WeightsError(f"{weights.filename} is missing from {weights.path.parent}. Install CoralBay again.")
        return FoundWeights(weights.path, weights.origin)
    record, _outcome = cache.verified(weights)
    return FoundWeights(cache.path_of(record) if record else weights.make(), weights.origin)


def delete(encoder: str) -> int:
    """Delete an encoder's weights from CoralBay's folder, from the hub's cache, and the file that packages assembled.

    Files that the user named and installed packages are not deleted.

    Returns:
        The bytes freed; 0 when there was nothing to delete.

    Raises:
        EncoderError: there is no such encoder.
        WeightsError: the weights come with CoralBay, or could not be deleted.
    """
    weights = weights_of(encoder)
    if isinstance(weights, ShippedWeights):
        raise WeightsError(f"The weights of '{encoder}' come with CoralBay: there is nothing to download or delete.")
    freed = cache.clear(weights)
    if isinstance(weights, WeightsSource):
        return freed + hub.remove_from_cache(weights)
    path = weights.find()
    if path is not None:
        size = path.stat().st_size
        try:
            path.unlink()
        except OSError as error:
            raise WeightsError(f"{path} could not be deleted: {error_message(error)}.") from error
        freed += size
    return freed
