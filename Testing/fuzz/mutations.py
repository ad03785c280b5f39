"""Seeded damage to the bytes of any file: flipped, lost, zeroed, repeated and inserted bytes, and extreme integers."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

Edit = Callable[[bytes, random.Random], bytes]
"""Makes a damaged copy of a file's bytes."""

VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1,
    70000,
    2**40,
    -(2**63),
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "\0",
    "\ud800",
    "9" * 5000,
    [],
    [[]],
    {},
    {"x": 1},
    [300],
)
"""What the values of a JSON document are replaced by."""

WORDS = (
    "",
    "0",
    "-1",
    "1",
    "3",
    "16",
    "70000",
    "4294967296",
    "9223372036854775808",
    "1e300",
    "-1e300",
    "1e-300",
    "1e99999",
    "nan",
    "inf",
    "NaN",
    "x",
    "None",
    "true",
    "%d",
    "../../etc/passwd",
    "/dev/zero",
    "9" * 5000,
    "ä",
    "\0",
    "1 2",
    "(1,0,0)",
    "LIST",
)
"""What the values of a text header are replaced by."""

_INTEGERS = (0, 1, 2**7 - 1, 2**8 - 1, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)


def flipped(data: bytes, chance: random.Random) -> bytes:
    """One bit differs."""
    return _flip(data, chance, len(data))


def flipped_in_header(data: bytes, chance: random.Random) -> bytes:
    """One bit of the first kilobyte differs."""
    return _flip(data, chance, min(1024, len(data)))


def scattered(data: bytes, chance: random.Random) -> bytes:
    """Up to 30 bytes differ."""
    changed = bytearray(data)
    for _ in range(chance.randrange(1, 30)):
        changed[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(changed)


def truncated(data: bytes, chance: random.Random) -> bytes:
    """The end is lost."""
    return data[: chance.randrange(len(data))]


def truncated_at_the_end(data: bytes, chance: random.Random) -> bytes:
    """The last few bytes are lost."""
    return data[: -chance.randrange(1, min(20, len(data)) + 1)]


def zeroed(data: bytes, chance: random.Random) -> bytes:
    """A range is zero, as a lost sector is."""
    return _filled(data, chance, b"\0")


def filled(data: bytes, chance: random.Random) -> bytes:
    """A range has all bits set."""
    return _filled(data, chance, b"\xff")


def doubled(data: bytes, chance: random.Random) -> bytes:
    """A range is there twice."""
    start = chance.randrange(len(data))
    end = start + chance.choice((1, 16, 512, 1 << 16))
    return data[:end] + data[start:]


def removed(data: bytes, chance: random.Random) -> bytes:
    """A range is missing."""
    start = chance.randrange(len(data))
    return data[:start] + data[start + chance.choice((1, 2, 16, 512)) :]


def inserted(data: bytes, chance: random.Random) -> bytes:
    """There are random bytes in between."""
    start = chance.randrange(len(data) + 1)
    return data[:start] + chance.randbytes(chance.choice((1, 2, 8, 500))) + data[start:]


def appended(data: bytes, chance: random.Random) -> bytes:
    """There are more bytes at the end."""
    return data + chance.choice((b"\0", b"\n", bytes(5000), chance.randbytes(100), data))


def extreme_integer(data: bytes, chance: random.Random) -> bytes:
    """Two, four or eight bytes are an extreme integer."""
    width = chance.choice((2, 4, 8))
    start = chance.randrange(min(len(data), 2048) if chance.random() < 0.7 else len(data))
    number = chance.choice(_INTEGERS) % (1 << 8 * width)
    return data[:start] + number.to_bytes(width, chance.choice(("little", "big"))) + data[start + width :]


def emptied(data: bytes, chance: random.Random) -> bytes:
    """Nothing is left, or only zeros are, as after a crash of the machine."""
    return chance.choice((b"", bytes(len(data)), data[:1]))


BYTES: tuple[Edit, ...] = (
    flipped,
    flipped,
    flipped_in_header,
    flipped_in_header,
    scattered,
    truncated,
    truncated_at_the_end,
    zeroed,
    filled,
    doubled,
    removed,
    inserted,
    appended,
    extreme_integer,
    extreme_integer,
)
"""What can happen to any file. `emptied` is rare, see `mutated`."""


def mutated(data: bytes, chance: random.Random, edits: tuple[Edit, ...] = ()) -> tuple[str, bytes, bool]:
    """A damaged copy of a file, which always differs from it.

    Args:
        data: the file, not empty.
        chance: decides.
        edits: what a program that knows the format could do; half of the copies are made by one of them.

    Returns:
        name: of what was done.
        data: the copy.
        edited: whether one of `edits` made it. Such a copy may be a sound file with another content.
    """
    while True:
        edited = bool(edits) and chance.random() < 0.5
        edit = chance.choice(edits) if edited else emptied if chance.random() < 0.01 else chance.choice(BYTES)
        copy = edit(data, chance)
        if copy != data:
            return edit.__name__, copy, edited


def first_difference(a: bytes, b: bytes) -> int:
    """Offset of the first byte in which two files differ."""
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _flip(data: bytes, chance: random.Random, end: int) -> bytes:
    at = chance.randrange(end)
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]


def _filled(data: bytes, chance: random.Random, value: bytes) -> bytes:
    start = chance.randrange(len(data))
    lost = min(chance.choice((1, 16, 512)), len(data) - start)
    return data[:start] + value * lost + data[start + lost :]
