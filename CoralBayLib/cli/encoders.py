"""`coralbay encoders`: list the encoders, or show everything on the card of one."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from typing import TYPE_CHECKING, Any

from CoralBayLib.core.formatting import format_bytes

from .console import Console
from .options import Common

if TYPE_CHECKING:
    from CoralBayLib.encoders.cards import EncoderCard

_LEAST_WIDTH = 40
"""Columns that words need; a narrower terminal breaks the lines itself."""


def add_parser(commands: Any, common: Common) -> None:
    """Add the command."""
    parser = commands.add_parser("encoders", parents=[common.output], help="list the encoders, or show everything about one")
    parser.add_argument("name", nargs="?", metavar="NAME", help="the encoder to describe (default: list all)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay encoders`."""
    from CoralBayLib.encoders import encoder_card, encoder_cards

    if args.name:
        card = encoder_card(args.name)
        for line in card_lines(card):
            console.result(line)
        return card.as_dict()
    cards = encoder_cards()
    for line in _table(cards):
        console.result(line)
    console.say("`coralbay encoders NAME` shows everything about an encoder, `coralbay weights list` where its weights are.")
    return {"encoders": [card.as_dict() for card in cards]}


def _table(cards: list[EncoderCard]) -> list[str]:
    rows = [("name", "title", "parameters", "maps", "license: code", "weights")]
    for card in cards:
        licenses = card.code_licence or "?", card.weights_licence or "?"
        rows.append((card.name, card.title, _millions(card.parameters), str(len(card.levels) or "?"), *licenses))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    table = [lines[0]]
    for line, card in zip(lines[1:], cards, strict=True):
        indent = " " * (widths[0] + 2)
        texts = [card.summary, f"Restricted: {card.restrictions}." if card.restrictions else ""]
        table += [
            line,
            *(textwrap.fill(text, _width(), initial_indent=indent, subsequent_indent=indent) for text in texts if text),
        ]
    return table


def card_lines(card: EncoderCard) -> list[str]:
    """Everything on a card, as lines of text."""
    size = format_bytes(card.weights_bytes) if card.weights_bytes else "size not published"
    facts = [
        ("", card.summary),
        ("good for", card.good_for),
        ("limits", card.limits),
        ("input", _input(card)),
        ("feature maps", "; ".join(f"stride {_steps(level.stride)}, {level.channels} channels" for level in card.levels)),
        ("scan embedding", f"{card.embedding_size} numbers" if card.embedding_size else ""),
        ("texts", card.text_encoder),
        ("modes", "; ".join(f"{mode.name}: {mode.title}" for mode in card.settings)),
        ("parameters", _millions(card.parameters)),
        ("weights", f"{card.source} ({size})" if card.source else ""),
        ("license", f"code {card.code_licence or 'unknown'}, weights {card.weights_licence or 'unknown'}"),
        ("restrictions", card.restrictions),
        ("paper", card.paper),
        ("please cite", card.citation),
    ]
    lines = [f"{card.title} ({card.name})"]
    for label, text in facts:
        if text:
            first = f"  {label + ':':<16}" if label else "  "
            lines.append(textwrap.fill(text, _width(), initial_indent=first, subsequent_indent=" " * len(first)))
    return lines


def _input(card: EncoderCard) -> str:
    if card.input is None:
        return ""
    spacing = f", {_steps(card.input.spacing_mm)} mm" if card.input.spacing_mm else ""
    windows = " and ".join(f"[{low:g}, {high:g}]" for low, high in card.input.windows_hu)
    return f"{card.input.orientation}{spacing}, HU {windows}. {card.input.note}".strip()


def _steps(values: tuple[float, ...]) -> str:
    return f"{values[0]:g}" if len(set(values)) == 1 else " x ".join(f"{value:g}" for value in values)


def _millions(count: int | None) -> str:
    return f"{count / 1e6:.1f} M" if count else "?"


def _width() -> int:
    return max(_LEAST_WIDTH, min(shutil.get_terminal_size((110, 24)).columns, 120))
