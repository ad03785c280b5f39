"""The configuration of the encoder, and the encoder that the worker has loaded.

The library's slow modules are imported inside functions, so that the worker loads torch at first use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from CoralBayLib.core.errors import CoralBayError
from CoralBayLib.core.progress import CancelToken, raise_if_cancelled
from CoralBaySlicerCore.scene.volumes import VolumeSnapshot
from CoralBaySlicerCore.setup import encoder_files, packaged_weights
from CoralBaySlicerCore.setup.encoder_files import EncoderFile
from CoralBaySlicerCore.setup.servers import Server

from .worker import TaskProgress, as_messages

if TYPE_CHECKING:
    from CoralBayLib.encoders.base import Encoder
    from CoralBayLib.encoders.weights import DownloadRequest
    from CoralBayLib.features.pyramid import FeaturePyramid


@dataclass(frozen=True)
class EncoderConfig:
    """An encoder and the way it is run.

    Attributes:
        encoder: name of the encoder in the library.
        weights: path of a file, or "" for the default locations.
        weights_version: changes when the weights may have changed under the same name.
        device: "auto", "cpu", "cuda", ...
        setting: the inference mode; "" for the encoder's default.
        assume_hu: skip the check that the values are HU.
        file: the Python file of the encoder, as the user allowed it, or None.
        server: the server that computes the features, or None for this computer.
    """

    encoder: str = "coralbay"
    weights: str = ""
    device: str = "auto"
    setting: str = ""
    assume_hu: bool = False
    file: EncoderFile | None = None
    weights_version: tuple[int, ...] = ()
    server: Server | None = None

    @property
    def features(self) -> tuple:
        """The part of the configuration that determines the features."""
        return self.encoder, self.weights, self.weights_version, self.setting, self.file


class Session:
    """State of the worker between tasks: the encoder that was loaded last.

    Attributes:
        device: description of the device that was used last; "" before the first use.
    """

    def __init__(self) -> None:
        self._config: tuple | None = None
        self._encoder: Encoder | None = None
        self.device = ""

    def encoder(
        self,
        config: EncoderConfig,
        consent: Callable[[DownloadRequest], bool] | None = None,
        progress: TaskProgress | None = None,
        cancel: CancelToken | None = None,
    ) -> Encoder:
        """The encoder of a configuration, loaded if it differs from the last one.

        Args:
            config: the encoder and its settings.
            consent: asks the user before a download; None downloads nothing.
            progress: of a download.
            cancel: checked during a download.

        Raises:
            CoralBayError: the encoder or its weights cannot be loaded.
            Cancelled: the user declined or cancelled.
        """
        from CoralBayLib.core.devices import describe
        from CoralBayLib.encoders import load_encoder

        requested = (*config.features, config.device, config.server)
        encoder = self._encoder
        if encoder is None or self._config != requested:
            self._config = self._encoder = None
            if config.server is not None:
                self._encoder = self._on_server(config.server, config, cancel)
                self._config = requested
                return self._encoder
            if config.file:
                encoder_files.load(config.file)
            if consent is not None and not config.weights:
                packaged_weights.require(config.encoder, consent)
            encoder = self._encoder = load_encoder(
                config.encoder,
                config.weights or None,
                config.device,
                setting=config.setting or None,
                consent=consent,
                progress=as_messages(progress),
                cancel=cancel,
            )
            self._config = requested
        self.device = describe(encoder.device) if config.server is None else config.server.url
        return encoder

    def _on_server(self, server: Server, config: EncoderConfig, cancel: CancelToken | None) -> Encoder:
        from CoralBayLib.remote.embedder import RemoteEmbedder

        embedder = RemoteEmbedder(server.url, server.token or None, certificates=server.certificates or None)
        encoder = embedder.encoder(config.encoder, config.setting or None, cancel)
        self.device = server.url
        return encoder

    def stored(self, scan: VolumeSnapshot, config: EncoderConfig) -> FeaturePyramid | None:
        """The pyramid of a scan if it is in the store, else None; nothing is computed or downloaded."""
        from CoralBayLib.features.identity import store_key
        from CoralBayLib.features.store import Store

        if config.server is not None and not config.server.allowed:
            return None
        try:
            encoder = self.encoder(config)
        except CoralBayError:
            return None
        return Store().get(store_key(scan.volume, encoder))

    def embed(
        self,
        scan: VolumeSnapshot,
        config: EncoderConfig,
        consent: Callable[[DownloadRequest], bool] | None = None,
        progress: TaskProgress | None = None,
        cancel: CancelToken | None = None,
    ) -> FeaturePyramid:
        """The pyramid of a scan, read from the store or computed. Arguments and errors are those of `encoder` and `embed`."""
        from CoralBayLib.features.embedding import embed
        from CoralBayLib.features.store import Store

        encoder = self.encoder(config, consent, progress, cancel)
        raise_if_cancelled(cancel)
        return embed(scan.volume, encoder, progress, cancel, store=Store(), assume_hu=config.assume_hu)
