"""The envelope of every file of tensors that CoralBay writes: safetensors with a JSON header and a checksum, never pickle.

The checksum is a CRC-32 over the kind, the header, and the name, type, shape and bytes of each tensor. Files of version
0.1.0 have none; all else is checked. torch is imported at the first use.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import MemoryLimitError, ProbeError
from .paths import atomic_write
from .schemas import Schema

if TYPE_CHECKING:
    import torch

_CHECKSUM = "checksum"
"""The field of the header."""
COPY = "copy"
"""A tensor that holds the bytes of a whole file, which has a checksum of its own; it is not in that of the outer file."""
_STORE = "embedding"


def write_tensors(path: str | os.PathLike, kind: str, header: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
    """Write tensors and a header to one file.

    Args:
        path: the file; an existing one is replaced.
        kind: what the file holds, in one word; `read_tensors` checks it.
        header: values that JSON can represent.
        tensors: by name.

    Raises:
        StoreError: the file could not be written; an existing one is unchanged.
    """
    data = encode_tensors(kind, header, tensors)
    # safetensors' own function for files makes them readable by their owner only, and has other errors for a full disk.
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


def read_tensors(
    path: str | os.PathLike, kind: str, schema: Schema | None = None, **lengths: int
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Read the header and the tensors of a file that `write_tensors` wrote.

    Args:
        path: the file.
        kind: what it must hold.
        schema: what such files have in them; None checks the checksum only.
        lengths: lengths of the schema's axes that are known beforehand, by name.

    Raises:
        ProbeError: the file is missing, damaged, or of another kind.
        MemoryLimitError: there is too little memory for it.
    """
    path = Path(path)
    try:
        found = path.is_file()
    except (OSError, ValueError):
        found = False
    if not found:
        raise ProbeError(f"There is no {kind} at {path}.")
    try:
        return open_envelope(path, kind, schema, **lengths)
    except ValueError as error:
        raise ProbeError(f"{path.name} is not of the kind '{kind}', or is damaged ({error}). Make it again.") from error
    except OSError as error:
        raise ProbeError(f"{path.name} cannot be read: {error.strerror or error}.") from error


def kind_of(path: Path) -> str | None:
    """What a file of `write_tensors` holds; None for a safetensors file of another program. torch is not needed.

    Raises:
        ValueError: it is no safetensors file.
        OSError: it cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with path.open("rb"), safe_open(path, framework="np") as file:
            keys = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    named = [key.removeprefix("coralbay").removeprefix(".") for key in keys if key.partition(".")[0] == "coralbay"]
    return (named[0] or _STORE) if named else None


def open_envelope(
    path: Path, kind: str, schema: Schema | None = None, **lengths: int
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """As `read_tensors`, for callers that have their own words.

    Raises:
        ValueError: the file is damaged or of another kind; says how.
        OSError: it cannot be read.
        MemoryLimitError: there is too little memory for it.
    """
    from safetensors import safe_open

    with path.open("rb"):  # with the operating system's errors
        pass

    def read() -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            _header(metadata, kind, schema)
            # Copies: a mapped file that another program cuts short would take the process down.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - not a dict
        return _checked(metadata, kind, tensors, schema, lengths)

    return _in_words(read, path.name)


def encode_tensors(kind: str, header: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> bytes:
    """The content of the file that `write_tensors` writes."""
    from safetensors.torch import save

    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    return save(tensors, metadata=metadata_of(kind, header, tensors))


def decode_tensors(
    data: bytes, kind: str | None, schema: Schema | None = None, **lengths: int
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The header and the tensors that `encode_tensors` encoded.

    Args:
        data: the content.
        kind: as in `read_tensors`; with None nothing is checked, and the header is empty.
        schema: as in `read_tensors`.
        **lengths: as in `read_tensors`.

    Raises:
        ProbeError: the data are damaged, or of another kind.
    """
    from safetensors.torch import load

    def read() -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        if kind is None:
            return {}, load(data)
        length = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + length])["__metadata__"]
        _header(metadata, kind, schema)
        return _checked(metadata, kind, load(data), schema, lengths)

    try:
        return _in_words(read, "The data")
    except ValueError as error:
        raise ProbeError(f"The data are not of the kind '{kind}', or are damaged ({error}).") from error


def metadata_of(kind: str, header: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """The metadata of a safetensors file: its header with the checksum. The tensors must be contiguous.

    There is one entry only: safetensors writes several in an order that changes from file to file.
    """
    content = json.loads(json.dumps(dict(header)))
    return {_key(kind): json.dumps(content | {_CHECKSUM: _checksum(kind, content, tensors)})}


def crc32(tensor: torch.Tensor) -> int:
    """The CRC-32 of the bytes of a contiguous tensor."""
    import torch

    return zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data)


def _key(kind: str) -> str:
    # Entries of the store came before the other kinds.
    return "coralbay" if kind == _STORE else f"coralbay.{kind}"


def _checksum(kind: str, header: dict[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    parts = [[name, str(t.dtype), list(t.shape), crc32(t)] for name, t in sorted(tensors.items()) if name != COPY]
    return f"{zlib.crc32(json.dumps([kind, header, parts]).encode()):08x}"


def _header(metadata: Mapping[str, str], kind: str, schema: Schema | None) -> tuple[dict[str, Any], str | None]:
    """The header and the checksum, which files of version 0.1.0 do not have."""
    if _key(kind) not in metadata:
        raise ValueError(f"its metadata lack '{_key(kind)}'")
    header = json.loads(metadata[_key(kind)], parse_constant=_refuse_constant)
    if not isinstance(header, dict):
        raise ValueError("the header is not an object")
    checksum = header.pop(_CHECKSUM, None)
    if schema is not None:
        schema.check_header(header)
    return header, checksum


def _checked(
    metadata: Mapping[str, str], kind: str, tensors: dict[str, torch.Tensor], schema: Schema | None, lengths: Mapping[str, int]
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    header, checksum = _header(metadata, kind, schema)
    if checksum is not None and checksum != _checksum(kind, header, tensors):
        raise ValueError("its checksum is wrong")
    if schema is not None:
        schema.check(header, tensors, **lengths)
    return header, tensors


def _refuse_constant(name: str) -> float:
    raise ValueError(f"the header holds {name}")


def _in_words(
    read: Callable[[], tuple[dict[str, Any], dict[str, torch.Tensor]]], name: str
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Call `read`, with ValueError for all that damaged bytes make safetensors, torch and JSON raise."""
    from safetensors import SafetensorError

    try:
        return read()
    except MemoryError as error:
        raise MemoryLimitError(f"There is too little memory to read {name}. Close other programs.") from error
    except OSError:
        raise
    except (SafetensorError, LookupError, TypeError, RuntimeError, AttributeError, ArithmeticError) as error:
        raise ValueError(str(error) or type(error).__name__) from error
