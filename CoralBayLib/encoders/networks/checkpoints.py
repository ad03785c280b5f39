"""Reading checkpoints and loading them strictly, with errors that name each key."""

from __future__ import annotations

import logging
import pickle  # its errors; nothing is unpickled but by torch's restricted reader
import re
import zipfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from CoralBayLib.core.errors import WeightsError

logger = logging.getLogger(__name__)

PREFIXES = ("encoder", "model", "backbone", "module", "teacher")
"""Wrappers under which training frameworks store an encoder, alone or in any chain."""

_BESIDE = re.compile(r"(heads?|.*_head|decoder\d*|student|out|projector|predictor|classifier|loss|criterion|queue)(\.|$)")
"""First parts of keys of what is trained beside an encoder and not needed to run it."""

_TORCH = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""How files of torch.save begin: a zip archive, or in its old format a pickle."""

_LONGEST_HEADER = 100_000_000
"""Of a safetensors file, in bytes; its readers refuse longer ones."""

_COUNTER = "num_batches_tracked"

_LISTED = 12


def read_checkpoint(path: Path, below: Sequence[str] = ()) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint by key, on the CPU: of a safetensors file or of one written by torch.save, which is
    told by what the file holds and not by its name.

    A file of torch.save is a pickle, but torch's restricted reader runs no code.

    Args:
        path: of the file.
        below: names under which a file of torch.save holds the tensors, one inside the other. In a safetensors file,
            which has no such order, they are a prefix of the keys, if anything.

    Raises:
        WeightsError: the file is missing, truncated, damaged, of another format, or holds more than tensors.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(64)
    except OSError as error:
        raise WeightsError(
            f"Cannot read the weights file '{path.name}': {error.strerror or error}. Check that the file is there."
        ) from error
    # First, since a length may begin like a pickle.
    if _is_safetensors(start):
        return _read_safetensors(path)
    if start.startswith(_TORCH):
        return _tensors_in(_read_torch(path), below, path)
    raise WeightsError(f"'{path.name}' is neither a safetensors file nor a checkpoint of PyTorch: {_diagnosis(start)}.")


def _is_safetensors(start: bytes) -> bool:
    """Whether a file begins with a length and a header of JSON."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= _LONGEST_HEADER


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError) as error:
        raise WeightsError(
            f"'{path.name}' is not a usable safetensors file: it is truncated or damaged (it holds {path.stat().st_size} "
            f"bytes); download it again ({error})."
        ) from error


def _read_torch(path: Path) -> Any:
    if other := _other_archive(path):
        raise WeightsError(f"'{path.name}' is no checkpoint: {other}.")
    try:
        # Given a path, torch goes by its suffix.
        with open(path, "rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        more = re.search(r"GLOBAL ([\w.]+)", str(error))
        if more is None:
            raise WeightsError(
                f"'{path.name}' is damaged or holds more than tensors, and is refused; download it again."
            ) from error
        raise WeightsError(
            f"'{path.name}' is refused: it holds more than tensors ({more[1]}), which could run code when opened. "
            "Use the file that the authors published, or save its tensors alone to a new one."
        ) from error
    except (RuntimeError, OSError, EOFError, KeyError, ValueError) as error:
        raise WeightsError(
            f"'{path.name}' is truncated or damaged (it holds {path.stat().st_size} bytes); download it again."
        ) from error


def _other_archive(path: Path) -> str:
    """What a whole zip archive is that torch.save did not write; "" where it did, or the archive is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            inner = {name.partition("/")[2] for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError):
        return ""
    if {"data.pkl", "constants.pkl"} <= inner:
        return "it is a TorchScript program, which holds code; get the file of its tensors"
    if "data.pkl" in inner:
        return ""
    return "it is a zip archive of something else; a bundle of weights is taken with 'coralbay weights import'"


def _tensors_in(content: Any, below: Sequence[str], path: Path) -> dict[str, torch.Tensor]:
    """The tensors by key that a checkpoint holds under the names in `below`, one inside the other.

    Raises:
        WeightsError: a name is not there, or holds anything but tensors.
    """
    for name in below:
        if not isinstance(content, Mapping) or name not in content:
            there = ", ".join(sorted(map(str, content))[:4]) if isinstance(content, Mapping) else type(content).__name__
            raise WeightsError(
                f"Expected '{path.name}' to hold its weights under '{name}', got {there or 'nothing'}. "
                "This file belongs to another network, or to another stage of its training."
            )
        content = content[name]
    if not isinstance(content, Mapping) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in content.items()
    ):
        where = f" under '{'.'.join(below)}'" if below else ""
        raise WeightsError(f"Expected '{path.name}' to hold tensors by name and nothing else{where}. Use the published file.")
    return dict(content)


def _diagnosis(start: bytes) -> str:
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the weights; run 'git lfs pull' or download the file itself"
    if start.lstrip()[:1] == b"<":
        return "it is a web page, not the weights; download the file itself"
    return "it is empty, damaged or of another format; download it again"


def encoder_tree(tensors: Mapping[str, torch.Tensor], marker: str, roots: Collection[str]) -> dict[str, torch.Tensor]:
    """The encoder's own tensors of a checkpoint, without the prefix they are stored under.

    Keys of what is trained beside an encoder (heads, decoders, a student) are logged and left out.

    Args:
        tensors: the checkpoint.
        marker: a key that every encoder of the family holds; whatever stands before it is the prefix.
        roots: first parts of the keys of the encoder.

    Returns:
        Tensors by unprefixed key, unexpected ones among them: `load_strictly` reports those.

    Raises:
        WeightsError: no encoder is in the file, or more than one.
    """
    wrapped = re.compile(rf"((?:(?:{'|'.join(PREFIXES)})\.)*){re.escape(marker)}")
    prefixes = [match[1] for match in map(wrapped.fullmatch, tensors) if match]
    if not prefixes:
        some = ", ".join(sorted(tensors)[:4]) or "none"
        raise WeightsError(
            f"Expected a checkpoint with the key '{marker}' (after any of the prefixes "
            f"{', '.join(p + '.' for p in PREFIXES)}), got {len(tensors)} other keys ({some}, ...). "
            "This file belongs to another network; choose the encoder it was made for, or its own weights file."
        )
    if len(prefixes) > 1:
        raise WeightsError(
            f"Expected one encoder in the checkpoint, got {len(prefixes)}, under "
            f"{', '.join(repr(p) for p in sorted(prefixes))}. Save the one to use to a file of its own."
        )
    prefix = prefixes[0]
    tree: dict[str, torch.Tensor] = {}
    ignored = []
    for key, tensor in tensors.items():
        inner = key.removeprefix(prefix)
        inside = key.startswith(prefix) and not _BESIDE.match(inner)
        # A key outside the prefix that is still of the encoder means a checkpoint that is not what it seems.
        if inside or key.split(".")[0] in roots:
            tree[inner] = tensor
        else:
            ignored.append(key)
    if ignored:
        logger.warning("Ignored %d keys that are not the encoder's: %s", len(ignored), _some(ignored))
    return tree


def load_strictly(network: nn.Module, tree: Mapping[str, torch.Tensor], title: str) -> None:
    """Copy the tensors into the network; it must want exactly these.

    Floating-point tensors may be of any precision. Integer buffers are constants of the architecture and must equal
    the network's own, but for counters of training steps, which mean nothing here.

    Raises:
        WeightsError: keys are missing, unexpected, of another shape or type, or hold values that are not finite.
    """
    wanted = network.state_dict()
    shared = [key for key in wanted if key in tree]
    problems = {
        "missing": [key for key in wanted if key not in tree],
        "unexpected": [key for key in tree if key not in wanted],
        "of another shape": [
            f"{key} (expected {tuple(wanted[key].shape)}, got {tuple(tree[key].shape)})"
            for key in shared
            if wanted[key].shape != tree[key].shape
        ],
        "not finite": [key for key in shared if tree[key].is_floating_point() and not tree[key].isfinite().all()],
        "not the architecture's constants": [
            key
            for key in shared
            if not wanted[key].is_floating_point()
            and not key.endswith(_COUNTER)
            and wanted[key].shape == tree[key].shape
            and not torch.equal(wanted[key].cpu(), tree[key].to(wanted[key].dtype))
        ],
    }
    told = [f"{len(keys)} {what}: {_some(keys)}" for what, keys in problems.items() if keys]
    if told:
        raise WeightsError(
            f"The checkpoint does not fit {title}. Keys {'; '.join(told)}. "
            "Nothing was loaded; use the weights published for this encoder."
        )
    network.load_state_dict(dict(tree), strict=True)


def _some(keys: list[str]) -> str:
    """The keys in order, all of them as long as a person would read them."""
    keys = sorted(keys)
    more = f" and {len(keys) - _LISTED} more" if len(keys) > _LISTED else ""
    return ", ".join(keys[:_LISTED]) + more
