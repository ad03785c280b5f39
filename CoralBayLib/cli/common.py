"""The scan that a command is about: its place in it, and its features."""

from __future__ import annotations

import argparse
import time
from typing import Any

from .console import bar
from .encoders import open_encoder


def embedded(args: argparse.Namespace) -> tuple[Any, Any, float, bool]:
    """The volume, its pyramid, how long that took, and whether it was in the store."""
    from CoralBayLib.features.embedding import FOUND, embed
    from CoralBayLib.features.store import Store
    from CoralBayLib.imaging.volume_io import read_volume

    volume = read_volume(args.ct, series=args.series)
    encoder = open_encoder(args)
    start = time.perf_counter()
    messages: list[str] = []
    with bar(args, "Embedding") as progress:

        def show(fraction: float, message: str) -> None:
            messages.append(message)
            progress(fraction, message)

        pyramid = embed(volume, encoder, show, store=None if args.no_store else Store(), assume_hu=args.assume_hu)
    return volume, pyramid, time.perf_counter() - start, messages == [FOUND]


def point(text: str) -> list[float]:
    """Three numbers in RAS mm, as the parser of arguments takes them."""
    try:
        values = [float(part) for part in text.replace(";", ",").split(",")]
    except ValueError:
        values = []
    if len(values) != 3:
        raise argparse.ArgumentTypeError(f"'{text}' is no point; write three numbers in RAS mm, such as 10,20,30")
    return values
