"""`coralbay encoders`, which there are and what is on their cards; and the encoder that a command is to use."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from typing import TYPE_CHECKING, Any

from CoralBayLib.core.errors import EncoderError, Remedy, WeightsError
from CoralBayLib.core.formatting import format_bytes

from .console import bar, say

if TYPE_CHECKING:
    from CoralBayLib.encoders.cards import EncoderCard


def add_encoders_command(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    """Add the command to a parser's subcommands."""
    encoders = commands.add_parser("encoders", parents=parents, help="list the encoders, or show the card of one")
    encoders.add_argument("name", nargs="?", help="show all that is known about this one")
    encoders.set_defaults(run=run_encoders)


def run_encoders(args: argparse.Namespace) -> dict:
    """List the encoders or show one's card."""
    from CoralBayLib.encoders import encoder_card, encoder_cards

    if args.name:
        card = encoder_card(args.name)
        for line in card_lines(card):
            say(args, line, out=True)
        return card.as_dict()
    cards = encoder_cards()
    for line in _table(cards):
        say(args, line, out=True)
    say(args, "`coralbay encoders NAME` shows the whole card, `coralbay weights list` where the weights are.")
    return {"encoders": [card.as_dict() for card in cards]}


def _table(cards: list[EncoderCard]) -> list[str]:
    rows = [("name", "title", "parameters", "maps", "licence: code", "weights")]
    for card in cards:
        licences = card.code_licence or "?", card.weights_licence or "?"
        rows.append((card.name, card.title, _millions(card.parameters), str(len(card.levels) or "?"), *licences))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    told = [lines[0]]
    for line, card in zip(lines[1:], cards, strict=True):
        indent = " " * (widths[0] + 2)
        told += [line, textwrap.fill(card.summary, _width(), initial_indent=indent, subsequent_indent=indent)]
    return told


def card_lines(card: EncoderCard) -> list[str]:
    """A whole card, for a person to read."""
    size = format_bytes(card.weights_bytes) if card.weights_bytes else "size not published"
    facts = [
        ("", card.summary),
        ("good for", card.good_for),
        ("limits", card.limits),
        ("input", _input(card)),
        ("feature maps", "; ".join(f"stride {_steps(level.stride)}, {level.channels} channels" for level in card.levels)),
        ("scan embedding", f"{card.embedding_size} numbers" if card.embedding_size else ""),
        ("parameters", _millions(card.parameters)),
        ("weights", f"{card.source} ({size})" if card.source else ""),
        ("licence", f"code {card.code_licence or 'unknown'}, weights {card.weights_licence or 'unknown'}"),
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
    return min(shutil.get_terminal_size((110, 24)).columns, 120)


def open_encoder(args: argparse.Namespace) -> Any:
    """The encoder the user asked for; with "auto" CoralBay, or the fallback where CoralBay's weights cannot be had."""
    from CoralBayLib.encoders import load_encoder, load_encoder_file, shipped_card
    from CoralBayLib.encoders.weights import FALLBACK

    name = args.encoder
    if args.encoder_file:
        names = load_encoder_file(args.encoder_file)
        if name == "auto" and len(names) > 1:
            raise EncoderError(f"{args.encoder_file} registers {', '.join(names)}. Choose one: --encoder NAME.")
        name = names[0] if name == "auto" else name
    with bar(args, "Weights") as progress:
        options = {"device": args.device, "consent": args.download, "setting": args.setting, "progress": progress}
        if name != "auto":
            return load_encoder(name, args.weights, **options)
        try:
            return load_encoder("coralbay", args.weights, **options)
        except WeightsError as error:
            # A file that the user named, and a download that goes on, are not to be replaced by another network.
            if args.weights or args.setting or error.remedy is not Remedy.GET_WEIGHTS:
                raise
            title = shipped_card(FALLBACK).title
            say(args, f"{title} is used, which comes with CoralBay, for CoralBay's own weights cannot be had here:")
            say(args, f"  {error.details['reason']}.")
            say(args, "  --download allows to fetch them, --weights FILE names a local file, `coralbay weights import` takes a")
            say(args, f"  bundle; --encoder {FALLBACK} chooses {title} outright. `coralbay encoders` tells about both.")
            return load_encoder(FALLBACK, **{**options, "setting": None})
