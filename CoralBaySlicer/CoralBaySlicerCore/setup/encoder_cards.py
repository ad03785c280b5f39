"""The cards of the encoders, in the module's words."""

from __future__ import annotations

from slicer.i18n import tr as _

from CoralBayLib.encoders.cards import CardInput, EncoderCard, shipped_card
from CoralBaySlicerCore.scene.parameters import ENCODERS

_NONE = "none"
"""What a card says of a paper that there is not."""


def shipped() -> list[EncoderCard]:
    """The cards of the encoders that come with CoralBay."""
    return [shipped_card(name) for name in ENCODERS]


def title(encoder: str) -> str:
    """What an encoder is called; one of the user's own has its name."""
    return shipped_card(encoder).title if encoder in ENCODERS else encoder


def titles() -> str:
    """What these encoders are called, in one line."""
    return ", ".join(card.title for card in shipped())


def sources() -> str:
    """Paper and licence of each of them, in one line."""
    return "; ".join(f"{card.title} ({', '.join(_paper_and_licence(card))})" for card in shipped())


def summary(card: EncoderCard) -> str:
    """What is shown of the chosen encoder."""
    if not card.weights_licence:
        return card.summary
    return _("{summary} Licence of the weights: {licence}.").format(summary=card.summary, licence=card.weights_licence)


def details(card: EncoderCard) -> str:
    """What is shown when the mouse rests on an encoder; a card may lack any of it."""
    lines = [
        (card.good_for, _("Good for: {text}")),
        (card.limits, _("Limits: {text}")),
        (_input(card.input) if card.input else "", _("Input: {text}")),
        (f"{card.parameters / 1e6:.0f}" if card.parameters else "", _("Parameters: {text} million")),
        (card.code_licence, _("Licence of the code: {text}")),
        (card.weights_licence, _("Licence of the weights: {text}")),
        (card.source, _("Source: {text}")),
        (card.paper if card.paper != _NONE else "", _("Paper: {text}")),
        (card.citation, _("Please cite: {text}")),
    ]
    return "\n".join([card.summary, *(form.format(text=text) for text, form in lines if text)])


def _input(given: CardInput) -> str:
    spacing = _("the scan's spacing")
    if given.spacing_mm:
        spacing = " x ".join(f"{part:g}" for part in given.spacing_mm) + _(" mm")
    windows = ", ".join(_("{low} to {high} HU").format(low=low, high=high) for low, high in given.windows_hu)
    return f"{spacing}; {windows}. {given.note}".strip()


def _paper_and_licence(card: EncoderCard) -> list[str]:
    parts = [card.paper if card.paper != _NONE else "", card.weights_licence]
    return [part for part in parts if part]
