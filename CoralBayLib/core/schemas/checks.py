"""Checks of single values of a header or a JSON file: types, ranges, lists and objects."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

MAX_LABEL = 65535
"""The largest label of a structure: labelmaps are written as 16-bit numbers."""

Check = Callable[[Any], bool]
"""Whether a value of a header is as it must be."""


def text(value: Any) -> bool:
    """A string."""
    return isinstance(value, str)


def printable(value: Any) -> bool:
    """A string that can be shown in one line."""
    return isinstance(value, str) and value.isprintable()


def number(value: Any) -> bool:
    """A finite number."""
    return type(value) in (int, float) and abs(value) < 1e300


def positive(value: Any) -> bool:
    """A finite number above zero."""
    return number(value) and value > 0


def whole(low: int, high: int = 2**31) -> Check:
    """A whole number in a range, both ends included."""
    return lambda value: type(value) is int and low <= value <= high


def hexadecimal(digits: int) -> Check:
    """Lower-case hexadecimal digits."""
    return lambda value: isinstance(value, str) and re.fullmatch(f"[0-9a-f]{{{digits}}}", value) is not None


def one_of(*values: Any) -> Check:
    """One of some values."""
    return lambda value: any(type(value) is type(each) and value == each for each in values)


def list_of(item: Check, unique: bool = False, least: int = 0) -> Check:
    """A list of like items."""
    return lambda value: (
        isinstance(value, list)
        and len(value) >= least
        and all(map(item, value))
        and (not unique or len(set(value)) == len(value))
    )


def tuple_of(*items: Check) -> Check:
    """A list of given length, with a check for each item."""
    return lambda value: (
        isinstance(value, list) and len(value) == len(items) and all(check(v) for check, v in zip(items, value, strict=True))
    )


def record(**fields: Check) -> Check:
    """An object with these fields, and perhaps others."""
    return lambda value: isinstance(value, dict) and all(name in value and check(value[name]) for name, check in fields.items())


def names_by_label(value: Any) -> bool:
    """An object with a name for each label; JSON has the labels as strings."""
    return isinstance(value, dict) and all(
        re.fullmatch("[0-9]{1,5}", key) and 1 <= int(key) <= MAX_LABEL and text(name) and name.strip()
        for key, name in value.items()
    )


three_numbers = tuple_of(number, number, number)
"""A number for each of three axes."""

finite_matrix = list_of(list_of(number))
grid = record(shape=tuple_of(*[whole(1, 2**20)] * 3), ijk_to_ras=finite_matrix)
"""A grid as the store writes it; `Grid` checks the rest."""
