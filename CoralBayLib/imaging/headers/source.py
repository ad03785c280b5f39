"""Bytes of an image file: unpacked by what they are, not by the file's name, and checked to their end.

gzip (RFC 1952) ends with a CRC-32 and a length, zlib (RFC 1950) with an Adler-32, bzip2 with a CRC-32. The decompressors
compare them only when the end of the stream is reached, so `Source.finish` always reads to the end.
"""

from __future__ import annotations

import bz2
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from CoralBayLib.core.errors import MemoryLimitError, Remedy, VolumeError
from CoralBayLib.core.formatting import format_bytes
from CoralBayLib.core.paths import error_message

_BLOCK = 1 << 20
_GZIP, _BZIP2 = b"\x1f\x8b", b"BZh"
_MEMORY_SHARE = 0.9
"""Share of the free memory that the voxels of one file may take."""

AGAIN = "Copy or download it again."


class Source:
    """The bytes of one file, or of the compressed part of another source, from front to back.

    Args:
        read: gives up to n bytes, and none at the end.
        name: of the file, for messages.
        encoding: of the bytes that these were decompressed from, "gzip" or "bzip2"; "" for those of the file itself.
    """

    def __init__(self, read: Callable[[int], bytes], name: str, encoding: str = "") -> None:
        self._read = read
        self._ahead = b""
        self.name = name
        self.encoding = encoding

    @property
    def raw(self) -> bool:
        """Whether these are the bytes of the file itself, not decompressed ones."""
        return not self.encoding

    @property
    def ahead(self) -> int:
        """Number of bytes that were looked at and not read yet."""
        return len(self._ahead)

    def peek(self, n: int) -> bytes:
        """The next n bytes, fewer at the end, which stay to be read."""
        parts = [self._ahead]
        have = len(self._ahead)
        while have < n and (block := self._read(max(n - have, 1 << 16))):
            parts.append(block)
            have += len(block)
        self._ahead = b"".join(parts)
        return self._ahead[:n]

    def read(self, n: int) -> bytes:
        """Up to n bytes; none at the end."""
        if self._ahead:
            taken, self._ahead = self._ahead[:n], self._ahead[n:]
            return taken
        return self._read(n)

    def read_into(self, target: memoryview) -> int:
        """Fill a buffer; returns the number of bytes, fewer than its length at the end."""
        done = 0
        while done < len(target) and (block := self.read(min(_BLOCK, len(target) - done))):
            target[done : done + len(block)] = block
            done += len(block)
        return done

    def finish(self) -> tuple[int, bool]:
        """Read to the end, so that all checksums are compared.

        Returns:
            left: number of bytes that were left.
            is_blank: whether they were zeros and blanks alone, as for padding.
        """
        left, is_blank = 0, True
        while block := self.read(_BLOCK):
            left += len(block)
            is_blank = is_blank and not block.strip(b"\0 \t\r\n")
        return left, is_blank

    def unpacked(self, encoding: str) -> Source:
        """The decompressed bytes of the rest: "gzip" (or zlib) or "bzip2"; several streams in a row are one."""
        return Source(_Unpacker(self, encoding).read, self.name, encoding)


class _Unpacker:
    """Decompresses a source."""

    def __init__(self, source: Source, encoding: str) -> None:
        self._source = source
        self._bzip2 = encoding == "bzip2"
        self._stream = self._begin()
        self._pending = b""

    def read(self, n: int) -> bytes:
        """Up to n bytes; none after the end of the last stream, whose checksum was right."""
        try:
            while not self._stream.eof or self._next():
                hungry = self._stream.needs_input if self._bzip2 else not self._stream.unconsumed_tail
                block = self._take() if hungry else b"" if self._bzip2 else self._stream.unconsumed_tail
                if out := self._stream.decompress(block, n):
                    return out
                if hungry and not block and not self._stream.eof:
                    raise VolumeError(
                        f"{self._source.name} is truncated or damaged: its compressed data end too early. {AGAIN}"
                    )
        except (zlib.error, OSError) as error:
            raise VolumeError(
                f"{self._source.name} is damaged or truncated: its compressed data fail their own check "
                f"({error_message(error)}). {AGAIN}"
            ) from error
        return b""

    def _begin(self) -> Any:
        return bz2.BZ2Decompressor() if self._bzip2 else zlib.decompressobj(47)  # 47: gzip or zlib, by the header

    def _take(self) -> bytes:
        block, self._pending = self._pending or self._source.read(1 << 18), b""
        return block

    def _next(self) -> bool:
        """Begin the next of several streams in a row; False when nothing of the kind follows."""
        rest = self._stream.unused_data
        rest += self._source.read(1 << 18) if len(rest) < 3 else b""
        if not rest.startswith(_BZIP2 if self._bzip2 else _GZIP):
            return False
        self._stream, self._pending = self._begin(), rest
        return True


def open_source(path: Path, file: IO[bytes]) -> Source:
    """The bytes of an open file, decompressed where they are gzip or bzip2 as a whole, whatever the file's name says."""
    source = Source(file.read, path.name)
    head = source.peek(3)
    if head.startswith(_GZIP):
        return source.unpacked("gzip")
    return source.unpacked("bzip2") if head == _BZIP2 else source


def require_memory(expected: int, name: str) -> None:
    """Refuse voxels that do not fit into memory, before it is allocated.

    Raises:
        MemoryLimitError: `expected` bytes are more than there are.
    """
    if expected > _MEMORY_SHARE * _free_memory():
        raise too_little_memory(expected, name)


def too_little_memory(expected: int, name: str) -> MemoryLimitError:
    """The error for voxels of `expected` bytes that do not fit into memory."""
    free = _free_memory()
    return MemoryLimitError(
        f"{name} needs {format_bytes(expected)} of memory for its voxels, and {format_bytes(free)} are free. If the scan is "
        "not that large, the header of the file is damaged.",
        remedy=Remedy.FREE_MEMORY,
    )


def _free_memory() -> int:
    # Imported here, because Slicer has psutil only after CoralBay has installed what it needs.
    import psutil

    return int(psutil.virtual_memory().available)
