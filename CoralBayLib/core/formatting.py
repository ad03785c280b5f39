"""Sizes and durations as text for a person to read, and the cells of CSV files."""

from __future__ import annotations

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""First characters of what a spreadsheet runs as a formula (OWASP, CSV injection), also in full width."""


def format_bytes(count: int) -> str:
    """A size in decimal megabytes, such as "29 MB" or "6.9 MB"."""
    return f"{count / 1e6:,.0f} MB" if count >= 1e7 else f"{count / 1e6:.1f} MB"


def format_file_size(count: int) -> str:
    """As `format_bytes`; below 0.1 MB in kilobytes, such as "17.2 kB"."""
    return format_bytes(count) if count >= 1e5 else f"{count / 1e3:.1f} kB"


def format_duration(seconds: float) -> str:
    """A duration in the unit that suits it, such as "20 s", "5 min" or "1.5 h"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def safe_cell(value: object) -> object:
    """A cell that a spreadsheet shows and does not run: text that begins like a formula gets an apostrophe in front.

    Numbers stay as they are, also as text.
    """
    if not isinstance(value, str):
        return safe_cell(str(value)) if _is_other(value) else value
    if not value.lstrip(" ").startswith(_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def safe_row(values: object) -> list[object]:
    """The cells of a row, see `safe_cell`."""
    return [safe_cell(value) for value in values]  # type: ignore[attr-defined]


def _is_other(value: object) -> bool:
    return value is not None and not isinstance(value, (bool, int, float))
