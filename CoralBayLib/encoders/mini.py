"""CoralBay-mini: CoralBay's network, smaller and on 3 mm voxels, trained for this project by distillation from Astra."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch

from ..errors import WeightsError
from .base import register_encoder
from .checkpoints import read_safetensors
from .swin import LEVEL_NAMES, SETTINGS, CoralBayEncoder, network_from
from .weights import Consent, sha256_of

FILE = Path(__file__).resolve().parents[2] / "Resources" / "Weights" / "coralbay-mini.safetensors"


class CoralBayMiniEncoder(CoralBayEncoder):
    """CoralBay-mini as an `Encoder`; see `CoralBayEncoder` for the arguments."""

    name = "coralbay-mini"
    title = "CoralBay-mini"
    spacing_mm = (3.0, 3.0, 3.0)
    settings: ClassVar[dict] = {"whole": SETTINGS["whole"]}
    # The block at stride 1 was not trained.
    offered = LEVEL_NAMES[1:]


@register_encoder(
    CoralBayMiniEncoder.name,
    title=CoralBayMiniEncoder.title,
    summary="CoralBay's network at half the width on 3 mm voxels, distilled from Astra; small, quick, no download.",
    paper="Testing/training",
    licence="MIT",
    source="Resources/Weights/coralbay-mini.safetensors",
)
def load_coralbay_mini(
    weights: str | Path | None = None,
    device: torch.device | str = "cpu",
    consent: Consent = None,
    *,
    setting: str | None = None,
) -> CoralBayMiniEncoder:
    """Load the weights that come with the repository, or a file of the same form.

    Raises:
        WeightsError: there is no such file, or it does not fit.
        EncoderError: the setting is unknown.
    """
    path = Path(weights).expanduser() if weights is not None else FILE
    if path.is_dir():
        path = path / FILE.name
    if not path.is_file():
        raise WeightsError(f"There is no weights file '{path}'. Pass weights= with the path of {FILE.name}.")
    network = network_from(read_safetensors(path))
    return CoralBayMiniEncoder(network, sha256_of(path), f"local file {path.name}", setting, device)
