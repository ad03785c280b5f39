"""The elements of a DICOM file, walked before GDCM sees them (DICOM PS3.5, 7; PS3.10, 7).

GDCM allocates what a damaged length says, descends as deep as sequences are nested, and may not end, or ends the process.
Here every length is compared with what is left of the file, down to the fragments of compressed voxels.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from CoralBayLib.core.errors import VolumeError
from CoralBayLib.core.paths import error_message

IMPLICIT, BIG_ENDIAN, DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
UNCOMPRESSED = ("", IMPLICIT, "1.2.840.10008.1.2.1", BIG_ENDIAN, DEFLATED)
"""Transfer syntaxes whose voxels are not compressed one by one (PS3.5, annex A); "" is a file without one."""
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""Classes of DICOM SEG files; the second is that of labelmaps."""
RT_STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"

_LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
_SHORT = tuple(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())
_CLASS, _SYNTAX, _SERIES, _VOXELS = 0x00080016, 0x00020010, 0x0020000E, 0x7FE00010
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_DEEPEST = 32
"""Most sequences within each other."""
_MOST_ELEMENTS = 1 << 19
_MOST_INFLATED = 1 << 30
"""Most bytes of a deflated file, inflated."""


@dataclass
class Elements:
    """What the elements of a file say.

    Attributes:
        syntax: UID of the transfer syntax; "" without one.
        series: SeriesInstanceUID; "" without one.
        sop_class: SOPClassUID; "" without one.
        voxel_bytes: bytes of its voxels as they are stored; None without voxels.
        fault: what is wrong, to follow "is damaged: "; "" if nothing is. What comes after the fault is not known.
    """

    syntax: str = ""
    series: str = ""
    sop_class: str = ""
    voxel_bytes: int | None = None
    fault: str = ""


def read_elements(path: Path) -> Elements | None:
    """Walk all elements of a file.

    Returns:
        What they say; None when it is no DICOM file. One without the preamble is known by its first element, and
        is no DICOM file when it is damaged.

    Raises:
        VolumeError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(132)
            preamble = head[128:] == b"DICM"
            if not preamble and head[:2] not in (b"\x02\x00", b"\x08\x00"):
                return None
            file.seek(132 if preamble else 0)
            found = _read(file, os.fstat(file.fileno()).st_size, preamble)
    except OSError as error:
        raise VolumeError(f"The file {path.name} cannot be read ({error_message(error)}). Copy the series again.") from error
    return found if preamble or not found.fault else None


def _read(file: IO[bytes], size: int, preamble: bool) -> Elements:
    found = Elements()
    try:
        _Walk(file, size, found).meta(required=preamble)
        begin = file.tell()
        if found.syntax == DEFLATED:
            file, size = _inflated(file)
            begin = 0
        # Some programs write implicit VR whatever the transfer syntax says; GDCM reads that.
        explicit = found.syntax != IMPLICIT and file.read(6)[4:6] in _LONG + _SHORT
        file.seek(begin)
        _Walk(file, size, found, explicit, ">" if found.syntax == BIG_ENDIAN else "<").dataset()
    except _DamageError as error:
        found.fault = str(error)
    if not found.fault and found.sop_class == CT_IMAGE and found.voxel_bytes is None:
        found.fault = "it has no voxels"
    return found


def _inflated(file: IO[bytes]) -> tuple[IO[bytes], int]:
    inflater = zlib.decompressobj(-15)
    try:
        data = inflater.decompress(file.read(), _MOST_INFLATED)
    except zlib.error as error:
        raise _DamageError(f"its deflated data set cannot be read ({error})") from error
    if not inflater.eof:
        raise _DamageError("its deflated data set has no end")
    return io.BytesIO(data), len(data)


class _DamageError(Exception):
    """A fault of the elements, in words."""


class _Walk:
    """Goes through the elements of one file.

    Args:
        file: at the first element.
        size: of the file in bytes.
        found: where the values are kept.
        explicit: whether elements have their kind (VR) written.
        order: "<" or ">", the order of bytes.
    """

    def __init__(self, file: IO[bytes], size: int, found: Elements, explicit: bool = True, order: str = "<") -> None:
        self._file, self._size, self._found = file, size, found
        self._explicit, self._order = explicit, order
        self._at = file.tell()
        self._count = 0

    def meta(self, required: bool) -> None:
        """Read the file meta information, and leave the file at the element after it."""
        while True:
            head = self._peek(8)
            if head[:2] != b"\x02\x00":
                break
            tag, kind, length, begin = self._head()
            if kind not in _LONG + _SHORT or length > self._size - begin:
                raise _DamageError("its file meta information has no end")
            value = self._file.read(length) if tag == _SYNTAX and length <= 64 else b""
            if tag == _SYNTAX:
                self._found.syntax = _text(value)
            self._go(begin + length)
        if required and not self._found.syntax:
            raise _DamageError("its file meta information has no end")

    def dataset(self) -> None:
        """Walk the data set, to the end of the file."""
        while self._at < self._size:
            tag, kind, length, begin = self._head()
            if tag == _VOXELS:
                self._voxels(length, begin)
            else:
                self._value(tag, kind, length, begin, self._size, self._explicit, 0)

    def _voxels(self, length: int, begin: int) -> None:
        if length == _UNDEFINED:
            self._found.voxel_bytes = self._fragments(self._size)
        else:
            self._require(length, begin, self._size)
            self._found.voxel_bytes = length
            self._go(begin + length)

    def _fragments(self, end: int) -> int:
        """Walk the fragments of compressed voxels (PS3.5, A.4); returns their bytes."""
        total = 0
        while self._at < end:
            tag, _, length, begin = self._head(item=True)
            if tag == _SEQUENCE_END:
                break
            if tag != _ITEM:
                raise _DamageError("its compressed voxels are not in fragments")
            self._require(length, begin, end)
            total += length
            self._go(begin + length)
        return total

    def _value(self, tag: int, kind: bytes, length: int, begin: int, end: int, explicit: bool, depth: int) -> None:
        """Walk the value of an element that begins at `begin`, and go to the next."""
        if length == _UNDEFINED and tag == _VOXELS:
            self._fragments(end)  # of an icon
            return
        if length == _UNDEFINED:
            # Of unknown kind and undefined length: a sequence in implicit VR (PS3.5, 6.2.2).
            self._sequence(begin, end, open_end=True, explicit=explicit and kind != b"UN", depth=depth + 1)
            return
        self._require(length, begin, end)
        if kind == b"SQ" or (not explicit and length >= 8 and self._is_item()):
            self._sequence(begin, begin + length, open_end=False, explicit=explicit, depth=depth + 1)
        elif depth == 0 and tag in (_SERIES, _CLASS) and length <= 128:
            text = _text(self._file.read(length))
            if tag == _SERIES:
                self._found.series = self._found.series or text
            else:
                self._found.sop_class = self._found.sop_class or text
        self._go(begin + length)

    def _sequence(self, begin: int, end: int, open_end: bool, explicit: bool, depth: int) -> None:
        if depth > _DEEPEST:
            raise _DamageError(f"it has more than {_DEEPEST} sequences within each other")
        self._go(begin)
        while self._at < end:
            tag, _, length, begin = self._head(item=True)
            if tag == _SEQUENCE_END and open_end:
                return
            if tag != _ITEM:
                raise _DamageError("a sequence holds something else than items")
            if length != _UNDEFINED:
                self._require(length, begin, end)
            self._item(end if length == _UNDEFINED else begin + length, length == _UNDEFINED, explicit, depth)
        if open_end:
            raise _DamageError("a sequence has no end")

    def _item(self, end: int, open_end: bool, explicit: bool, depth: int) -> None:
        while self._at < end:
            tag, kind, length, begin = self._head(explicit=explicit)
            if tag == _ITEM_END and open_end:
                return
            if tag >> 16 == 0xFFFE:
                raise _DamageError("an item of a sequence ends where it should not")
            self._value(tag, kind, length, begin, end, explicit, depth)
        if open_end:
            raise _DamageError("an item of a sequence has no end")

    def _head(self, item: bool = False, explicit: bool | None = None) -> tuple[int, bytes, int, int]:
        """Tag, kind, length and the beginning of the value of the element that is next."""
        self._count += 1
        if self._count > _MOST_ELEMENTS:
            raise _DamageError(f"it has more than {_MOST_ELEMENTS:,} elements")
        head = self._file.read(8)
        if len(head) < 8:
            raise _DamageError("it ends within an element")
        group, number = struct.unpack_from(f"{self._order}HH", head)
        tag, begin = group << 16 | number, self._at + 8
        explicit = self._explicit if explicit is None else explicit
        if item or not explicit or group == 0xFFFE:
            self._at = begin
            return tag, b"", struct.unpack_from(f"{self._order}I", head, 4)[0], begin
        kind = head[4:6]
        if kind in _SHORT:
            self._at = begin
            return tag, kind, struct.unpack_from(f"{self._order}H", head, 6)[0], begin
        if kind not in _LONG:
            raise _DamageError(f"its element ({group:04X},{number:04X}) is of no known kind")
        more = self._file.read(4)
        if len(more) < 4:
            raise _DamageError("it ends within an element")
        self._at = begin + 4
        return tag, kind, struct.unpack(f"{self._order}I", more)[0], begin + 4

    def _require(self, length: int, begin: int, end: int) -> None:
        if length > end - begin:
            raise _DamageError(f"an element of {length:,} bytes is longer than what is left ({max(0, end - begin):,})")

    def _is_item(self) -> bool:
        return self._peek(4) == struct.pack(f"{self._order}HH", 0xFFFE, 0xE000)

    def _peek(self, count: int) -> bytes:
        data = self._file.read(count)
        self._file.seek(self._at)
        return data

    def _go(self, at: int) -> None:
        self._file.seek(at)
        self._at = at


def _text(value: bytes) -> str:
    return value.decode("latin-1").strip(" \0")
