"""An encoder whose network is on a server. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from CoralBayLib.core.errors import EncoderError
from CoralBayLib.core.progress import CancelToken, Progress
from CoralBayLib.core.schemas import SERVER_ENCODER
from CoralBayLib.encoders.base import Axes, InputSpec, LevelSpec, Tiling
from CoralBayLib.imaging.grid import Volume

from .connection import Connection
from .job import fetch_pyramid
from .wire import JobRequest, versions, voxel_type

if TYPE_CHECKING:
    import torch

    from CoralBayLib.encoders.base import Encoder


def describe_encoder(encoder: Encoder, setting: str) -> dict[str, Any]:
    """What a client has to know of an encoder, in values that JSON can represent.

    Args:
        encoder: from `load_encoder`.
        setting: the inference mode that it was loaded with; "" where it has none.
    """
    return {
        "name": encoder.name,
        "title": encoder.title,
        "setting": setting,
        "weights": encoder.weights_sha256,
        "scan_token": encoder.scan_token or "",
        "tiling": encoder.tiling.name,
        "spacing_mm": list(encoder.input.spacing_mm),
        "window_hu": list(encoder.input.window_hu),
        "multiple": list(encoder.input.multiple),
        "levels": [
            {
                "name": level.name,
                "channels": level.channels,
                "stride": list(level.stride),
                "offset": list(level.offset),
                "pooled": level.pooled,
                "optional": level.optional,
            }
            for level in encoder.levels
        ],
    }


class DescribedEncoder:
    """What `describe_encoder` says of an encoder.

    Attributes:
        name, title, input, levels, scan_token, tiling, weights_sha256: as of any encoder.
        setting: the inference mode, as the server lists it.

    Raises:
        ValueError: the description is damaged; says where.
    """

    def __init__(self, description: dict[str, Any]) -> None:
        SERVER_ENCODER.check_header(description)
        self.name: str = description["name"]
        self.title: str = description["title"]
        self.setting: str = description["setting"]
        self.weights_sha256: str = description["weights"]
        self.scan_token: str | None = description["scan_token"] or None
        self.tiling = Tiling(description["tiling"], None)
        self.input = InputSpec(
            tuple(description["spacing_mm"]), tuple(description["window_hu"]), tuple(description["multiple"])
        )
        self.levels = tuple(
            LevelSpec(
                level["name"],
                level["channels"],
                tuple(level["stride"]),
                tuple(level["offset"]),
                level["pooled"],
                level["optional"],
            )
            for level in description["levels"]
        )


class RemoteEncoder(DescribedEncoder):
    """An encoder on a server; `embed` and all that calls it take it in place of one on this computer.

    Attributes:
        weights_source: address of the server.
    """

    def __init__(self, connection: Connection, description: dict[str, Any]) -> None:
        super().__init__(description)
        self._connection = connection
        self.weights_source = connection.url

    def fetch(
        self,
        volume: Volume,
        key: str,
        levels: Sequence[str],
        path: Path,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
        *,
        assume_hu: bool = False,
    ) -> None:
        """See `DistantEncoder.fetch`."""
        request = JobRequest(
            versions=versions(),
            key=key,
            encoder=self.name,
            setting=self.setting,
            weights=self.weights_sha256,
            levels=list(levels),
            shape=list(volume.grid.shape),
            ijk_to_ras=volume.grid.ijk_to_ras.tolist(),
            dtype=voxel_type(volume.array),
            assume_hu=assume_hu,
        )
        fetch_pyramid(self._connection, request, volume, path, progress, cancel)

    @property
    def device(self) -> torch.device:
        """The network has no device here."""
        raise self._elsewhere()

    @property
    def network(self) -> torch.nn.Module:
        """The network is not here."""
        raise self._elsewhere()

    def forward_features(self, x: torch.Tensor, names: tuple[str, ...]) -> list[torch.Tensor]:
        """The network is not here."""
        raise self._elsewhere()

    def memory_bytes(self, window: Axes, names: tuple[str, ...]) -> int:
        """Nothing is computed here."""
        raise self._elsewhere()

    def to(self, device: torch.device) -> None:
        """The network is not here."""
        raise self._elsewhere()

    def _elsewhere(self) -> EncoderError:
        return EncoderError(
            f"This needs the network of '{self.name}' on this computer, but it is on the server {self._connection.host}. "
            "Load the encoder on this computer."
        )
