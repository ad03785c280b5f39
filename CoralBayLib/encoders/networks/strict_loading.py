"""Takes an encoder out of a checkpoint and loads it strictly, with errors that name the keys."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from CoralBayLib.core.errors import MemoryLimitError, Remedy, WeightsError

from .checkpoints import list_keys

logger = logging.getLogger(__name__)

_Network = TypeVar("_Network", bound=nn.Module)

PREFIXES = ("encoder", "model", "backbone", "module", "teacher")
"""Key prefixes under which training frameworks store an encoder; several may be chained."""

_BESIDE = re.compile(r"(heads?|.*_head|decoder\d*|student|out|projector|predictor|classifier|loss|criterion|queue)(\.|$)")
"""First parts of the keys of modules that are trained together with an encoder and are not needed to run it."""

_COUNTER = "num_batches_tracked"

_FACTORIES = {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn}

_INITIALIZERS = {getattr(torch.Tensor, name) for name in ("uniform_", "normal_", "erfinv_", "mul_", "add_", "clamp_")}
"""Steps that draw initial weights. For tensors without values PyTorch imports its compiler for some of them, which takes
seconds, so they are left out there."""


def encoder_tree(tensors: Mapping[str, torch.Tensor], marker: str, roots: Collection[str]) -> dict[str, torch.Tensor]:
    """Select the tensors of the encoder in a checkpoint, and remove the prefix of their keys.

    Keys of modules that are trained together with an encoder (heads, decoders, a student) are logged and left out.

    Args:
        tensors: the checkpoint.
        marker: a key that every encoder of the family has; the part before it is the prefix.
        roots: first parts of the keys of the encoder.

    Returns:
        Tensors by key without prefix. Unexpected keys are included; `load_strictly` reports them.

    Raises:
        WeightsError: the file holds no encoder, or more than one.
    """
    wrapped = re.compile(rf"((?:(?:{'|'.join(PREFIXES)})\.)*){re.escape(marker)}")
    prefixes = [match[1] for match in map(wrapped.fullmatch, tensors) if match]
    if not prefixes:
        some = ", ".join(sorted(tensors)[:4]) or "none"
        raise WeightsError(
            "This file belongs to another network; choose the encoder of this file, or the weights file of this encoder. "
            f"Expected the key '{marker}' (after any of the prefixes {', '.join(p + '.' for p in PREFIXES)}), got "
            f"{len(tensors)} other keys ({some}, ...)."
        )
    if len(prefixes) > 1:
        raise WeightsError(
            f"Expected one encoder in the checkpoint, got {len(prefixes)}, under "
            f"{', '.join(repr(p) for p in sorted(prefixes))}. Save the one to use to a separate file."
        )
    prefix = prefixes[0]
    tree: dict[str, torch.Tensor] = {}
    ignored = []
    for key, tensor in tensors.items():
        inner = key.removeprefix(prefix)
        inside = key.startswith(prefix) and not _BESIDE.match(inner)
        # Keys of the encoder outside the prefix are kept, so that loading fails: the checkpoint is not as expected.
        if inside or key.split(".")[0] in roots:
            tree[inner] = tensor
        else:
            ignored.append(key)
    if ignored:
        logger.warning("Ignored %d keys that do not belong to the encoder: %s", len(ignored), list_keys(ignored))
    return tree


def build_strictly(make: Callable[[], _Network], tree: Mapping[str, torch.Tensor], title: str) -> _Network:
    """Build a network of a checkpoint's size with its weights; its shapes are compared before any memory is taken.

    Args:
        make: builds the network.
        tree: tensors by key.
        title: name of the network, for the error message.

    Raises:
        WeightsError: see `load_strictly`; or there is no network of this size.
        MemoryLimitError: there is too little memory for it.
    """
    try:
        with _ShapesOnly():
            expected = make().state_dict()
    except (ValueError, ArithmeticError, LookupError, TypeError, RuntimeError, AssertionError) as error:
        raise WeightsError(f"The checkpoint does not fit {title}: there is no network of its size ({error}).") from error
    _raise_problems(_key_problems(expected, tree), title)
    try:
        network = make()
    except MemoryError as error:
        raise MemoryLimitError(f"There is too little memory for {title}.", remedy=Remedy.FREE_MEMORY) from error
    load_strictly(network, tree, title)
    return network


class _ShapesOnly(TorchFunctionMode):
    """Weights made in this block have a shape and a type, but no values and no memory."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in _FACTORIES and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        if func in _INITIALIZERS and args[0].is_meta:
            return args[0]
        return func(*args, **kwargs)


def load_strictly(network: nn.Module, tree: Mapping[str, torch.Tensor], title: str) -> None:
    """Copy the tensors into the network, whose keys they must match exactly.

    Floating-point tensors may have any precision. Integer buffers are constants of the architecture and must equal those
    of the network, except counters of training steps, which are not used.

    Args:
        network: the network.
        tree: tensors by key.
        title: name of the network, for the error message.

    Raises:
        WeightsError: keys are missing, unexpected or of another shape, integer buffers differ, or values are not finite.
    """
    expected = network.state_dict()
    shared = [key for key in expected if key in tree]
    problems = _key_problems(expected, tree) | {
        "not finite": [key for key in shared if tree[key].is_floating_point() and not tree[key].isfinite().all()],
        "not the architecture's constants": [
            key
            for key in shared
            if not expected[key].is_floating_point()
            and not key.endswith(_COUNTER)
            and expected[key].shape == tree[key].shape
            and not torch.equal(expected[key].cpu(), tree[key].to(expected[key].dtype))
        ],
    }
    _raise_problems(problems, title)
    network.load_state_dict(dict(tree), strict=True)


def _key_problems(expected: Mapping[str, torch.Tensor], tree: Mapping[str, torch.Tensor]) -> dict[str, list[str]]:
    """Keys of a checkpoint that do not fit those of a network, by what is wrong with them; no values are compared."""
    shared = [key for key in expected if key in tree]
    return {
        "missing": [key for key in expected if key not in tree],
        "unexpected": [key for key in tree if key not in expected],
        "of another shape": [
            f"{key} (expected {tuple(expected[key].shape)}, got {tuple(tree[key].shape)})"
            for key in shared
            if expected[key].shape != tree[key].shape
        ],
        "not floating-point numbers": [
            f"{key} ({str(tree[key].dtype).removeprefix('torch.')})"
            for key in shared
            if expected[key].is_floating_point() and not tree[key].is_floating_point()
        ],
    }


def _raise_problems(problems: Mapping[str, list[str]], title: str) -> None:
    faults = [f"{len(keys)} {what}: {list_keys(keys)}" for what, keys in problems.items() if keys]
    if faults:
        raise WeightsError(
            f"The checkpoint does not fit {title}. Keys {'; '.join(faults)}. "
            "Nothing was loaded; use the weights published for this encoder."
        )
