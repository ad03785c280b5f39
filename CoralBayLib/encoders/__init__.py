"""Frozen networks that turn a CT into feature maps, by name. Importing this package does not import torch.

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
from .catalog import encoder_card, encoder_cards, encoder_names, get_entry
from .plugins import check_encoder, encoder_file_sha256, load_encoder_file, unload_encoder_file
from .registry import register_encoder
from .weights import Consent, WeightsSource, find_weights

if TYPE_CHECKING:
    import torch

    from .base import Encoder

__all__ = [
    "EncoderCard",
    "encoder_card",
    "encoder_cards",
    "encoder_names",
    "get_entry",
    "load_encoder",
    "encoder_file_sha256",
    "load_encoder_file",
    "register_encoder",
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
        name: one of `encoder_names()`.
        weights: a weights file, or the folder that holds it; by default the usual places are searched.
        device: "auto" (a CUDA GPU that passes a short test, otherwise the CPU), or any torch device.
        setting: inference mode, one of the card's `settings`; by default the first.
        consent: whether a download is allowed, or a function that is asked; by default nothing is downloaded.
        progress: called with the state of a download.
        cancel: stops a download; the part received so far is kept.

    Raises:
        EncoderError: the name or the setting is unknown, the device cannot be used, or the loaded object is not an
            encoder.
        WeightsError: the weights could not be found, verified or loaded.
        Cancelled: the user cancelled.
    """
    from CoralBayLib.core.devices import pick_device

    entry = get_entry(name)
    if weights is None and consent and isinstance(entry.weights, WeightsSource):
        # Downloaded here, since loaders take neither progress nor cancel; the loader then finds the file.
        find_weights(entry.weights, consent=consent, progress=progress, cancel=cancel)
        consent = None
    encoder = entry.load(weights=weights, device=pick_device(device), consent=consent, setting=setting)
    check_encoder(encoder, name)
    return encoder
