"""Frozen networks that turn a CT into feature maps, by name.

Example::

    from CoralBayLib.encoders import encoder_cards, load_encoder

    for card in encoder_cards():
        print(card.name, card.summary)
    encoder = load_encoder("coralbay", weights="model.safetensors")
"""

from __future__ import annotations

from pathlib import Path

import torch

from ..devices import pick_device
from . import astra, mini, swin  # noqa: F401  the families register themselves
from .base import Encoder, encoder_card, encoder_cards, register_encoder
from .weights import Consent

__all__ = ["encoder_cards", "load_encoder", "register_encoder"]


def load_encoder(
    name: str,
    weights: str | Path | None = None,
    device: str | torch.device = "auto",
    *,
    setting: str | None = None,
    consent: Consent = None,
) -> Encoder:
    """Load an encoder with its weights.

    Args:
        name: one of `encoder_cards()`.
        weights: file, or folder that holds it; by default the usual places are searched.
        device: "auto" (a CUDA GPU that passes a small test, otherwise the CPU), or any torch device.
        setting: how the encoder is run, where it offers a choice.
        consent: whether a download is allowed, or a function that is asked; by default nothing is downloaded.

    Raises:
        EncoderError: the name or the setting is unknown, or the device cannot be used.
        WeightsError: the weights could not be found, verified or loaded.
    """
    card = encoder_card(name)
    return card.load(weights=weights, device=pick_device(device), consent=consent, setting=setting)
