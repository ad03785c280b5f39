"""An encoder without weights for servers in tests: `coralbay serve --encoder-file` runs this file.

It waits before each scan for as long as the environment variable CORALBAY_TEST_WAIT_S says, or until the file is gone that
CORALBAY_TEST_GATE names.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch

from CoralBayLib.encoders import EncoderCard, register_encoder
from Testing.lib.conftest import PoolingEncoder


class SlowEncoder(PoolingEncoder):
    """As its base, with waits between which the work can be cancelled."""

    def __init__(self) -> None:
        super().__init__((4, 8), (2.5, 2.5, 2.5))
        self.wait_s = float(os.environ.get("CORALBAY_TEST_WAIT_S", "0"))

    def forward_features(self, x, names):
        end, gate = time.monotonic() + self.wait_s, os.environ.get("CORALBAY_TEST_GATE")
        while time.monotonic() < end and (gate is None or Path(gate).exists()):
            time.sleep(0.02)
            self.network.pools[0](torch.zeros(1, 1, 8, 8, 8))
        return super().forward_features(x, names)


@register_encoder(EncoderCard("pooling", "Pooling", "For tests."))
def load(weights: Any = None, device: str = "cpu", consent: Any = None, *, setting: str | None = None) -> SlowEncoder:
    """Make the encoder."""
    return SlowEncoder()
