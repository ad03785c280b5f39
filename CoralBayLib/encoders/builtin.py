"""The encoders that come with CoralBay.

Each is a card, `Resources/Encoders/<name>.json`, and the module of the same name in this folder (`ct-fm` is `ct_fm.py`).
The module has `load`, a function as `register_encoder` describes it, and `WEIGHTS`, a description of its weights. Nothing
else needs to be changed to add one. A module is imported, and torch with it, when its encoder is first used.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from .cards import EncoderCard, shipped_card, shipped_cards
from .registry import EncoderEntry


def cards() -> list[EncoderCard]:
    """The cards of these encoders, in the order of menus; the first is the default encoder."""
    return [card for card in shipped_cards() if find_spec(_module(card.name)) is not None]


def entry(name: str) -> EncoderEntry:
    """The entry of one of these encoders; imports its module."""
    module = import_module(_module(name))
    return EncoderEntry(shipped_card(name), module.load, module.WEIGHTS)


def _module(name: str) -> str:
    return f"{__package__}.{name.replace('-', '_')}"
