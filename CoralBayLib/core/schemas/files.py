"""What the files that CoralBay writes must hold, one schema a kind."""

from __future__ import annotations

from .checks import (
    MAX_LABEL,
    finite_matrix,
    grid,
    list_of,
    names_by_label,
    number,
    one_of,
    positive,
    record,
    text,
    three_numbers,
    tuple_of,
    whole,
)
from .schema import Array, Schema

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
PATIENTS_PROBE = Schema(
    header={
        "format": whole(1),
        "signature": text,
        "parameters": record(C=positive, weak_negatives=whole(0), max_per_label=whole(1)),
        "shared": one_of(True, False),
        "patients": list_of(
            record(key=text, names=names_by_label, about=lambda value: isinstance(value, dict), ijk_to_ras=finite_matrix),
            least=1,
        ),
        "alignments": list_of(
            record(scale=tuple_of(positive, positive, positive), shift=three_numbers, step_mm=positive), least=1
        ),
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

_SAVED_PROBE = {
    "format": whole(1),
    "task": text,
    "target": text,
    "classes": list_of(text, unique=True),
    "signature": text,
}
"""What the headers of all probes on whole scans hold."""

SCAN_PROBE = Schema(
    header={
        **_SAVED_PROBE,
        "strength": positive,
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
    header={**_SAVED_PROBE, "levels": list_of(tuple_of(text, whole(1)), least=1)},
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
