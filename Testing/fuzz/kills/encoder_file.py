"""An encoder without weights for the commands that are killed: `coralbay --encoder-file` runs this file."""

from __future__ import annotations

from typing import Any

from CoralBayLib.encoders import EncoderCard, register_encoder
from Testing.lib.conftest import PoolingEncoder


@register_encoder(EncoderCard("pooling", "Pooling", "For tests."))
def load(weights: Any = None, device: str = "cpu", consent: Any = None, *, setting: str | None = None) -> PoolingEncoder:
    """Make the encoder."""
    return PoolingEncoder((4, 8), (2.5, 2.5, 2.5))
