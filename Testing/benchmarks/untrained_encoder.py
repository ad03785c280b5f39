"""An encoder file: the network of coralbay-mini with random weights of seed 0, for comparison in the commands of `coralbay`."""

from __future__ import annotations

from typing import Any

import torch

from CoralBayLib.encoders import EncoderCard, register_encoder
from CoralBayLib.encoders.coralbay import CoralBayNetwork
from CoralBayLib.encoders.coralbay_mini import CoralBayMiniEncoder

FEATURE_SIZE = 24
"""Channels of the first level, as those of coralbay-mini."""


class UntrainedEncoder(CoralBayMiniEncoder):
    """The features of an untrained network."""

    name, title = "untrained", "CoralBay-mini with random weights"


@register_encoder(EncoderCard(UntrainedEncoder.name, UntrainedEncoder.title, "Random weights, for comparison only."))
def load(weights: Any = None, device: str = "cpu", consent: Any = None, *, setting: str | None = None) -> UntrainedEncoder:
    """Make the encoder. It has no weights to load."""
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    encoder = UntrainedEncoder(CoralBayNetwork(FEATURE_SIZE), "untrained-seed-0", "none", "whole")
    torch.random.set_rng_state(state)
    encoder.to(device)
    return encoder
