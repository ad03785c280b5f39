"""What a header says about its voxels, and reading those."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.core.errors import VolumeError
from CoralBayLib.core.paths import error_message

from .source import AGAIN, Source, require_memory, too_little_memory

MAX_PER_AXIS = 1 << 20
"""Most voxels along an axis."""
MAX_HEADER_BYTES = 1 << 24
"""Longest header, in bytes; those of segmentations list every segment."""

_FORMATS = {".nrrd": "NRRD", ".nii": "NIfTI-1", ".mha": "MetaImage"}
_LONGEST_NUMBER = 64
"""Most characters of a number in the text of a header."""
_LARGEST_RATIO = 1100
"""Most bytes that a byte of a gzip or zlib file gives; the limit of deflate is 1032."""


@dataclass
class Header:
    """The header of an image file.

    Attributes:
        name: of the file, for messages.
        size: voxels along the axes, the fastest first.
        components: values per voxel.
        planar: whether the components are the slowest axis rather than the fastest.
        dtype: of one value in the file, with its byte order.
        encoding: "raw", "gzip", "bzip2", "ascii" or "hex": of the voxels within the file.
        files: where the voxels are, one after the other; none when they follow the header.
        skip: bytes before the voxels, after decompression; -1 takes the last bytes of an uncompressed file.
        skip_lines: lines before the voxels, before decompression.
        scale: slope and intercept of the values; None where they are as stored.
        suffix, text: a file that tells ITK the geometry and nothing else.
        fields: key/value pairs of the header.
        notes: sentences on what in it is ambiguous.
    """

    name: str
    size: tuple[int, ...]
    components: int
    dtype: np.dtype
    suffix: str
    text: bytes
    planar: bool = False
    encoding: str = "raw"
    files: tuple[Path, ...] = ()
    skip: int = 0
    skip_lines: int = 0
    scale: tuple[float, float] | None = None
    fields: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def format(self) -> str:
        """Name of the file's format."""
        return _FORMATS[self.suffix]

    @property
    def values(self) -> int:
        """Number of values in the file."""
        return int(np.prod(self.size, dtype=object)) * self.components

    @property
    def expected(self) -> int:
        """Bytes of the voxels."""
        return self.values * self.dtype.itemsize

    def read(self, rest: Source, present: int | None, on_disk: int) -> NDArray:
        """The voxels, [k, j, i] or [k, j, i, component], in the file's type and the machine's byte order.

        Args:
            rest: what follows the header in its file.
            present: bytes left there where it is uncompressed; None where that is not known.
            on_disk: size of the file in bytes.

        Raises:
            VolumeError: there are fewer or more voxels than the header says, or a checksum is wrong.
            MemoryLimitError: there is too little memory.
        """
        if self.skip == -1 and not self.files:
            if self.encoding != "raw" or present is None:
                raise damaged(self.name, "it says that compressed voxels are the last bytes of the file")
            self.skip = max(0, present - self.expected)
        if self.encoding == "raw" and not self.files and present is not None:
            self._require(present - max(self.skip, 0), present)
        elif not self.files and self.encoding != "bzip2" and self.expected > _LARGEST_RATIO * on_disk:
            raise VolumeError(
                f"{self.name} is truncated or damaged: its header announces {self.expected:,} bytes of voxels, which cannot be "
                f"in a file of {on_disk:,} bytes. {AGAIN}"
            )
        require_memory(self.values * max(self.dtype.itemsize, 4 if self.scale else 1), self.name)
        try:
            buffer = np.empty(self.values, self.dtype)
        except MemoryError as error:
            raise too_little_memory(self.expected, self.name) from error
        view = buffer.view(np.uint8).data.cast("B")
        if self.files:
            part = len(view) // len(self.files)
            if part * len(self.files) != len(view):
                raise VolumeError(f"{self.name}: the voxels cannot be shared out to {len(self.files)} data files.")
            for n, path in enumerate(self.files):
                self._from_file(path, view[n * part : (n + 1) * part])
        else:
            self._fill(rest, view)
        return self._shaped(buffer)

    def _from_file(self, path: Path, view: memoryview) -> None:
        try:
            with path.open("rb") as file:
                if self.skip == -1 and self.encoding == "raw":
                    file.seek(max(0, path.stat().st_size - len(view)))
                self._fill(Source(file.read, path.name), view)
        except (OSError, ValueError) as error:
            if isinstance(error, VolumeError):
                raise
            raise VolumeError(
                f"The voxels of {self.name} are in another file, {path.name}, which cannot be read "
                f"({error_message(error)}). It needs to be in the same folder."
            ) from error

    def _fill(self, source: Source, view: memoryview) -> None:
        for _ in range(self.skip_lines):
            while source.read(1) not in (b"\n", b""):
                pass
        if self.encoding in ("gzip", "bzip2"):
            source = source.unpacked(self.encoding)
        skipped = 0
        while skipped < self.skip and (block := source.read(min(self.skip - skipped, 1 << 20))):
            skipped += len(block)
        if self.encoding in ("ascii", "hex"):
            self._fill_text(source, view)
            return
        got = source.read_into(view)
        left, is_blank = source.finish()
        self._require(got + left, got)
        if not is_blank and self.skip != -1:
            # A wrong length of what comes before the voxels leaves some of them over.
            raise VolumeError(
                f"{source.name} is damaged, or not the file that belongs to the header: {left:,} bytes are left over after the "
                f"{got:,} bytes of voxels. {AGAIN}"
            )

    def _require(self, got: int, known: int) -> None:
        expected = self.expected // max(1, len(self.files))
        if got < expected:
            raise VolumeError(
                f"{self.name} is truncated or damaged: expected {expected:,} bytes of voxels, got {got:,}. {AGAIN}"
            )
        row = expected // max(1, self.size[-1]) if self.size else 1
        if got - expected >= min(4096, max(row, 16)) and self.skip != -1:
            raise VolumeError(
                f"{self.name} is damaged: its header announces {expected:,} bytes of voxels, and there are {got:,}. {AGAIN}"
            )

    def _fill_text(self, source: Source, view: memoryview) -> None:
        most = 40 * self.values + 4096
        data = source.peek(most)
        if len(data) == most:
            raise VolumeError(f"{self.name} is damaged: the text of its voxels is too long for {self.values:,} values. {AGAIN}")
        try:
            if self.encoding == "hex":
                values = np.frombuffer(bytes.fromhex(data.decode("ascii")), self.dtype)
            else:
                values = self._as_stored(np.array(data.split(), dtype=np.float64))
        except ValueError as error:
            raise VolumeError(
                f"{self.name} is damaged: its voxels are not the text they should be ({error}). {AGAIN}"
            ) from error
        self._require(values.nbytes, values.nbytes)
        if values.size > self.values:
            raise VolumeError(f"{self.name} is damaged: it has {values.size:,} values for {self.values:,} voxels. {AGAIN}")
        view[:] = values.copy().view(np.uint8).data.cast("B")

    def _as_stored(self, values: NDArray[np.float64]) -> NDArray:
        """Numbers of a text in the file's type.

        Raises:
            ValueError: the type cannot hold one.
        """
        if self.dtype.kind in "iu":
            limits = np.iinfo(self.dtype)
            wrong = ~((values >= limits.min) & (values <= limits.max) & (values == np.rint(values)))
            if wrong.any():
                raise ValueError(f"{values[wrong][0]:g} is not a whole number from {limits.min} to {limits.max}")
        return values.astype(self.dtype)

    def _shaped(self, buffer: NDArray) -> NDArray:
        if not self.dtype.isnative:
            buffer = buffer.byteswap(inplace=True).view(self.dtype.newbyteorder("="))
        if self.scale:
            buffer = _scaled(buffer, *self.scale)
        shape = self.size[2::-1]
        if self.components == 1:
            return buffer.reshape(shape)
        if self.planar:
            return np.ascontiguousarray(np.moveaxis(buffer.reshape(self.components, *shape), 0, -1))
        return buffer.reshape(*shape, self.components)


def _scaled(values: NDArray, slope: float, intercept: float) -> NDArray:
    """As ITK: computed as doubles, and kept as float32 unless they were doubles."""
    out = np.empty(values.shape, np.float64 if values.dtype == np.float64 else np.float32)
    for start in range(0, values.size, 1 << 21):
        part = slice(start, start + (1 << 21))
        out[part] = values[part].astype(np.float64) * slope + intercept
    return out


def whole_numbers(words: Sequence[str], what: str, name: str, least: int = 1, most: int = MAX_PER_AXIS) -> tuple[int, ...]:
    """Whole numbers of a header.

    Raises:
        VolumeError: one is no whole number, or is out of range.
    """
    try:
        numbers = tuple(int(_plain(word)) for word in words)
        if not all(least <= n <= most for n in numbers):
            raise ValueError
    except ValueError:
        raise damaged(name, f"{what} is '{' '.join(words)[:60]}'") from None
    return numbers


def real_numbers(words: Sequence[str], what: str, name: str, count: int | None = None) -> tuple[float, ...]:
    """Finite numbers of a header.

    Raises:
        VolumeError: one is no number, NaN or infinite, or there are too few or too many.
    """
    try:
        numbers = tuple(float(_plain(word)) for word in words)
        if not np.isfinite(numbers).all() or (count is not None and len(numbers) != count):
            raise ValueError
    except ValueError:
        raise damaged(name, f"{what} is '{' '.join(words)[:60]}'") from None
    return numbers


def _plain(word: str) -> str:
    """A number as ITK reads it, too; Python takes more for one, and ITK's buffers are short.

    Raises:
        ValueError: it is none.
    """
    if len(word) > _LONGEST_NUMBER or "_" in word or not word.isascii():
        raise ValueError
    return word


def damaged(name: str, fault: str) -> VolumeError:
    """The error for a field of a header that cannot be right."""
    return VolumeError(f"The header of {name} is damaged: {fault}. {AGAIN}")


def text_of(line: bytes) -> str:
    """A line of a header: UTF-8, or Latin-1 where it is not."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("latin-1")


def data_files(pattern: str, lines: Sequence[str], folder: Path, name: str, numbers: Sequence[str]) -> tuple[Path, ...]:
    """The data files of a detached header.

    Args:
        pattern: a name, "LIST", or a printf pattern such as "slice%03d.raw".
        lines: names, for "LIST".
        folder: of the header.
        name: of the header, for messages.
        numbers: first, last and step, as text, for a pattern.

    Raises:
        VolumeError: no file is named, one is named twice, or the pattern or its range is damaged.
    """
    if pattern == "LIST":
        names = [line.strip() for line in lines if line.strip()]
    elif numbers:
        first, last, step = (whole_numbers(numbers, "the range of its data files", name, 0) + (1,))[:3]
        try:
            names = [pattern % n for n in range(first, last + 1, step or 1)][: 1 << 16]
        except (TypeError, ValueError) as error:
            raise damaged(name, f"the pattern of its data files is '{pattern[:60]}'") from error
    else:
        names = [pattern]
    if not names:
        raise damaged(name, "it names no data file")
    if len(set(names)) < len(names):
        twice = next(each for each in names if names.count(each) > 1)
        raise damaged(name, f"it names the data file '{twice[:60]}' twice")
    return tuple(folder / each for each in names)
