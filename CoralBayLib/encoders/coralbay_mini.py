"""CoralBay-mini: a smaller network of CoralBay's architecture for 3 mm voxels, trained by distillation from Astra."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from CoralBayLib.core.errors import Remedy, WeightsError

from .coralbay import LEVEL_NAMES, CoralBayEncoder, read_network
from .frozen import loader
from .weights import Consent, FoundWeights, ShippedWeights

WEIGHTS = ShippedWeights("coralbay-mini", "coralbay-mini.safetensors", "MIT")


class CoralBayMiniEncoder(CoralBayEncoder):
    """CoralBay-mini as an `Encoder`; see `CoralBayEncoder` for the arguments.

    It is run on the whole scan at once, as in training.
    """

    name = "coralbay-mini"
    title = "CoralBay-mini"
    settings = ("whole",)
    spacing_mm = (3.0, 3.0, 3.0)
    any_window = False
    # The block at stride 1 was not trained.
    level_names = LEVEL_NAMES[1:]


def find(weights: str | Path | None, consent: Consent = None) -> FoundWeights:
    """Find the file: the one that comes with CoralBay, or the given file, or a file of that name in the given folder.

    Raises:
        WeightsError: there is no such file.
    """
    path = WEIGHTS.path if weights is None else Path(weights).expanduser()
    if path.is_dir():
        path = path / WEIGHTS.filename
    if not path.is_file():
        if weights is None:
            raise WeightsError(f"There is no weights file '{path}'. Install CoralBay again.")
        raise WeightsError(f"There is no weights file '{path}'.", remedy=Remedy.CHOOSE_WEIGHTS_FILE, encoder=WEIGHTS.encoder)
    return FoundWeights(path, WEIGHTS.origin if weights is None else f"local file {path.name}")


load = loader(CoralBayMiniEncoder, find, partial(read_network, CoralBayMiniEncoder.name))
