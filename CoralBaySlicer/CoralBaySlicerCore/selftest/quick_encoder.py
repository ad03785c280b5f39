"""An encoder that takes next to no time, so that the self-test can walk through every step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NAME = "coralbay-self-test"


@contextmanager
def registered() -> Iterator[str]:
    """Register the encoder for a while; yields its name."""
    from torch.nn.functional import avg_pool3d

    from CoralBayLib.encoders import EncoderCard, register_encoder, registry
    from CoralBayLib.encoders.base import InputSpec, LevelSpec, Tiling

    class Averages:
        """Averages of functions of the intensity over blocks; see `CoralBayLib.encoders.base.Encoder`."""

        name, title = NAME, "Self-test"
        input = InputSpec((3.0, 3.0, 3.0), (-1000.0, 1000.0), (8, 8, 8))
        levels = tuple(LevelSpec(f"block{s}", 3, (s, s, s), ((s - 1) / 2,) * 3, pooled=True) for s in (2, 4, 8))
        scan_token = None
        tiling = Tiling("whole", None)
        weights_sha256 = "0" * 64
        weights_source = "none"

        def __init__(self, device: Any) -> None:
            from torch import nn

            self.network = nn.Identity()
            self.to(device)

        def forward_features(self, x: Any, names: Any) -> list[Any]:
            """Map (1, 1, R, A, S) to one (1, 3, r, a, s) for each name."""
            from torch import cat

            values = cat([x, x**2, (x - 0.5).abs()], dim=1)
            return [avg_pool3d(values, level.stride) for level in self.levels if level.name in names]

        def memory_bytes(self, window: Any, names: Any) -> int:
            """Peak memory for a window, bytes."""
            return 60 * window[0] * window[1] * window[2]

        def to(self, device: Any) -> None:
            """Move to a device."""
            from torch import device as torch_device

            self.device = torch_device(device)

    @register_encoder(EncoderCard(NAME, Averages.title, "Self-test"))
    def load(weights: Any = None, device: str = "cpu", consent: Any = None, *, setting: Any = None) -> Any:
        return Averages(device)

    try:
        yield NAME
    finally:
        registry.unregister(NAME)
