"""Options that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple


class Parser(argparse.ArgumentParser):
    """A parser that refuses empty values, as those of variables that are not set in a shell.

    Code that asks whether an option was given would ignore them, and `Path("")` is the current folder. Parsers of commands
    get this class from the parser of the program.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.register("type", None, text_argument)


def text_argument(value: str) -> str:
    """The type of arguments that name none.

    Raises:
        argparse.ArgumentTypeError: the value is empty.
    """
    if not value:
        raise argparse.ArgumentTypeError("the value is empty; give one, or leave the option out")
    return value


def path_argument(value: str) -> Path:
    """The type of an argument that is a path.

    Raises:
        argparse.ArgumentTypeError: the value is empty.
    """
    return Path(text_argument(value))


class Common(NamedTuple):
    """Parent parsers with the shared options.

    Attributes:
        output: how the result is printed; for every command.
        computing: on which device, with which cache; part of `embedding`.
        choosing: which encoder is used, with which weights and setting; part of `embedding`.
        embedding: which encoder is used and how; for every command that embeds scans.
        scan: the scan of a command that takes one.
    """

    output: argparse.ArgumentParser
    computing: argparse.ArgumentParser
    choosing: argparse.ArgumentParser
    embedding: argparse.ArgumentParser
    scan: argparse.ArgumentParser


def add_radius_option(parser: argparse.ArgumentParser) -> None:
    """Add the radius of a query by a point."""
    parser.add_argument(
        "--radius-mm",
        type=float,
        default=6.0,
        metavar="MM",
        help="radius around --point to average over, mm (default 6)",
    )


def common_options() -> Common:
    """Make the parent parsers."""
    output, computing, choosing, scan = (argparse.ArgumentParser(add_help=False) for _ in range(4))
    output.add_argument("--json", action="store_true", help="print one JSON object on stdout, for programs")
    output.add_argument("--quiet", action="store_true", help="show no progress bar")

    computing.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1 (default auto)")
    add_download_option(computing)
    add_renamed_option(
        computing,
        "--no-cache",
        old="--no-store",
        action="store_true",
        help="neither read the embedding from the cache nor keep it",
    )
    computing.add_argument(
        "--assume-hu", action="store_true", help="skip the check that the values look like Hounsfield units (HU)"
    )

    choosing.add_argument(
        "--encoder",
        default="auto",
        metavar="NAME",
        help="name of the encoder, as `coralbay encoders` lists them (default auto: coralbay, or coralbay-mini when the "
        "weights of coralbay are not available)",
    )
    choosing.add_argument("--encoder-file", metavar="FILE", help="Python file that registers an encoder; the file is run")
    choosing.add_argument("--weights", metavar="FILE", help="local weights file of the encoder")
    choosing.add_argument(
        "--setting",
        metavar="NAME",
        help="inference mode of the encoder, such as faithful or whole (default: chosen by the encoder)",
    )

    embedding = argparse.ArgumentParser(add_help=False, parents=[computing, choosing])
    embedding.add_argument(
        "--server", metavar="URL", help="embed on this server (`coralbay serve`), such as https://gpu.example.org"
    )
    embedding.add_argument(
        "--token-file",
        metavar="FILE",
        help="file with the server's token (default: environment variable CORALBAY_SERVER_TOKEN)",
    )
    embedding.add_argument(
        "--server-certificates",
        metavar="FILE",
        help="certificate authorities to trust for the server, PEM (default: the usual ones)",
    )

    scan.add_argument("ct", metavar="CT", help="the scan: a NRRD, NIfTI or MetaImage file, or a folder of DICOM slices")
    add_series_option(scan)
    return Common(output, computing, choosing, embedding, scan)


def add_download_option(parser: argparse.ArgumentParser) -> None:
    """Add the consent to a download of weights."""
    parser.add_argument("--download", action="store_true", help="allow weights to be downloaded from their public source")


def add_series_option(parser: Any) -> None:
    """Add the option that chooses among the DICOM series of a folder."""
    parser.add_argument("--series", metavar="UID", help="SeriesInstanceUID to read, when the folder holds several series")


def add_renamed_option(parser: Any, *names: str, old: str, **options: Any) -> None:
    """Add an option whose old name still works, but is not shown in the help.

    Args:
        parser: or a group of its options.
        names: the option's names; the first one names the attribute unless `dest` does.
        old: the name it had before.
        options: as for `add_argument`.
    """
    dest = options.pop("dest", names[0].lstrip("-").replace("-", "_"))
    parser.add_argument(*names, dest=dest, **options)
    hidden = {**options, "help": argparse.SUPPRESS, "default": argparse.SUPPRESS}
    parser.add_argument(old, dest=dest, **hidden)


def point(text: str) -> list[float]:
    """The type of an option that takes a position, R,A,S in mm."""
    try:
        values = [float(value) for value in text.replace(";", ",").split(",")]
    except ValueError:
        values = []
    if len(values) != 3:
        raise argparse.ArgumentTypeError(f"'{text}' is not a position; write three numbers in RAS mm, such as 10,20,30")
    return values
