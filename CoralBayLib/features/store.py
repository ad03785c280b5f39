"""A content-addressed store of pyramids on disk, with a size limit, for several processes at once.

Each entry is one safetensors file with a JSON header, named by its key. It is written under a temporary name and renamed, so
that a reader finds a complete entry or none. A damaged entry is deleted, and its features are computed again.
"""

from __future__ import annotations

import errno
import os
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from CoralBayLib.core import schemas
from CoralBayLib.core.errors import CoralBayError, MemoryLimitError, StoreError
from CoralBayLib.core.paths import atomic_write, error_message
from CoralBayLib.core.tensor_files import crc32, metadata_of, open_envelope
from CoralBayLib.imaging.grid import Grid, Volume

from .compression import deflate, inflate, pack, support_mask, unpack
from .pyramid import Basis, FeaturePyramid, Level
from .store_folder import FORMAT_VERSION, MAKE_ROOM, IgnoreBusy, StoreFolder

KIND = "embedding"


class Store(StoreFolder):
    """A folder of stored pyramids.

    Args:
        root: the folder; by default `embeddings` in `CORALBAY_CACHE` or in the platform's cache folder.
        limit_bytes: size above which the least recently used entries are deleted.

    Example::

        store = Store()
        pyramid = embed(volume, encoder, store=store)    # computes and writes
        pyramid = embed(volume, encoder, store=store)    # reads the file
    """

    def get(self, key: str) -> FeaturePyramid | None:
        """The pyramid of a key; None if there is none, and None with a warning if it is damaged or cannot be read.

        Raises:
            MemoryLimitError: it does not fit into memory.
        """
        path = self._path(key)
        try:
            pyramid = _read(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except MemoryLimitError:
            raise
        except (OSError, CoralBayError, LookupError, TypeError, ValueError, RuntimeError) as error:
            reason = error_message(error)
            warnings.warn(f"The stored embedding {path.name} cannot be read and is computed again ({reason}).", stacklevel=2)
            if not isinstance(error, OSError):
                # Damaged. A file that cannot be opened may still be complete.
                with IgnoreBusy():
                    path.unlink()
            return None
        with IgnoreBusy():
            os.utime(path)
        return pyramid

    def put(self, pyramid: FeaturePyramid) -> None:
        """Write a pyramid under its key.

        Its features are rounded (see `compression`); `get` returns the rounded features, which later sessions use.

        Raises:
            StoreError: the disk is full, the folder cannot be written, or the entry is larger than the store's limit.
        """
        tensors, header = _packed(pyramid)
        need = sum(tensor.nbytes for tensor in tensors.values())
        if need > self.limit_bytes:
            raise StoreError(
                f"These features take {need / 2**20:.0f} MB, more than the store's limit of "
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
                f"{MAKE_ROOM}"
            ) from error
        self._evict(keep=path)


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

    # In parallel: zlib and NumPy release the interpreter lock.
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
