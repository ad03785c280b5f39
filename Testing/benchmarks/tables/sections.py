"""The files of results: every benchmark writes its own section and leaves the others as they are."""

from __future__ import annotations

import argparse
import os
import platform
import re
from importlib.metadata import version
from pathlib import Path

from CoralBayLib.core.paths import atomic_write

MEASURED = Path(__file__).parents[1] / "measured"
"""Lines of results. Tables are made from them, and what they hold is not measured again."""
RESULTS = Path(__file__).parents[1] / "results"
"""The long tables, a file for each benchmark."""


def add_tables_option(parser: argparse.ArgumentParser, default: Path | None = None) -> None:
    """The option `--tables [FOLDER]`."""
    parser.add_argument(
        "--tables",
        type=Path,
        nargs="?",
        const=RESULTS,
        default=default,
        metavar="FOLDER",
        help="write the tables into this folder (results/ here if none is named) and renew RESULTS.md beside it",
    )


def machine(threads: int) -> str:
    """What a measurement on the CPU runs on, as a line to stand above its table."""
    where = f"{platform.system()} {platform.machine()}, {threads} threads on {os.cpu_count()} cores, no GPU"
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "monai", "numpy"))
    return f"{where}; python {platform.python_version()}, {versions}."


def others_ran(threads: int) -> bool:
    """Whether other programs were busy in the last minute."""
    return os.getloadavg()[0] > threads + 0.5


def put_section(path: Path, title: str, text: str) -> None:
    """Put text under the heading `# title`, in place of what stood there."""
    found = path.read_text(encoding="utf-8") if path.exists() else ""
    sections = {part.split("\n", 1)[0]: part for part in re.split(r"(?m)^# ", found) if part.strip()}
    sections[title] = f"{title}\n\n{text.strip()}\n\n"
    whole = "".join(f"# {part.rstrip()}\n\n" for part in sections.values())
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        temporary.write_text(whole.rstrip() + "\n", encoding="utf-8")


def put_part(path: Path, title: str, part: str, text: str) -> None:
    """Put text under `## part` of the section `# title`, in place of what stood there; other parts stay."""
    found = path.read_text(encoding="utf-8") if path.exists() else ""
    section = next((each for each in re.split(r"(?m)^# ", found) if each.split("\n", 1)[0] == title), "")
    head, *parts = re.split(r"(?m)^## ", section.partition("\n")[2].strip())
    known = {each.split("\n", 1)[0]: each for each in parts}
    known[part] = f"{part}\n\n{text.strip()}"
    put_section(path, title, "\n\n".join([head.strip(), *(f"## {each.strip()}" for each in known.values())]))


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def rows(file: Path, heading: str = "", number: int = 0) -> list[dict[str, str]]:
    """The rows of a table of a file by column, the table being the numberth after a heading's beginning.

    Raises:
        ValueError: there is none.
    """
    text = file.read_text(encoding="utf-8")
    start = text.find(f"## {heading}") if heading else 0
    found = re.findall(r"(?:^\|.*\|$\n?)+", text[max(start, 0) :], re.MULTILINE)
    if start < 0 or len(found) <= number:
        raise ValueError(f"{file.name} has no table {number} under '{heading}'")
    head, _, *lines = ([cell.strip() for cell in line.strip().strip("|").split("|")] for line in found[number].splitlines())
    return [dict(zip(head, line, strict=True)) for line in lines]


def headings(file: Path) -> list[str]:
    """What stands after `## ` in a file."""
    return re.findall(r"(?m)^## (.*)$", file.read_text(encoding="utf-8"))
