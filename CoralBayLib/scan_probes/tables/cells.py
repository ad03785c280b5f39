"""What the text of a cell means: missing, a number, or a name that may be written in several ways."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from CoralBayLib.core.errors import ScansError
from CoralBayLib.core.names import fold

_MISSING = {
    *("", "na", "n/a", "#n/a", "#na", "<na>", "n.a.", "n. a.", "nan", "-nan", "nat", "null", "(null)", "<null>", "<none>"),
    *(".", "..", "...", "-", "--", "---", "?", "'", '"', "\\n", "missing", "not available", "not applicable", "unknown"),
    *("#n/a n/a", "1.#qnan", "-1.#qnan", "1.#ind", "-1.#ind", "n.d.", "nd", "k.a.", "k. a.", "(blank)", "(empty)"),
}
"""Cells without a value, as R, pandas, SPSS, databases, spreadsheets and people write them, folded.

"none" is a class of its own, as in none, mild, severe.
"""
_NEGATIVE = {"0", "0.0", "no", "n", "none", "negative", "neg", "normal", "absent", "false", "healthy", "control", "without"}
"""Classes without the finding, folded."""
_ERROR = re.compile(r"#[a-z0-9/]+[!?]")
"""An error of a spreadsheet, such as #DIV/0!, folded."""
_LARGEST = 1e30
"""Squares of larger numbers may be infinite."""
_WHOLE = re.compile(r"[+-]?\d+(?:\.0*)?")


def is_missing(text: str) -> bool:
    """Whether a cell has no value."""
    folded = fold(text)
    return folded in _MISSING or _ERROR.fullmatch(folded) is not None


def first_spelling(name: str, known: dict[str, str]) -> str:
    """The spelling in which a name was seen first: "Yes" and "yes" are one class, and so are "1" and "1.0"; as for patients.

    Args:
        name: the text of a cell.
        known: spellings by what they have in common; a new one is added.
    """
    key = fold(name)
    if _WHOLE.fullmatch(key):
        key = str(int(key.split(".")[0]))
    return known.setdefault(key, name)


def class_names(cells: Iterable[str]) -> list[str]:
    """The classes that the cells of a column name, sorted, in the spelling in which each was seen first."""
    known: dict[str, str] = {}
    for text in cells:
        if not is_missing(text):
            first_spelling(text.strip(), known)
    return sorted(known.values())


def likely_positive(classes: Sequence[str]) -> str:
    """Of two classes the one that is likely meant as positive: not "none" or "0", else the last; "" for other numbers."""
    if len(classes) != 2:
        return ""
    positive = [name for name in classes if fold(name) not in _NEGATIVE]
    return positive[0] if len(positive) == 1 else classes[-1]


def number(text: str) -> float:
    """A finite number of at most `_LARGEST`.

    Raises:
        ScansError: the text is none.
    """
    try:
        value = float(text) if "_" not in text else float("nan")
    except ValueError:
        value = float("nan")
    if _LARGEST < abs(value) < float("inf"):
        raise ScansError(f"'{text}' is larger than any measurement; expected at most {_LARGEST:g}")
    if not abs(value) < float("inf"):
        hint = ". Write it with a decimal point" if re.fullmatch(r"[+-]?[\d.\s]*\d,\d+", text) else ""
        raise ScansError(f"'{text}' is not a finite number{hint}")
    return value
