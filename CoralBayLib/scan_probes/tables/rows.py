"""The cells of a CSV file, row by row."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from CoralBayLib.core.errors import ScansError
from CoralBayLib.core.names import fold
from CoralBayLib.core.paths import error_message

SURPLUS = "\0surplus"
"""Key of the cells beyond the last column."""
LINE = "\0line"
"""Key of the number of a row's first line in its file, as text."""


def read_rows(path: Path) -> tuple[list[str], list[dict[str, str | None]]]:
    """The names of a table's columns, and the text of each cell by its column, row by row.

    Raises:
        ScansError: the file is missing, cannot be read as a table, or has a column twice.
    """
    if not path.is_file():
        raise ScansError(f"There is no file {path}. Check the path of the table.")
    try:
        with path.open(newline="", encoding="utf-8-sig") as opened:
            text = opened.read()
        if "\0" in text:
            raise csv.Error("it contains null bytes, so it is damaged or saved as UTF-16")
        file = io.StringIO(text, newline="")
        delimiter, named = _separator(file)
        reader = csv.DictReader(file, delimiter=delimiter, restkey=SURPLUS, strict=True)
        columns = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = columns
        require_distinct(columns, path.name)
        rows = list(_numbered(reader, named))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        if isinstance(error, csv.Error) and "field limit" in str(error):
            raise ScansError(
                f"{path.name} cannot be read as a table: a cell has more than {csv.field_size_limit():,} characters. Look "
                "for a cell whose closing quotation mark is missing."
            ) from error
        raise ScansError(f"{path.name} cannot be read as a table ({error_message(error)}). Save it as CSV (UTF-8).") from error
    return columns, rows


def require_distinct(columns: Sequence[str], name: str) -> None:
    """Refuse a table with two columns of one name, apart from case and Unicode form; columns without a name are ignored.

    Raises:
        ScansError: `name`, the table, has such columns.
    """
    named = [fold(column) for column in columns if column.strip()]
    for column in columns:
        if named.count(fold(column)) > 1:
            raise ScansError(f"{name} has more than one column '{column.strip()}'. Rename or remove all but one.")


def _separator(file: TextIO) -> tuple[str, int]:
    """The separator of a table: whichever of comma, semicolon, tab and bar its first line has most of, outside of quotes.

    Excel's line `sep=;` names it; the file then stands behind that line, and the second value is 1, otherwise 0.
    """
    first = file.readline()
    if named := re.fullmatch(r"sep=(.)\s*", first):
        return named[1], 1
    file.seek(0)
    return max(",;\t|", key=re.sub(r'"[^"]*"', "", first).count), 0


def _numbered(reader: csv.DictReader, before: int) -> Iterator[dict[str, str | None]]:
    """The rows with the number of their first line; blank lines and line breaks in cells count, as in an editor.

    `before`: lines of the file that the reader did not see.
    """
    end = reader.reader.line_num
    for row in reader:
        begin, end = end + 1, reader.reader.line_num
        breaks = sum((cell or "").count("\n") for cell in row.values() if isinstance(cell, str))
        row[LINE] = str(max(begin, end - breaks) + before)
        yield row
