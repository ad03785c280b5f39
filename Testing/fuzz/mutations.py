"""Seeded damage to files: flipped and lost bytes, and edits of the JSON header of safetensors files."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

VALUES = (None, True, -1, 0, 1, 70000, 2**40, 1e308, float("nan"), "", "x", "9" * 5000, [], [[]], {}, {"x": 1}, [300])
"""What the values of a header are replaced by."""


def mutations(data: bytes, count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Damaged copies of a file, each with a name that says what was done."""
    chance = random.Random(seed)
    kinds: list[Callable[[bytes, random.Random], bytes]] = [flipped, flipped_in_header, truncated, overwritten, doubled]
    if is_safetensors(data):
        kinds += [edited_field] * 4 + [edited_tensor] * 2
    for number in range(count):
        kind = chance.choice(kinds)
        yield f"{number} {kind.__name__}", kind(data, chance)


def is_safetensors(data: bytes) -> bool:
    """Whether the header can be edited."""
    return data[8:9] == b"{" and int.from_bytes(data[:8], "little") < len(data)


def flipped(data: bytes, chance: random.Random) -> bytes:
    """One bit is another."""
    return _flip(data, chance, len(data))


def flipped_in_header(data: bytes, chance: random.Random) -> bytes:
    """One bit of the first kilobyte is another."""
    return _flip(data, chance, min(1024, len(data)))


def truncated(data: bytes, chance: random.Random) -> bytes:
    """The end is lost."""
    return data[: chance.randrange(len(data))]


def overwritten(data: bytes, chance: random.Random) -> bytes:
    """A sector is zero."""
    start = chance.randrange(len(data))
    lost = min(512, len(data) - start)
    return data[:start] + bytes(lost) + data[start + lost :]


def doubled(data: bytes, chance: random.Random) -> bytes:
    """Some bytes are there twice."""
    start = chance.randrange(len(data))
    return data[: start + 16] + data[start:]


def edited_field(data: bytes, chance: random.Random) -> bytes:
    """A value somewhere in our header is another, or is missing."""

    def edit(header: dict[str, Any]) -> None:
        key = next(iter(header["__metadata__"]))
        content = json.loads(header["__metadata__"][key])
        parent, name = chance.choice(list(_places(content)))
        if chance.random() < 0.2:
            del parent[name]
        else:
            parent[name] = chance.choice(VALUES)
        if chance.random() < 0.05:
            content = chance.choice(VALUES)
        elif chance.random() < 0.5:
            content.pop("checksum", None)
        header["__metadata__"][key] = json.dumps(content)

    return _with_header(data, edit)


def edited_tensor(data: bytes, chance: random.Random) -> bytes:
    """A tensor has another type, shape or name, or is missing; there is no checksum."""

    def edit(header: dict[str, Any]) -> None:
        metadata = header["__metadata__"]
        for key, words in metadata.items():
            content = json.loads(words)
            content.pop("checksum", None)
            metadata[key] = json.dumps(content)
        name = chance.choice([name for name in header if name != "__metadata__"])
        tensor = header[name]
        what = chance.randrange(4)
        if what == 0:
            tensor["dtype"] = chance.choice(["F16", "F32", "F64", "I8", "I64", "BOOL", "F8_E4M3", "C64", "U16"])
        elif what == 1:
            tensor["shape"] = chance.choice([[], [0], tensor["shape"][::-1], [1, *tensor["shape"]], [2**40], [2**62, 4]])
        elif what == 2:
            header[name + "x"] = header.pop(name)
        else:
            del header[name]

    return _with_header(data, edit)


def _flip(data: bytes, chance: random.Random, end: int) -> bytes:
    at = chance.randrange(end)
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]


def _with_header(data: bytes, edit: Callable[[dict[str, Any]], None]) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    edit(header)
    words = json.dumps(header).encode()
    words += b" " * (-len(words) % 8)
    return len(words).to_bytes(8, "little") + words + data[8 + length :]


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a JSON value with each of its keys or indices."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    for key in keys:
        yield value, key
        yield from _places(value[key])
