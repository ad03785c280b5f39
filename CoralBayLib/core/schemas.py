"""What the files that CoralBay writes must hold: header fields, tensors, types, shapes and ranges, one schema a kind."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

MAX_LABEL = 65535
"""The largest label of a structure: labelmaps are written as 16-bit numbers."""

Check = Callable[[Any], bool]
"""Whether a value of a header is as it must be."""


def text(value: Any) -> bool:
    """A string."""
    return isinstance(value, str)


def number(value: Any) -> bool:
    """A finite number."""
    return type(value) in (int, float) and abs(value) < 1e300


def positive(value: Any) -> bool:
    """A finite number above zero."""
    return number(value) and value > 0


def whole(low: int, high: int = 2**31) -> Check:
    """A whole number in a range, both ends included."""
    return lambda value: type(value) is int and low <= value <= high


def hexadecimal(digits: int) -> Check:
    """Lower-case hexadecimal digits."""
    return lambda value: isinstance(value, str) and re.fullmatch(f"[0-9a-f]{{{digits}}}", value) is not None


def one_of(*values: Any) -> Check:
    """One of some values."""
    return lambda value: any(type(value) is type(each) and value == each for each in values)


def list_of(item: Check, unique: bool = False, least: int = 0) -> Check:
    """A list of like items."""
    return lambda value: (
        isinstance(value, list)
        and len(value) >= least
        and all(map(item, value))
        and (not unique or len(set(value)) == len(value))
    )


def tuple_of(*items: Check) -> Check:
    """A list of given length, with a check for each item."""
    return lambda value: (
        isinstance(value, list) and len(value) == len(items) and all(check(v) for check, v in zip(items, value, strict=True))
    )


def record(**fields: Check) -> Check:
    """An object with these fields, and perhaps others."""
    return lambda value: isinstance(value, dict) and all(name in value and check(value[name]) for name, check in fields.items())


def names_by_label(value: Any) -> bool:
    """An object with a name for each label; JSON has the labels as strings."""
    return isinstance(value, dict) and all(
        re.fullmatch("[0-9]{1,5}", key) and 1 <= int(key) <= MAX_LABEL and text(name) and name.strip()
        for key, name in value.items()
    )


_finite_matrix = list_of(list_of(number))
grid = record(shape=tuple_of(*[whole(1, 2**20)] * 3), ijk_to_ras=_finite_matrix)
"""A grid as the store writes it; `Grid` checks the rest."""


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
            raise ValueError("the header is no object")
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


_LABEL = whole(1, MAX_LABEL)
_MEMORY = {
    "points_ras": Array("float32", ("samples", 3)),
    "labels": Array("int64", ("samples",), 0, MAX_LABEL),
    "body": Array("bool", ("samples",)),
    "share": Array("float32", ("samples",), low=0),
    "vectors": Array("float16", ("samples", "components")),
    "tissue": Array("float16", ("samples", "tissue")),
    "projection": Array("float32", ("components", "channels")),
    "offset": Array("float32", ("components",)),
    "shared": Array("bool", ()),
}

PROBE = Schema(
    header={
        "format": whole(1),
        "labels": list_of(_LABEL, unique=True, least=1),
        "names": names_by_label,
        "signature": text,
        "parameters": record(C=positive, weak_negatives=whole(0), max_per_label=whole(1)),
    },
    optional_header={"scan": text, "scattered": list_of(_LABEL, unique=True)},
    tensors={
        "weights": Array("float32", ("structures", "channels")),
        "image_weights": Array("float32", ("structures", "image_channels")),
        "intercept": Array("float32", ("structures",)),
        "points": Array("float64", ("prompts", 3), optional=True),
        "told": Array("int64", ("prompts",), 0, MAX_LABEL, optional=True),
        **{f"memory.{name}": Array(a.dtype, a.shape, a.low, a.high, optional=True) for name, a in _MEMORY.items()},
    },
)
"""A few-shot probe, see `fewshot.probe`."""

_PATIENT = {
    "points_ras": Array("float32", ("samples", 3)),
    "labels": Array("int32", ("samples",), 0, MAX_LABEL),
    "volume_mm3": Array("float32", ("samples",), low=0),
    "vectors": Array("float16", ("samples", "its components")),
    "hu_index": Array("int16", ("samples", 2), 0, 4095),
    "mean": Array("float32", ("its components",)),
    "spread": Array("float32", ("its components",), low=1e-6),
    "voxels": Array("int32", ("voxels",), low=0),
    "voxel_labels": Array("int32", ("voxels",), 0, MAX_LABEL),
    "voxel_shares": Array("uint8", ("voxels",)),
    "image": Array("uint8", ("k", "j", "i")),
    "displacement": Array("float16", (3, "nodes k", "nodes j", "nodes i")),
    "origin_ras": Array("float32", (3,)),
}
_THREE = tuple_of(number, number, number)
PATIENTS_PROBE = Schema(
    header={
        "format": whole(1),
        "signature": text,
        "parameters": record(C=positive, weak_negatives=whole(0), max_per_label=whole(1)),
        "shared": one_of(True, False),
        "patients": list_of(
            record(key=text, names=names_by_label, about=lambda value: isinstance(value, dict), ijk_to_ras=_finite_matrix),
            least=1,
        ),
        "alignments": list_of(record(scale=tuple_of(positive, positive, positive), shift=_THREE, step_mm=positive), least=1),
    },
    tensors={
        "projection": Array("float32", ("components", "channels")),
        "offset": Array("float32", ("components",)),
        **{f"patient.*.{name}": array for name, array in _PATIENT.items()},
        **{
            f"network.*.{n}.{name}": Array("float32", axes[: 2 if name == "weight" else 1])
            for n, axes in enumerate((("hidden", "inputs"), ("hidden 2", "hidden"), ("classes", "hidden 2")))
            for name in ("weight", "bias")
        },
    },
)
"""A probe of several patients, see `fewshot.patients`."""

SCAN_PROBE = Schema(
    header={
        "format": whole(1),
        "task": text,
        "target": text,
        "classes": list_of(text, unique=True),
        "strength": positive,
        "signature": text,
        "pooled": list_of(tuple_of(text, whole(1))),
    },
    tensors={
        "weights": Array("float64", ("outputs", "length")),
        "bias": Array("float64", ("outputs",)),
        "mean": Array("float64", ("length",)),
    },
)
"""A probe on whole scans, see `scan_probes.model`."""

ATTENTIVE_PROBE = Schema(
    header={
        "format": whole(1),
        "task": text,
        "target": text,
        "classes": list_of(text, unique=True),
        "signature": text,
        "levels": list_of(tuple_of(text, whole(1)), least=1),
    },
    tensors={
        "bias": Array("float32", ("outputs",)),
        "level.*.keys": Array("float32", ("queries", "channels")),
        "level.*.key_bias": Array("float32", ("queries",)),
        "level.*.values": Array("float32", ("outputs", "queries", "channels")),
        "level.*.value_bias": Array("float32", ("outputs", "queries")),
    },
)
"""An attentive probe on whole scans, see `scan_probes.probes.attentive`."""

PROJECTION = Schema(
    header={"signature": text},
    tensors={"weights": Array("float32", ("rows", "channels")), "bias": Array("float32", ("rows",))},
    sizes={"rows": 64},
)
"""Colors or clusters of features, see `similarity.feature_maps`."""

SHARED_BASIS = Schema(
    header={"signature": text, "scans": list_of(text)},
    tensors={"projection": Array("float16", ("components", "channels")), "offset": Array("float16", ("components",))},
)
"""A basis that all scans of an encoder share, see `features.shared_basis`."""

LIBRARY_BASIS = Schema(
    header={
        "identity": record(encoder=text),
        "signature": text,
        "levels": list_of(text, unique=True, least=1),
        "scans": whole(1),
    },
    tensors={
        "projection": Array("float32", ("components", "channels")),
        "offset": Array("float32", ("components",)),
        "copy": Array("uint8", ("copy bytes",), optional=True),
    },
)
"""The basis of a library of scans, see `library.basis`."""

LIBRARY_REPORTS = Schema(
    header={
        "format": one_of(1),
        "crc32": text,
        "reports": lambda value: isinstance(value, dict) and all(text(key) and text(each) for key, each in value.items()),
    },
    tensors={},
)
"""The reports of a library of scans, JSON, see `library.reports`."""

_BASIS = {
    "projection": Array("float32", ("components", "channels")),
    "offset": Array("float32", ("components",)),
    "points_ras": Array("float64", ("examples", 3)),
    "vectors": Array("float32", ("examples", "components")),
}
STORE_ENTRY = Schema(
    header={
        "format": whole(1),
        "key": text,
        "identity": record(encoder=text),
        "grid": grid,
        "source_grid": grid,
        "levels": list_of(record(name=text, grid=grid), least=1),
        "crc32": lambda value: isinstance(value, dict),
    },
    tensors={
        "image": Array("uint8", ("image bytes",)),
        "body": Array("uint8", ("body bytes",)),
        "scan_embedding": Array("float32", ("embedding",), optional=True),
        **{f"level.*.{name}": Array("uint8", (f"{name} bytes",)) for name in ("kept", "steps")},
        **{f"level.*.{name}": Array("float32", ("channels",)) for name in ("centre", "scale", "elsewhere")},
        **{f"basis.{name}": Array(a.dtype, a.shape) for name, a in _BASIS.items()},
        **{
            f"similarity.{name}": Array(a.dtype, tuple(n if isinstance(n, int) else f"similar {n}" for n in a.shape))
            for name, a in _BASIS.items()
        },
    },
)
"""The features of a scan, see `features.store`."""

CLICK_NETWORKS = Schema(
    header={"scans": list_of(text)},
    tensors={
        **{f"voxels.{n}.weight": Array("float32", (f"voxels{n + 1}", f"voxels{n}")) for n in range(3)},
        **{f"voxels.{n}.bias": Array("float32", (f"voxels{n + 1}",)) for n in range(3)},
        **{f"regions.*.{n}.weight": Array("float32", (f"regions{n + 1}", f"regions{n}")) for n in range(3)},
        **{f"regions.*.{n}.bias": Array("float32", (f"regions{n + 1}",)) for n in range(3)},
    },
)
"""The networks of clicks, see `fewshot.clicks.networks`."""

LANDMARKS = Schema(
    header={
        "format": one_of(1),
        "signature": text,
        "names": list_of(text, unique=True, least=1),
        "bodies": list_of(whole(1), least=1),
        "rows": list_of(tuple_of(whole(0), whole(0)), least=1),
        "errors_mm": list_of(list_of(number)),
    },
    tensors={
        "projection": Array("float32", ("components", "channels")),
        "offset": Array("float32", ("components",)),
        "body_points": Array("float64", ("body points", 3)),
        "body_vectors": Array("float16", ("body points", "components")),
        "positions": Array("float64", ("rows", 3)),
        "appearance": Array("float16", ("rows", 125, "components")),
        "texture": Array("float16", ("rows", 12, 13, 13, 13), low=0, high=1),
    },
)
"""Landmarks, see `similarity.landmarks`."""


BOX_NETWORKS = Schema(
    header={"scans": list_of(text)},
    tensors={
        **{f"boxes.*.{n}.weight": Array("float32", (f"boxes{n + 1}", f"boxes{n}")) for n in range(3)},
        **{f"boxes.*.{n}.bias": Array("float32", (f"boxes{n + 1}",)) for n in range(3)},
    },
)
"""The networks of boxes, see `fewshot.clicks.networks`."""

SERVER_JOB = Schema(
    header={
        "versions": record(protocol=whole(1), features=whole(1), working=whole(1), store=whole(1)),
        "key": hexadecimal(64),
        "encoder": text,
        "setting": text,
        "weights": text,
        "levels": list_of(text, unique=True, least=1),
        "shape": tuple_of(*[whole(2, 2**14)] * 3),
        "ijk_to_ras": tuple_of(*[tuple_of(*[number] * 4)] * 4),
        "dtype": one_of("<i2", "<f4"),
        "assume_hu": one_of(True, False),
    },
    tensors={},
)
"""The request of a job for a server, see `remote.wire`."""

_AXES = tuple_of(*[whole(1, 2**12)] * 3)
SERVER_ENCODER = Schema(
    header={
        "name": text,
        "title": text,
        "setting": text,
        "weights": text,
        "scan_token": text,
        "tiling": text,
        "spacing_mm": tuple_of(positive, positive, positive),
        "window_hu": tuple_of(number, number),
        "multiple": _AXES,
        "levels": list_of(
            record(
                name=text,
                channels=whole(1),
                stride=_AXES,
                offset=_THREE,
                pooled=one_of(True, False),
                optional=one_of(True, False),
            ),
            least=1,
        ),
    },
    tensors={},
)
"""An encoder of a server, see `remote.encoder`."""
