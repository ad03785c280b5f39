"""Which encoder is chosen, and the one that the worker has loaded.

The library's heavy parts are imported inside the functions, so that torch is loaded by the worker at first use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from CoralBayLib.core.errors import CoralBayError
from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled
from CoralBaySlicerCore.scene.volumes import VolumeSnapshot
from CoralBaySlicerCore.setup import encoder_files, packaged_weights
from CoralBaySlicerCore.setup.encoder_files import EncoderFile

from .worker import shown


@dataclass(frozen=True)
class Choice:
    """Which encoder, and how it is run.

    Attributes:
        encoder: its name in the library.
        weights: a file, or "" for the usual places.
        weights_version: changes whenever there may be other weights, though the names are the same.
        device: "auto", "cpu", "cuda", ...
        setting: "" for the encoder's default.
        assume_hu: skip the check that the values look like HU.
        file: the Python file the encoder comes from, as the user agreed to it, or None.
    """

    encoder: str = "coralbay"
    weights: str = ""
    device: str = "auto"
    setting: str = ""
    assume_hu: bool = False
    file: EncoderFile | None = None
    weights_version: tuple[int, ...] = ()

    @property
    def features(self) -> tuple:
        """The part of the choice that decides what the features are."""
        return self.encoder, self.weights, self.weights_version, self.setting, self.file


class Session:
    """What the worker keeps between tasks: the encoder that was loaded last."""

    def __init__(self) -> None:
        self._choice: tuple | None = None
        self._encoder: Any = None
        self.device = ""

    def encoder(
        self,
        choice: Choice,
        consent: Callable[[Any], bool] | None = None,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
    ) -> Any:
        """The encoder of a choice, loaded when it is another than last time; progress is that of a download."""
        from CoralBayLib.core.devices import describe
        from CoralBayLib.encoders import load_encoder

        wanted = (*choice.features, choice.device)
        if self._choice != wanted:
            self._choice = self._encoder = None
            if choice.file:
                encoder_files.load(choice.file)
            if consent is not None and not choice.weights:
                packaged_weights.require(choice.encoder, consent)
            self._encoder = load_encoder(
                choice.encoder,
                choice.weights or None,
                choice.device,
                setting=choice.setting or None,
                consent=consent,
                progress=shown(progress),
                cancel=cancel,
            )
            self._choice = wanted
        self.device = describe(self._encoder.device)
        return self._encoder

    def stored(self, scan: VolumeSnapshot, choice: Choice) -> Any:
        """The pyramid of a scan if it is in the store, else None; computes and downloads nothing."""
        from CoralBayLib.features.embedding import store_key
        from CoralBayLib.features.store import Store

        try:
            encoder = self.encoder(choice)
        except CoralBayError:
            return None
        return Store().get(store_key(scan.volume, encoder))

    def embed(
        self,
        scan: VolumeSnapshot,
        choice: Choice,
        consent: Callable[[Any], bool] | None = None,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
    ) -> Any:
        """The pyramid of a scan, computed or from the store."""
        from CoralBayLib.features.embedding import embed
        from CoralBayLib.features.store import Store

        encoder = self.encoder(choice, consent, progress, cancel)
        raise_if_cancelled(cancel)
        pyramid = embed(scan.volume, encoder, progress, cancel, store=Store(), assume_hu=choice.assume_hu)
        self.device = self.device or str(encoder.device)
        return pyramid
