"""Pyramids on disk: content-addressed, packed, bounded, safe against crashes and a second process.

One safetensors file an entry, named by its key, with a JSON header; written under a temporary name and renamed, so
that a reader sees a whole entry or none. A damaged entry is dropped and computed again.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from CoralBayLib.core import schemas
from CoralBayLib.core.errors import CoralBayError, MemoryLimitError, StoreError
from CoralBayLib.core.paths import atomic_write, cache_dir, error_message
from CoralBayLib.core.tensor_files import crc32, metadata_of, open_envelope
from CoralBayLib.imaging.grid import Grid, Volume

from .compression import deflate, inflate, pack, support_mask, unpack
from .pyramid import Basis, FeaturePyramid, Level

FORMAT_VERSION = 2
KIND = "embedding"
_STALE_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Entry:
    """One stored pyramid.

    Attributes:
        key: its content address.
        path: its file.
        nbytes: size on disk.
        used: when it was last read or written, seconds since the epoch.
    """

    key: str
    path: Path
    nbytes: int
    used: float


class Store:
    """A folder of pyramids.

    Args:
        root: the folder; `CORALBAY_CACHE` or the platform's cache folder by default.
        limit_bytes: the least recently used entries go when the store grows beyond this.

    Example::

        store = Store()
        pyramid = embed(volume, encoder, store=store)    # computes and keeps
        pyramid = embed(volume, encoder, store=store)    # reads the file
    """

    def __init__(self, root: str | os.PathLike | None = None, limit_bytes: int = 20 * 2**30) -> None:
        self.root = Path(root) if root is not None else cache_dir() / "embeddings"
        self.limit_bytes = limit_bytes

    def get(self, key: str) -> FeaturePyramid | None:
        """The pyramid of a key; None, and a warning, when it is damaged or cannot be read; None when it is not there.

        Raises:
            MemoryLimitError: there is too little memory for it.
        """
        path = self._path(key)
        try:
            pyramid = _read(path)
        except FileNotFoundError:
            return None
        except MemoryLimitError:
            raise
        except (OSError, CoralBayError, LookupError, TypeError, ValueError, RuntimeError) as error:
            reason = error_message(error)
            warnings.warn(f"The stored embedding {path.name} cannot be read and is computed again ({reason}).", stacklevel=2)
            if not isinstance(error, OSError):
                # Damaged. What merely cannot be opened may be whole.
                with _unless_busy():
                    path.unlink()
            return None
        with _unless_busy():
            os.utime(path)
        return pyramid

    def put(self, pyramid: FeaturePyramid) -> None:
        """Write a pyramid under its key, whole or not at all.

        Its features are rounded (see `packing`): `get` gives what later sessions will work with.

        Raises:
            StoreError: the disk is full, the folder cannot be written, or the entry is larger than the store's limit.
        """
        tensors, header = _packed(pyramid)
        need = sum(tensor.nbytes for tensor in tensors.values())
        if need > self.limit_bytes:
            raise StoreError(
                f"This embedding takes {need / 2**20:.0f} MB, more than the store's limit of "
                f"{self.limit_bytes / 2**20:.0f} MB. Raise the limit in the settings."
            )
        path = self._path(pyramid.key)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(self.root).free < need:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            with atomic_write(path) as temporary:
                save_file(tensors, temporary, metadata=metadata_of(KIND, header, tensors))
        except (OSError, SafetensorError) as error:
            raise StoreError(
                f"Could not write {need / 2**20:.0f} MB to the embedding store ({error_message(error.__cause__ or error)}). "
                "Free some disk space, clear the store, or choose another folder with the environment variable CORALBAY_CACHE."
            ) from error
        self._evict(keep=path)

    def entries(self) -> list[Entry]:
        """Every entry, the least recently used first."""
        found = []
        for path in self.root.glob("[!.]*.safetensors"):
            # Another process may remove it between the listing and the look.
            with _unless_busy():
                status = path.stat()
                found.append(Entry(path.stem, path, status.st_size, status.st_mtime))
        return sorted(found, key=lambda entry: entry.used)

    def nbytes(self) -> int:
        """Bytes of all entries."""
        return sum(entry.nbytes for entry in self.entries())

    def remove(self, key: str) -> bool:
        """Delete one entry; tells whether it was there.

        Raises:
            StoreError: it may not be deleted.
        """
        path = self._path(key)
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StoreError(f"Could not delete the stored embedding {path}: {error_message(error)}.") from error
        return True

    def clear(self) -> int:
        """Delete every entry that may be deleted; returns how many were."""
        deleted = 0
        for entry in self.entries():
            with _unless_busy():
                entry.path.unlink()
                deleted += 1
        return deleted

    def __contains__(self, key: str) -> bool:
        return self._path(key).exists()

    def _path(self, key: str) -> Path:
        if not key or not key.isalnum():
            raise StoreError(f"'{key}' is no key of an embedding; keys are hexadecimal digits.")
        return self.root / f"{key}.safetensors"

    def _evict(self, keep: Path) -> None:
        for leftover in self.root.glob(".*.safetensors"):
            with _unless_busy():
                if time.time() - leftover.stat().st_mtime > _STALE_SECONDS:
                    leftover.unlink()
        entries = self.entries()
        total = sum(entry.nbytes for entry in entries)
        for entry in entries:
            if total <= self.limit_bytes:
                return
            if entry.path != keep:
                with _unless_busy():
                    entry.path.unlink()
                    total -= entry.nbytes


class _unless_busy:  # noqa: N801 - reads as a phrase: `with _unless_busy()`
    """Passes over a file that another process removed or holds open, or that this user or file system may not change."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type | None, error: object, trace: object) -> bool:
        return kind is not None and issubclass(kind, OSError)


def _packed(pyramid: FeaturePyramid) -> tuple[dict[str, torch.Tensor], dict]:
    tensors = {
        f"level.{level.name}.{name}": tensor
        for level in pyramid.levels
        for name, tensor in pack(level.features, support_mask(pyramid.body, level.grid)).items()
    }
    tensors["image"] = deflate(pyramid.image.array)
    tensors["body"] = deflate(pyramid.body.array)
    for title, basis in (("basis", pyramid.basis), ("similarity", pyramid.for_similarity.basis)):
        tensors.update({f"{title}.{name}": tensor for name, tensor in basis.tensors().items()})
    if pyramid.scan_embedding is not None:
        tensors["scan_embedding"] = pyramid.scan_embedding
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    header = {
        "format": FORMAT_VERSION,
        "key": pyramid.key,
        "identity": pyramid.identity,
        "grid": _grid_to_json(pyramid.grid),
        "source_grid": _grid_to_json(pyramid.source_grid),
        "levels": [{"name": level.name, "grid": _grid_to_json(level.grid)} for level in pyramid.levels],
        "crc32": {name: crc32(tensor) for name, tensor in tensors.items()},
    }
    return tensors, header


def _read(path: Path) -> FeaturePyramid:
    header, tensors = open_envelope(path, KIND, schemas.STORE_ENTRY)
    if header["format"] != FORMAT_VERSION:
        raise ValueError(f"format {header['format']}, expected {FORMAT_VERSION}")
    if header["key"] != path.stem:
        raise ValueError("it is the entry of another key")
    if set(header["crc32"]) != set(tensors):
        raise ValueError("a part is missing")
    for name, expected in header["crc32"].items():
        if crc32(tensors[name]) != expected:
            raise ValueError(f"the checksum of {name} is wrong")
    grid = _grid_from_json(header["grid"])

    def under(title: str) -> dict[str, torch.Tensor]:
        return {n.removeprefix(f"{title}."): t for n, t in tensors.items() if n.startswith(f"{title}.")}

    def level(entry: dict) -> Level:
        on = _grid_from_json(entry["grid"])
        return Level(entry["name"], on, unpack(under(f"level.{entry['name']}"), on.shape))

    # Beside each other: zlib and NumPy let go of the interpreter.
    with ThreadPoolExecutor() as pool:
        image = pool.submit(inflate, tensors["image"], "<i2", grid.shape)
        levels = tuple(pool.map(level, header["levels"]))
    return FeaturePyramid(
        levels=levels,
        image=Volume(image.result(), grid),
        body=Volume(inflate(tensors["body"], "u1", grid.shape), grid),
        identity=header["identity"],
        source_grid=_grid_from_json(header["source_grid"]),
        key=header["key"],
        scan_embedding=tensors.get("scan_embedding"),
        stored_basis=Basis(**under("basis")),
        stored_similarity_basis=Basis(**under("similarity")),
    )


def _grid_to_json(grid: Grid) -> dict:
    return {"shape": grid.shape, "ijk_to_ras": grid.ijk_to_ras.tolist()}


def _grid_from_json(entry: dict) -> Grid:
    return Grid(tuple(entry["shape"]), entry["ijk_to_ras"])
