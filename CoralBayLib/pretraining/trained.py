"""Encoders that `coralbay pretrain` made, under names of their own."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from CoralBayLib.core.errors import Remedy, WeightsError
from CoralBayLib.encoders import register_encoder
from CoralBayLib.encoders.cards import read_card
from CoralBayLib.encoders.coralbay import read_network
from CoralBayLib.encoders.frozen import loader
from CoralBayLib.encoders.weights import Consent, FoundWeights

from .network import ENCODERS


def register_trained(file: str | Path, form: str) -> None:
    """Register the encoder whose weights and card lie beside a Python file and have its name.

    Args:
        file: the Python file, such as `mine.py`; the others are `mine.safetensors` and `mine.json`.
        form: the encoder whose form the weights have, "coralbay" or "coralbay-mini".

    Raises:
        EncoderError: there is no card, it is damaged, or the name is in use.
    """
    path = Path(file)
    card = read_card(path.with_suffix(".json"))
    encoder = type("TrainedEncoder", (ENCODERS[form],), {"name": card.name, "title": card.title})

    def find(weights: str | Path | None, consent: Consent = None) -> FoundWeights:
        chosen = path.with_suffix(".safetensors") if weights is None else Path(weights).expanduser()
        if not chosen.is_file():
            raise WeightsError(f"There is no weights file '{chosen}'.", remedy=Remedy.CHOOSE_WEIGHTS_FILE, encoder=card.name)
        return FoundWeights(chosen, f"local file {chosen.name}")

    register_encoder(card)(loader(encoder, find, partial(read_network, form)))
