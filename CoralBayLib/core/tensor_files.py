"""Small results on disk: safetensors with a JSON header, never pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from .errors import ProbeError
from .paths import atomic_write


def write_tensors(path: str | os.PathLike, kind: str, header: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
    """Write tensors and what they mean to one file, whole or not at all.

    Args:
        path: where to; replaced.
        kind: what the file holds, in one word; only a reader that asks for it gets it.
        header: anything JSON can say.
        tensors: by name.

    Raises:
        StoreError: the file could not be written; whatever stood there before is untouched.
    """
    metadata = {f"coralbay.{kind}": json.dumps(dict(header))}
    data = save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata=metadata)
    # Written by safetensors itself, a file could be read by its owner only, and a full disk would be an error of its own.
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


def read_tensors(path: str | os.PathLike, kind: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The header and the tensors that `write_tensors` wrote.

    Raises:
        ProbeError: the file is missing, damaged, or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise ProbeError(f"There is no {kind} at {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[f"coralbay.{kind}"])
            # Copies: the file may be written again while they are in use.
            return header, {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ProbeError(f"{path.name} is no {kind}, or a damaged one ({error}). Make it again.") from error
