"""Reads the tensors of checkpoints, with errors that say what is wrong with a file."""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from CoralBayLib.core.errors import MemoryLimitError, Remedy, WeightsError

_TORCH = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""First bytes of files of torch.save: a zip archive, or a pickle in the old format."""

_LONGEST_HEADER = 100_000_000
"""Maximum length in bytes of the header of a safetensors file; its readers refuse longer headers."""

_LISTED = 12

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Types of floating-point numbers that are read; those of 8 bits need a scale that the file does not tell."""


def read_checkpoint(path: Path, below: Sequence[str] = ()) -> dict[str, torch.Tensor]:
    """Read the tensors of a checkpoint to the CPU.

    The file is a safetensors file or a file of torch.save; its content decides, not its name. Files of torch.save are
    pickles, but torch's restricted reader runs no code.

    Args:
        path: the file.
        below: nested keys under which a file of torch.save holds the tensors. In a safetensors file, which has no nested
            keys, they may be a prefix of the keys.

    Returns:
        Tensors by key.

    Raises:
        WeightsError: the file is missing, truncated, damaged, of another format, or holds more than tensors.
    """
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise WeightsError(
            f"Cannot read the weights file '{path.name}': {error.strerror or error}. Check that the file is there."
        ) from error
    # Checked first, since the length at the beginning may look like a pickle.
    if _is_safetensors(start):
        return _require_plain(_read_safetensors(path), path)
    if start.startswith(_TORCH):
        return _require_plain(_tensors_in(_read_torch(path), below, path), path)
    raise WeightsError(f"'{path.name}' is neither a safetensors file nor a PyTorch checkpoint: {_diagnosis(start)}.")


def declared_encoder(path: Path) -> str | None:
    """The encoder that weights trained with CoralBay are for, as their metadata says; None for files that do not say it.

    Args:
        path: a file that `read_checkpoint` has read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
        trained = json.loads(metadata.get("coralbay.pretrain", "{}"))
        return str(metadata.get("model") or trained["settings"]["form"])
    except (SafetensorError, ValueError, LookupError, TypeError, RecursionError):
        return None


def _is_safetensors(start: bytes) -> bool:
    """Whether a file begins with the length of a JSON header and the header."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= _LONGEST_HEADER


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except MemoryError as error:
        raise _too_little_memory(path) from error
    except (SafetensorError, OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"'{path.name}' is not a usable safetensors file: it is truncated or damaged (it has {path.stat().st_size} "
            f"bytes); download it again ({error})."
        ) from error


def _read_torch(path: Path) -> Any:
    if other := _other_archive(path):
        raise WeightsError(f"'{path.name}' is not a checkpoint: {other}.")
    _require_checksums(path)
    try:
        # A file object, since torch interprets the suffix of a path.
        with path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except MemoryError as error:
        raise _too_little_memory(path) from error
    except Exception as error:  # torch documents no error types, and damaged files raise many
        if "allocate memory" in str(error):
            raise _too_little_memory(path) from error
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        if refused:
            raise WeightsError(
                f"'{path.name}' is refused: it holds more than tensors ({refused[1]}), which could run code when opened. "
                "Use the file that the authors published, or save only its tensors to a new file."
            ) from error
        raise WeightsError(
            f"'{path.name}' is truncated or damaged, or holds more than tensors (it has {path.stat().st_size} bytes); "
            "download it again."
        ) from error


def _other_archive(path: Path) -> str:
    """What an intact zip archive is, when torch.save did not write it; "" otherwise."""
    try:
        with zipfile.ZipFile(path) as archive:
            inner = {name.partition("/")[2] for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError):
        return ""
    if {"data.pkl", "constants.pkl"} <= inner:
        return "it is a TorchScript program, which contains code; use a file that holds only its tensors"
    if "data.pkl" in inner:
        return ""
    return "it is a zip archive of something else; if it is a bundle of weights, import it"


def _require_checksums(path: Path) -> None:
    """Compare the CRC-32 of each member of a zip archive, which torch.load does not.

    A file that was saved with `torch.serialization.set_crc32_options(False)` has only zeros in their place.

    Raises:
        WeightsError: one is wrong, or a member cannot be read.
    """
    if not zipfile.is_zipfile(path):
        return  # of the old format, which has no checksums
    try:
        with zipfile.ZipFile(path) as archive:
            part = archive.testzip() if any(info.CRC for info in archive.infolist()) else None
        fault = part and f"the checksum of its part '{part}' is wrong"
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        fault = str(error)
    if fault:
        raise WeightsError(f"'{path.name}' is truncated or damaged ({fault}); download it again.")


def _tensors_in(content: Any, below: Sequence[str], path: Path) -> dict[str, torch.Tensor]:
    """The tensors by key that a checkpoint holds under the nested keys `below`.

    Raises:
        WeightsError: a key is missing, or its content is not only tensors.
    """
    for name in below:
        if not isinstance(content, Mapping) or name not in content:
            found = ", ".join(sorted(map(str, content))[:4]) if isinstance(content, Mapping) else type(content).__name__
            raise WeightsError(
                f"Expected '{path.name}' to hold its weights under '{name}', got {found or 'nothing'}. "
                "This file belongs to another network, or to another stage of training."
            )
        content = content[name]
    if not isinstance(content, Mapping) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in content.items()
    ):
        where = f" under '{'.'.join(below)}'" if below else ""
        raise WeightsError(f"Expected '{path.name}' to hold tensors by name and nothing else{where}. Use the published file.")
    return dict(content)


def _too_little_memory(path: Path) -> MemoryLimitError:
    return MemoryLimitError(f"There is too little memory to read '{path.name}'.", remedy=Remedy.FREE_MEMORY)


def _require_plain(tensors: dict[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    """The tensors, if each is an array in memory with all of its values, of a type that networks are run with.

    Raises:
        WeightsError: some are sparse, quantized, without values, or of another type.
    """
    faults: dict[str, list[str]] = {}
    for key, tensor in tensors.items():
        if fault := _fault(tensor):
            faults.setdefault(fault, []).append(key)
    if faults:
        listed = "; ".join(f"{len(keys)} {fault}: {list_keys(keys)}" for fault, keys in faults.items())
        raise WeightsError(
            f"'{path.name}' holds tensors that cannot be used: {listed}. Use the published file, or save its tensors in full "
            "as floating-point numbers."
        )
    return tensors


def _fault(tensor: torch.Tensor) -> str:
    if tensor.is_quantized:
        return "quantized"
    if tensor.layout != torch.strided or tensor.is_nested:
        return "sparse or nested"
    if tensor.device.type != "cpu":
        return "without values"
    if tensor.is_floating_point() and tensor.dtype not in _FLOATS:
        return f"of the type {str(tensor.dtype).removeprefix('torch.')}"
    if tensor.is_complex():
        return "of complex numbers"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return "larger than their data"
    return ""


def _diagnosis(start: bytes) -> str:
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the weights; run 'git lfs pull' or download the file itself"
    if start.lstrip()[:1] == b"<":
        return "it is a web page, not the weights; download the file itself"
    return "it is empty, damaged or of another format; download it again"


def list_keys(keys: list[str]) -> str:
    """The first keys in alphabetical order, and how many more there are."""
    keys = sorted(keys)
    more = f" and {len(keys) - _LISTED} more" if len(keys) > _LISTED else ""
    return ", ".join(keys[:_LISTED]) + more
