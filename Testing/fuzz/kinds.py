"""What a kind of input is: files that are damaged, and a use of them that must give the right result or an error in words."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from CoralBayLib.core.errors import CoralBayError

from .mutations import Edit


class DroppedError(CoralBayError):
    """A use found nothing where a damaged entry was: CoralBay has noticed, and makes the entry again."""


@dataclass
class Input:
    """One input in a folder of its own.

    Attributes:
        files: those that are damaged, one at a time.
        use: reads them; gives the same for the same input, and raises CoralBayError for a damaged one.
        edits: edits by a program that knows the format, by file; the key None stands for all others.
        vouched: for a file, the offset from which a checksum vouches for its bytes; for a file without any, -1.
        may_leave: names of files that a use may leave behind.
        may_change: whether a use may change or delete the damaged file.
    """

    files: list[Path]
    use: Callable[[], Any]
    edits: dict[Path | None, tuple[Edit, ...]] = field(default_factory=dict)
    vouched: Callable[[Path], int] = lambda _path: -1
    may_leave: tuple[str, ...] = ()
    may_change: bool = False

    def edits_of(self, path: Path) -> tuple[Edit, ...]:
        """The edits of a file."""
        return self.edits.get(path, self.edits.get(None, ()))


Build = Callable[[Path], Input]
"""Makes the input in an empty folder."""


def fingerprint(value: Any) -> str:
    """A short text that two results share only if they are the same."""
    digest = hashlib.sha256()
    _add(digest, value)
    return digest.hexdigest()[:16]


def _add(digest: Any, value: Any) -> None:
    if isinstance(value, np.ndarray):
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, (list, tuple)):
        digest.update(f"[{len(value)}".encode())
        for each in value:
            _add(digest, each)
    else:
        digest.update(repr(value).encode("utf-8", "surrogatepass"))


def of_volume(volume: Any) -> list[Any]:
    """Voxels and geometry; the geometry to a ten-thousandth of a millimeter."""
    return [volume.array, np.round(volume.grid.ijk_to_ras, 4)]
