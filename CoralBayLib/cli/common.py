"""What the options of several commands stand for: the files, the encoder, the cache, the embedded scan, the library."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from CoralBayLib.core.errors import EncoderError, Remedy, WeightsError
from CoralBayLib.core.outputs import require_outside, require_writable

from .console import Console

if TYPE_CHECKING:
    from CoralBayLib.encoders.base import Encoder
    from CoralBayLib.features.pyramid import FeaturePyramid
    from CoralBayLib.features.store import Store
    from CoralBayLib.imaging.grid import Volume
    from CoralBayLib.library import Library


_INPUTS = (
    "ct",
    "other",
    "points",
    "landmarks",
    "examples",
    "prompts",
    "probe",
    "segment",
    "locked",
    "start",
    "table",
    "weights",
    "encoder_file",
)
"""Options and arguments that name files to read."""


def inputs_of(args: argparse.Namespace) -> list[str | os.PathLike]:
    """The files and folders that a command reads."""
    found: list[str | os.PathLike] = []
    for name in _INPUTS:
        value = getattr(args, name, None)
        found += value if isinstance(value, list) else [value] if value else []
    return found


def require_outputs(args: argparse.Namespace, **suffixes: Sequence[str]) -> None:
    """Refuse outputs that cannot be written, or that would replace an input, before anything is computed.

    Args:
        args: of the command.
        suffixes: by the option that names an output, the suffixes that it may have; empty for any.

    Raises:
        StoreError: an output cannot be written.
    """
    from CoralBayLib.imaging.volume_io import data_files_of

    inputs = inputs_of(args)
    if any(getattr(args, option) is not None for option in suffixes):
        inputs += [part for each in inputs for part in data_files_of(each)]
    checked: list[Path] = []
    for option, allowed in suffixes.items():
        path = getattr(args, option)
        if path is not None:
            checked.append(require_writable(path, inputs, suffixes=allowed, others=checked))
            setattr(args, option, checked[-1])


def open_cache(args: argparse.Namespace) -> Store | None:
    """The cache of embeddings; None with --no-cache."""
    from CoralBayLib.features.store import Store

    return None if args.no_cache else Store()


def open_encoder(args: argparse.Namespace, console: Console, name: str | None = None) -> Encoder:
    """The encoder that the options choose.

    With "auto" it is CoralBay, or CoralBay-mini when CoralBay's weights are not available.

    Args:
        args: with the options for embedding.
        console: shows which encoder is used instead, and why.
        name: the encoder, if not that of the options.

    Raises:
        EncoderError: there is no such encoder, or a file registers several and none is chosen.
        WeightsError: the weights of the chosen encoder are not available.
        ServerError: the encoder is on a server, which cannot be used.
    """
    name = name or args.encoder
    if getattr(args, "server", None):  # which commands with several encoders lack
        return _encoder_on_server(args, console, name)
    from CoralBayLib.encoders import load_encoder, load_encoder_file, shipped_card
    from CoralBayLib.encoders.weights import FALLBACK

    if args.encoder_file:
        names = load_encoder_file(args.encoder_file)
        if name == "auto" and len(names) > 1:
            raise EncoderError(f"{args.encoder_file} registers {', '.join(names)}. Choose one with --encoder NAME.")
        name = names[0] if name == "auto" else name
    with console.bar("Weights") as progress:
        progress(0.0, "Loading the encoder")
        options: dict[str, Any] = {
            "device": args.device,
            "consent": args.download,
            "setting": args.setting,
            "progress": progress,
        }
        if name != "auto":
            return load_encoder(name, args.weights, **options)
        try:
            return load_encoder("coralbay", args.weights, **options)
        except WeightsError as error:
            # Another encoder is no substitute for a file that the user named, or for a broken one.
            if args.weights or args.setting or error.remedy is not Remedy.GET_WEIGHTS:
                raise
            title = shipped_card(FALLBACK).title
            console.say(f"{title} is used, which comes with CoralBay, because the weights of CoralBay are not available here.")
            console.say(f"  Reason: {error.details['reason']}.")
            download = "try again with a network" if args.download else "--download downloads the weights"
            console.say(f"  To use CoralBay: {download}, --weights FILE names a local file, and")
            console.say("  `coralbay weights import FILE` imports weights that were exported on another computer.")
            console.say(f"  To choose {title} without this message: --encoder {FALLBACK}. `coralbay encoders` describes both.")
            return load_encoder(FALLBACK, **{**options, "setting": None})


def _encoder_on_server(args: argparse.Namespace, console: Console, name: str) -> Encoder:
    if args.encoder_file or args.weights:
        raise EncoderError("The encoder is on the server, with its file and weights. Leave --encoder-file and --weights out.")
    from CoralBayLib.core.paths import expand
    from CoralBayLib.remote.embedder import RemoteEmbedder
    from CoralBayLib.remote.token import read_token

    certificates = str(expand(args.server_certificates)) if args.server_certificates else None
    server = RemoteEmbedder(args.server, read_token(args.token_file), certificates=certificates)
    encoder = server.encoder(name, args.setting)
    if name == "auto" and encoder.name != "coralbay":
        console.say(f"{encoder.title} is used, because the server does not offer CoralBay. --encoder NAME chooses another one.")
    return encoder


@dataclass(frozen=True, eq=False)
class EmbeddedScan:
    """A scan and its features.

    Attributes:
        volume: the scan.
        pyramid: its features.
        encoder: what made them.
        seconds: how long it took to get them, in seconds.
        from_cache: whether they were in the cache.
    """

    volume: Volume
    pyramid: FeaturePyramid
    encoder: Encoder
    seconds: float
    from_cache: bool


def embed_scan(args: argparse.Namespace, console: Console, encoder_name: str | None = None) -> EmbeddedScan:
    """Read the scan that the command is about, and embed it.

    Args:
        args: with the options for embedding, `ct` and `series`; `map`, where the command has it, is a volume that will be
            written on the scan's axes.
        console: shows the progress.
        encoder_name: the encoder, when the command knows better than the options.

    Raises:
        VolumeError: among others, the format of `map` cannot store the scan's geometry.
    """
    with console.bar("Reading") as progress:
        progress(0.0, "Reading the scan")
        # Importing torch takes seconds.
        from CoralBayLib.features.embedding import FOUND_IN_STORE, embed
        from CoralBayLib.imaging.volume_io import read_volume, require_storable

        volume = read_volume(args.ct, series=args.series)
        if getattr(args, "map", None):
            require_storable(volume.grid, args.map)
    encoder = open_encoder(args, console, encoder_name)
    start = time.perf_counter()
    messages: list[str] = []
    with console.bar("Embedding") as progress:

        def show(fraction: float, message: str) -> None:
            messages.append(message)
            progress(fraction, message)

        pyramid = embed(volume, encoder, show, store=open_cache(args), assume_hu=args.assume_hu)
    return EmbeddedScan(volume, pyramid, encoder, time.perf_counter() - start, messages == [FOUND_IN_STORE])


def open_library(args: argparse.Namespace) -> Library:
    """The library of scans that --library names."""
    from CoralBayLib.library import Library

    return Library(args.library)


def require_library_outputs(args: argparse.Namespace, library: Library, **suffixes: Sequence[str]) -> None:
    """As `require_outputs`; refuses outputs in the library's own folder, too."""
    require_outputs(args, **suffixes)
    root = str(library.storage.root)
    for option in suffixes:
        if getattr(args, option) and "://" not in root:
            require_outside(getattr(args, option), root, "the library")


def library_encoder_name(args: argparse.Namespace, library: Library) -> str:
    """The encoder that the options choose; with "auto" the one that the library has, when it has only one."""
    if args.encoder != "auto" or args.encoder_file or not library.storage.exists():
        return args.encoder
    names = [each.encoder for each in library.stats()]
    return names[0] if len(names) == 1 else args.encoder
