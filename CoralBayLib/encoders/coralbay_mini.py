"""CoralBay-mini: CoralBay's network, smaller and on 3 mm voxels, trained for this project by distillation from Astra."""

from __future__ import annotations

from pathlib import Path

from CoralBayLib.core.errors import WeightsError

from .coralbay import LEVEL_NAMES, CoralBayEncoder, network_from
from .frozen import loader
from .networks.checkpoints import read_checkpoint
from .weights import Consent, FoundWeights, ShippedWeights

WEIGHTS = ShippedWeights("coralbay-mini", "coralbay-mini.safetensors", "MIT")


class CoralBayMiniEncoder(CoralBayEncoder):
    """CoralBay-mini as an `Encoder`; see `CoralBayEncoder` for the arguments.

    Training saw whole bodies, and that is how it is run.
    """

    name = "coralbay-mini"
    title = "CoralBay-mini"
    settings = ("whole",)
    spacing_mm = (3.0, 3.0, 3.0)
    # The block at stride 1 was not trained.
    offered = LEVEL_NAMES[1:]


def find(weights: str | Path | None, consent: Consent = None) -> FoundWeights:
    """The file that comes with CoralBay, or another of the same form, or a folder that holds one; `consent` is not needed.

    Raises:
        WeightsError: there is no such file.
    """
    path = WEIGHTS.path if weights is None else Path(weights).expanduser()
    if path.is_dir():
        path = path / WEIGHTS.filename
    if not path.is_file():
        what_to_do = "Install CoralBay again." if weights is None else "Leave weights= out to use the file it comes with."
        raise WeightsError(f"There is no weights file '{path}'. {what_to_do}")
    return FoundWeights(path, WEIGHTS.origin if weights is None else f"local file {path.name}")


load = loader(CoralBayMiniEncoder, find, lambda path: network_from(read_checkpoint(path)))
