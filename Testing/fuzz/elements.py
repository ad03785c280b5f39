"""DICOM files taken apart into their elements (PS3.5, 7.1), written anew in another transfer syntax, and edited."""

from __future__ import annotations

import random
import struct
import zlib
from dataclasses import dataclass, replace

from .mutations import WORDS, mutated

IMPLICIT, EXPLICIT, BIG, DEFLATED = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.1.99",
)
RLE = "1.2.840.10008.1.2.5"
_LONG = ("OB", "OW", "OF", "SQ", "UN", "UT", "UC", "UR", "OD", "OL")
_NUMBERS = {0x00280002, 0x00280008, 0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280102, 0x00280103}
_KINDS = {0x0020: "IS", 0x0028: "DS", 0x0008: "LO", 0x0010: "PN", 0x0018: "DS"}
_EXACT = {
    0x00080005: "CS",
    0x00080008: "CS",
    0x00080016: "UI",
    0x00080018: "UI",
    0x00080060: "CS",
    0x0020000D: "UI",
    0x0020000E: "UI",
    0x00200032: "DS",
    0x00200037: "DS",
    0x00280004: "CS",
    0x7FE00010: "OW",
}
_LENGTHS = (0, 1, 2, 3, 2**15, 2**16 - 2, 2**24, 2**31 - 2, 2**31, 2**32 - 2, 2**32 - 1)


@dataclass(frozen=True)
class Element:
    """One element: its tag, kind (VR), value, and the length that is written, where it is not that of the value."""

    tag: int
    kind: str
    value: bytes
    length: int | None = None


def elements(data: bytes) -> tuple[str, list[Element]]:
    """The transfer syntax and the elements of a sound file; those of its meta information come first.

    Encapsulated voxels are one element of undefined length, whose value is the rest of the file.
    """
    at, found, syntax = 132, [], EXPLICIT
    while at + 8 <= len(data):
        group, number = struct.unpack_from("<HH", data, at)
        explicit = group == 2 or syntax != IMPLICIT
        kind = data[at + 4 : at + 6].decode("latin-1") if explicit else _kind(group << 16 | number)
        if explicit and kind not in _LONG:
            length, begin = struct.unpack_from("<H", data, at + 6)[0], at + 8
        else:
            begin = at + (12 if explicit else 8)
            length = struct.unpack_from("<I", data, begin - 4)[0]
        end = len(data) if length == 2**32 - 1 else begin + length
        value = data[begin:end]
        found.append(Element(group << 16 | number, kind, value, length if length == 2**32 - 1 else None))
        if found[-1].tag == 0x00020010:
            syntax = value.rstrip(b"\0 ").decode()
        at = end
    return syntax, found


def file_of(syntax: str, found: list[Element]) -> bytes:
    """The file with these elements, in a transfer syntax."""
    meta = [each for each in found if each.tag >> 16 == 2 and each.tag != 0x00020000]
    rest = [each for each in found if each.tag >> 16 != 2]
    head = b"".join(_written(each, EXPLICIT) for each in meta)
    body = b"".join(_written(each, syntax) for each in rest)
    if syntax == DEFLATED:
        packer = zlib.compressobj(wbits=-15)
        body = packer.compress(body) + packer.flush()
    size = _written(Element(0x00020000, "UL", struct.pack("<I", len(head))), EXPLICIT)
    return bytes(128) + b"DICM" + size + head + body


def rewritten(data: bytes, syntax: str) -> bytes:
    """An uncompressed file of 16-bit voxels in another transfer syntax."""
    before, found = elements(data)
    assert before == IMPLICIT
    changed = []
    for each in found:
        if each.tag == 0x00020010:
            uid = syntax.encode()
            each = replace(each, value=uid + b"\0" * (len(uid) % 2))
        elif syntax == RLE and each.tag == 0x7FE00010:
            each = Element(each.tag, "OB", _rle(each.value), 2**32 - 1)
        elif syntax == BIG and each.kind in ("US", "OW") and each.tag >> 16 != 2:
            each = replace(each, value=b"".join(each.value[n : n + 2][::-1] for n in range(0, len(each.value), 2)))
        changed.append(each)
    return file_of(syntax, changed)


def _rle(voxels: bytes) -> bytes:
    """A frame of 16-bit voxels in RLE (PS3.5, annex G), in runs of literal bytes: the fragments and their end."""
    planes = []
    for plane in (voxels[1::2], voxels[::2]):
        runs = [plane[n : n + 128] for n in range(0, len(plane), 128)]
        packed = b"".join(bytes([len(run) - 1]) + run for run in runs)
        planes.append(packed + b"\x80" * (len(packed) % 2))
    offsets = [2, 64, 64 + len(planes[0]), *[0] * 13]
    frame = struct.pack("<16I", *offsets) + b"".join(planes)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0) + struct.pack("<HHI", 0xFFFE, 0xE000, len(frame)) + frame
    return item + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def edited_element(data: bytes, chance: random.Random) -> bytes:
    """An element has another value, length or kind, is missing, is there twice, or holds others, deeply nested."""
    syntax, found = elements(data)
    n = chance.randrange(len(found))
    each = found[n]
    match chance.randrange(11):
        case 0:
            del found[n]
        case 1:
            found.insert(n, each)
        case 2:
            found[n] = replace(each, length=chance.choice(_LENGTHS))
        case 3:
            found[n] = replace(each, kind=chance.choice(("SQ", "UN", "OB", "US", "DS", "UI", "xx", "\0\0", "UT")))
        case 4 | 5:
            word = chance.choice(WORDS)[:60_000].encode()
            found[n] = replace(each, value=word + b" " * (len(word) % 2), length=None)
        case 6 | 7:
            numbers = [m for m, other in enumerate(found) if other.tag in _NUMBERS]
            n = chance.choice(numbers)
            found[n] = replace(found[n], value=struct.pack("<H", chance.choice((0, 1, 2, 7, 9, 12, 16, 32, 40000, 65535))))
        case 8:
            found[n] = replace(each, value=mutated(each.value or b"x", chance)[1], length=None)
        case 9:
            found.insert(n, Element(0x00081140 | n, "SQ", _nested(chance.choice((3, 400, 50_000)), syntax), 2**32 - 1))
        case _:
            other = chance.randrange(len(found))
            found[n], found[other] = found[other], found[n]
    return file_of(syntax, found)


def _nested(depth: int, syntax: str) -> bytes:
    """Sequences in sequences, of undefined length, which may have no end."""
    order = ">" if syntax == BIG else "<"
    item = struct.pack(f"{order}HHI", 0xFFFE, 0xE000, 2**32 - 1)
    inner = struct.pack(f"{order}HH", 0x0008, 0x1140) + (b"" if syntax == IMPLICIT else b"SQ\0\0")
    close = struct.pack(f"{order}HHI", 0xFFFE, 0xE00D, 0) + struct.pack(f"{order}HHI", 0xFFFE, 0xE0DD, 0)
    return (item + inner + struct.pack(f"{order}I", 2**32 - 1)) * depth + (item + close) + close * depth * (depth % 2)


def _written(each: Element, syntax: str) -> bytes:
    order = ">" if syntax == BIG else "<"
    tag = struct.pack(f"{order}HH", each.tag >> 16 & 0xFFFF, each.tag & 0xFFFF)
    length = len(each.value) if each.length is None else each.length
    if syntax == IMPLICIT:
        return tag + struct.pack(f"{order}I", length) + each.value
    kind = each.kind.encode("latin-1")
    if each.kind in _LONG:
        return tag + kind + b"\0\0" + struct.pack(f"{order}I", length) + each.value
    return tag + kind + struct.pack(f"{order}H", length % 2**16) + each.value


def _kind(tag: int) -> str:
    if tag in _NUMBERS:
        return "US"
    return _EXACT.get(tag) or _KINDS.get(tag >> 16, "UN")
