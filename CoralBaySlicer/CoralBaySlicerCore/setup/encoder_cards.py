"""Texts of the user interface that are made from encoder cards."""

from __future__ import annotations

from functools import cache
from html import escape
from urllib.parse import urlsplit

from slicer.i18n import tr as _

from CoralBayLib.encoders import registry
from CoralBayLib.encoders.cards import CardInput, EncoderCard, shipped_cards

_NONE = "none"
"""Value of a card's `paper` when there is no paper."""


@cache
def _shipped() -> tuple[EncoderCard, ...]:
    return tuple(shipped_cards())


def shipped() -> list[EncoderCard]:
    """The cards of the encoders that come with CoralBay, in the order of menus; the first is the default encoder."""
    return list(_shipped())


def title(encoder: str) -> str:
    """The title of an encoder; its name when it does not come with CoralBay."""
    return next((card.title for card in shipped() if card.name == encoder), encoder)


def embeds_texts(encoder: str) -> bool:
    """Whether scans can be searched by words with an encoder."""
    entry = registry.entries().get(encoder)
    cards = [*shipped(), *([entry.card] if entry is not None else [])]
    return any(card.name == encoder and card.text_encoder for card in cards)


def menu_title(card: EncoderCard) -> str:
    """The title for menus, with what restricts the use of the encoder."""
    return (
        _("{title}: {restrictions}").format(title=card.title, restrictions=card.restrictions)
        if card.restrictions
        else card.title
    )


def titles() -> str:
    """The titles of the encoders that come with CoralBay, in one line."""
    return ", ".join(card.title for card in shipped())


def sources() -> str:
    """Paper and license of each of these encoders, in one line."""
    return "; ".join(f"{card.title} ({', '.join(_paper_and_licence(card))})" for card in shipped())


def summary(card: EncoderCard) -> str:
    """The lines under the encoder menu, as HTML: summary, restrictions, licenses, and a link to the source of the weights."""
    parts = [escape(card.summary)]
    if card.restrictions:
        parts.append(_("<b>Restricted: {restrictions}.</b>").format(restrictions=escape(card.restrictions)))
    if card.code_licence:
        parts.append(_("License of the code: {licence}.").format(licence=escape(card.code_licence)))
    if card.weights_licence:
        parts.append(_("License of the weights: {licence}.").format(licence=escape(card.weights_licence)))
    host = urlsplit(card.source).hostname
    if host:
        # The whole address is too wide for the panel; the link and the tooltip have it.
        link = _('Source: <a href="{address}">{host}</a>.')
        parts.append(link.format(address=escape(card.source), host=escape(host)))
    return " ".join(parts)


def details(card: EncoderCard) -> str:
    """The tooltip of an encoder; fields that its card does not have are left out."""
    lines = [
        (card.good_for, _("Good for: {text}")),
        (card.limits, _("Limits: {text}")),
        (_input(card.input) if card.input else "", _("Input: {text}")),
        (card.text_encoder, _("Search by words: {text}")),
        (f"{card.parameters / 1e6:.0f}" if card.parameters else "", _("Parameters: {text} million")),
        (card.restrictions, _("Restricted: {text}")),
        (card.code_licence, _("License of the code: {text}")),
        (card.weights_licence, _("License of the weights: {text}")),
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
