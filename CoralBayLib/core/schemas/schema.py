"""What a kind of file must hold: fields of its header, tensors, types, shapes and ranges."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .checks import Check

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Array:
    """What one tensor must be.

    Attributes:
        dtype: its type by torch's name.
        shape: its length along each axis: a number, or a name that stands for the same length wherever it occurs.
        low, high: smallest and largest value allowed; floating-point values must be finite in any case.
        optional: whether it may be missing, as in files of older versions.
    """

    dtype: str
    shape: tuple[int | str, ...]
    low: float = -math.inf
    high: float = math.inf
    optional: bool = False


@dataclass(frozen=True)
class Schema:
    """What a kind of file must hold.

    Attributes:
        header: a check for each field that must be there.
        tensors: by name; "*" stands for any text without a dot, and axes of such tensors are named for each text anew.
        optional_header: a check for each field that may be missing.
        sizes: largest length of axes, by name.
    """

    header: Mapping[str, Check]
    tensors: Mapping[str, Array]
    optional_header: Mapping[str, Check] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)

    def check(self, header: Any, tensors: Mapping[str, torch.Tensor], **lengths: int) -> None:
        """Compare a file with the schema.

        Args:
            header: of the file.
            tensors: of the file.
            lengths: lengths of axes that are known beforehand, by name.

        Raises:
            ValueError: they differ; says where.
        """
        self.check_header(header)
        known: dict[str, int] = dict(lengths)
        for name in sorted(tensors):
            part, spec = self._spec(name)
            _check_tensor(name, tensors[name], spec, known, part)
        for axis, most in self.sizes.items():
            if not 1 <= known.get(axis, 1) <= most:
                raise ValueError(f"{known[axis]} {axis}, expected 1 to {most}")
        missing = [name for name, spec in self.tensors.items() if not spec.optional and "*" not in name and name not in tensors]
        if missing:
            raise ValueError(f"lacks {', '.join(missing)}")

    def check_header(self, header: Any) -> None:
        """The part of `check` that needs no tensors."""
        if not isinstance(header, dict):
            raise ValueError("the header is not an object")
        for name, check in {**self.header, **self.optional_header}.items():
            if name not in header:
                if name in self.optional_header:
                    continue
                raise ValueError(f"lacks '{name}'")
            if not check(header[name]):
                raise ValueError(f"'{name}' is damaged: {str(header[name])[:40]!r}")

    def _spec(self, name: str) -> tuple[str, Array]:
        if name in self.tensors:
            return "", self.tensors[name]
        for pattern, spec in self.tensors.items():
            found = re.fullmatch(re.escape(pattern).replace(r"\*", "(.+)"), name) if "*" in pattern else None
            if found:
                return found[1] + ".", spec
        raise ValueError(f"holds an unknown tensor '{name[:40]}'")


def _check_tensor(name: str, tensor: torch.Tensor, spec: Array, known: dict[str, int], part: str) -> None:
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype != spec.dtype:
        raise ValueError(f"{name} is of type {dtype}, expected {spec.dtype}")
    if tensor.dim() != len(spec.shape):
        raise ValueError(f"{name} has {tensor.dim()} axes, expected {len(spec.shape)}")
    for length, axis in zip(tensor.shape, spec.shape, strict=True):
        expected = axis if isinstance(axis, int) else known.setdefault(f"{part}{axis}", length)
        if length != expected:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, which does not fit the rest ({axis}: {expected})")
    if not tensor.numel():
        return
    if tensor.is_floating_point() and not tensor.isfinite().all():
        raise ValueError(f"{name} holds values that are not finite")
    if spec.low > -math.inf or spec.high < math.inf:
        low, high = (float(bound) for bound in tensor.aminmax())
        if low < spec.low or high > spec.high:
            raise ValueError(f"{name} holds values from {low:g} to {high:g}, expected {spec.low:g} to {spec.high:g}")
