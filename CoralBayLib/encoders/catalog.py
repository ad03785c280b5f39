"""All encoders by name: those that come with CoralBay, and those of plugins.

Listing them reads cards only. Network modules, and torch with them, are imported when an entry is asked for.
"""

from __future__ import annotations

from CoralBayLib.core.errors import EncoderError

from . import builtin, plugins, registry
from .cards import EncoderCard
from .registry import EncoderEntry


def encoder_cards() -> list[EncoderCard]:
    """The cards of all encoders: first those that come with CoralBay, then others in the order of registration."""
    plugins.load_entry_points()
    cards = {card.name: card for card in builtin.cards()}
    cards.update((name, entry.card) for name, entry in registry.entries().items())
    return list(cards.values())


def encoder_names() -> list[str]:
    """The names of all encoders, in the order of `encoder_cards`."""
    return [card.name for card in encoder_cards()]


def encoder_card(name: str) -> EncoderCard:
    """The card of one encoder; imports no network.

    Raises:
        EncoderError: there is no encoder of that name.
    """
    for card in encoder_cards():
        if card.name == name:
            return card
    raise _unknown(name)


def get_entry(name: str) -> EncoderEntry:
    """The entry of one encoder; for an encoder that comes with CoralBay this imports its module.

    Raises:
        EncoderError: there is no encoder of that name.
    """
    entry = registry.entries().get(name)
    if entry is None and any(card.name == name for card in builtin.cards()):
        return builtin.entry(name)
    if entry is None:
        plugins.load_entry_points()
        entry = registry.entries().get(name)
    if entry is None:
        raise _unknown(name)
    return entry


def _unknown(name: str) -> EncoderError:
    return EncoderError(
        f"There is no encoder '{name}'. Known encoders: {', '.join(sorted(encoder_names()))}. Further encoders come from "
        "Python files of your own and from installed packages."
    )
