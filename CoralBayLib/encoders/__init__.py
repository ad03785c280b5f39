"""Frozen networks that turn a CT into feature maps, by name. Importing this does not import torch.

Example::

    from CoralBayLib.encoders import encoder_cards, load_encoder

    for card in encoder_cards():
        print(card.name, card.summary)
    encoder = load_encoder("coralbay", weights="model.safetensors")
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from CoralBayLib.core.progress import CancelToken, Progress

from .cards import EncoderCard, shipped_card
from .plugins import check_encoder, load_encoder_file, unload_encoder_file
from .registry import encoder_cards, encoder_names, register_encoder, registered
from .weights import Consent, WeightsSource, find_weights

if TYPE_CHECKING:
    import torch

    from .base import Encoder

__all__ = [
    "EncoderCard",
    "encoder_cards",
    "encoder_names",
    "load_encoder",
    "load_encoder_file",
    "register_encoder",
    "registered",
    "shipped_card",
    "unload_encoder_file",
]


def load_encoder(
    name: str,
    weights: str | Path | None = None,
    device: str | torch.device = "auto",
    *,
    setting: str | None = None,
    consent: Consent = None,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> Encoder:
    """Load an encoder with its weights.

    Args:
        name: one of `encoder_cards()`.
        weights: file, or folder that holds it; by default the usual places are searched.
        device: "auto" (a CUDA GPU that passes a small test, otherwise the CPU), or any torch device.
        setting: how the encoder is run, where it offers a choice.
        consent: whether a download is allowed, or a function that is asked; by default nothing is downloaded.
        progress: told how far a download is.
        cancel: ends a download; what came is kept.

    Raises:
        EncoderError: the name or the setting is unknown, the device cannot be used, or what was loaded is no encoder.
        WeightsError: the weights could not be found, verified or loaded.
        Cancelled: the user cancelled.
    """
    from CoralBayLib.core.devices import pick_device

    known = registered(name)
    if weights is None and consent and isinstance(known.weights, WeightsSource):
        # Fetched here, so that a loader need not know of progress and cancelling; it then finds them.
        find_weights(known.weights, consent=consent, progress=progress, cancel=cancel)
        consent = None
    encoder = known.load(weights=weights, device=pick_device(device), consent=consent, setting=setting)
    check_encoder(encoder, name)
    return encoder
