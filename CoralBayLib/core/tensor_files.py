"""Small results on disk: safetensors with a JSON header, never pickle. torch is imported at the first use."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ProbeError
from .paths import atomic_write

if TYPE_CHECKING:
    import torch


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


def read_tensors(path: str | os.PathLike, kind: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Read the header and the tensors of a file that `write_tensors` wrote.

    Raises:
        ProbeError: the file is missing, damaged, or of another kind.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise ProbeError(f"There is no {kind} at {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[f"coralbay.{kind}"])
            # Copies, because the file may be replaced while they are in use.
            return header, {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ProbeError(f"{path.name} is no {kind}, or a damaged one ({error}). Make it again.") from error


def encode_tensors(kind: str, header: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> bytes:
    """The content of the file that `write_tensors` writes."""
    from safetensors.torch import save

    metadata = {f"coralbay.{kind}": json.dumps(dict(header))}
    return save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata=metadata)


def decode_tensors(data: bytes, kind: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The header and the tensors that `encode_tensors` encoded.

    Raises:
        ProbeError: the data are damaged, or of another kind.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        length = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + length])["__metadata__"]
        return json.loads(metadata[f"coralbay.{kind}"]), load(data)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ProbeError(f"The data are no {kind}, or are damaged ({error}).") from error
