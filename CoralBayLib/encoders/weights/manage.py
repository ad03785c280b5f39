"""The weights of all encoders on this machine: listed, fetched, deleted."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from CoralBayLib.core.errors import WeightsError
from CoralBayLib.core.paths import error_message
from CoralBayLib.core.progress import CancelToken, Progress
from CoralBayLib.encoders.registry import encoder_names, registered

from . import cache, hub
from .resolve import find_weights
from .sources import Consent, FoundWeights, PackagedWeights, ShippedWeights, Weights, WeightsSource, sha256_of


@dataclass(frozen=True)
class WeightsState:
    """Where an encoder's weights are.

    Attributes:
        encoder: name of the encoder.
        place: "variable", "folder" (ours), "hub cache", "packages", "shipped", or "" when they are not here.
        path: of the file; None as well where packages have not put it together yet.
        nbytes: of the file.
        sha256: of the file, as recorded where it is kept; not computed anew.
        origin: where it was or can be had from.
        licence: of the weights.
        part_bytes: of an unfinished download.
        offered: "download", "pip", or "" when it must be come by in another way or is here for good.
    """

    encoder: str
    place: str
    path: Path | None
    nbytes: int | None
    sha256: str | None
    origin: str
    licence: str
    part_bytes: int = 0
    offered: str = ""

    @property
    def here(self) -> bool:
        """Whether the encoder can be loaded without fetching anything."""
        return bool(self.place)

    @property
    def deletable(self) -> bool:
        """Whether there is anything that `delete` would delete."""
        return bool(self.part_bytes) or (self.path is not None and self.place in ("folder", "hub cache", "packages"))

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**asdict(self), "path": str(self.path) if self.path else None}


def weights_of(encoder: str) -> Weights:
    """Where an encoder's weights are published.

    Raises:
        EncoderError: there is no such encoder.
        WeightsError: it takes care of its weights itself.
    """
    weights = registered(encoder).weights
    if weights is None:
        raise WeightsError(f"The encoder '{encoder}' takes care of its weights itself; they cannot be handled here.")
    return weights


def states() -> list[WeightsState]:
    """Where the weights of all encoders are, quickly and without using the network; files are not read."""
    known = ((name, registered(name).weights) for name in encoder_names())
    return [_state(weights) for _name, weights in known if weights is not None]


def state(encoder: str) -> WeightsState:
    """Where one encoder's weights are; raises as `weights_of`."""
    return _state(weights_of(encoder))


def _state(weights: Weights) -> WeightsState:
    offered = ""
    if isinstance(weights, WeightsSource) and weights.downloadable:
        offered = "download"
    elif isinstance(weights, PackagedWeights):
        offered = "pip"
    place, path, sha256 = _where(weights)
    return WeightsState(
        weights.encoder,
        place,
        path,
        path.stat().st_size if path else None,
        sha256,
        weights.origin,
        weights.licence,
        cache.partial_bytes(weights.encoder),
        offered,
    )


def _where(weights: Weights) -> tuple[str, Path | None, str | None]:
    """Place, file and recorded SHA-256."""
    if isinstance(weights, ShippedWeights):
        there = weights.path.is_file()
        return ("shipped", weights.path, sha256_of(weights.path)) if there else ("", None, None)
    if isinstance(weights, WeightsSource) and os.environ.get(weights.env):
        try:
            return "variable", find_weights(weights).path, None
        except WeightsError:
            return "", None, None
    record, _outcome = cache.look(weights)
    if record is not None:
        return "folder", cache.path_of(record), record.sha256
    if isinstance(weights, PackagedWeights):
        path = weights.find()
        here = path is not None or weights.installed()
        return "packages" if here else "", path, weights.sha256 if path else None
    path = hub.look_in_cache(weights)
    return ("hub cache", path, hub.recorded_sha256(path)) if path is not None else ("", None, None)


def fetch(
    encoder: str, consent: Consent = None, progress: Progress | None = None, cancel: CancelToken | None = None
) -> FoundWeights:
    """See to it that an encoder's weights are on this machine.

    Args:
        encoder: name of the encoder.
        consent: as for `find_weights`.
        progress: told how far a download is.
        cancel: ends a download; what came is kept.

    Raises:
        EncoderError: there is no such encoder.
        WeightsError: they could not be had; says what to do.
        Cancelled: the user cancelled.
    """
    weights = weights_of(encoder)
    if isinstance(weights, WeightsSource):
        return find_weights(weights, consent=consent, progress=progress, cancel=cancel)
    if isinstance(weights, ShippedWeights):
        if not weights.path.is_file():
            raise WeightsError(f"{weights.filename} is missing from {weights.path.parent}. Install CoralBay again.")
        return FoundWeights(weights.path, weights.origin)
    record, _outcome = cache.find(weights)
    return FoundWeights(cache.path_of(record) if record else weights.make(), weights.origin)


def delete(encoder: str) -> int:
    """Delete an encoder's weights from our folder, the hub's cache and where packages put them together.

    Files that the user named are left alone, and so are installed packages.

    Returns:
        Bytes freed; 0 when there was nothing.

    Raises:
        EncoderError: there is no such encoder.
        WeightsError: they come with CoralBay, or could not be deleted.
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
