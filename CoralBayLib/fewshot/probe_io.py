"""Files of probes: safetensors with a JSON header, never pickle."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from CoralBayLib.core import schemas
from CoralBayLib.core.errors import ProbeError
from CoralBayLib.core.names import unique_names
from CoralBayLib.core.tensor_files import read_tensors, write_tensors

from .evidence.voxel_features import VoxelFeatures
from .memory import HU_CHANNELS, TransferMemory
from .prompts import Prompts

FORMAT_VERSION = 1
_MEMORY = "memory."


@dataclass(frozen=True, eq=False)
class ProbeFile:
    """What a file holds of a probe.

    Attributes:
        parameters: arguments of `Probe`.
        names: of the structures, by label; in the order of the rows of the weights.
        weights: (S, channels) on the pyramid's features.
        image_weights: (S, image channels) on intensity and position.
        intercept: (S,).
        signature: of the features it was fitted on.
        prompts: that it was fitted on; none in files of early versions, whose probes use appearance alone.
        scan_key: of the scan of these prompts; "" if it has none.
        fragmented: labels whose prompts lie in many components.
        memory: samples for adapting it to other scans, or None.
    """

    parameters: Mapping[str, Any]
    names: dict[int, str]
    weights: torch.Tensor
    image_weights: torch.Tensor
    intercept: torch.Tensor
    signature: str
    prompts: Prompts
    scan_key: str
    fragmented: frozenset[int]
    memory: TransferMemory | None


def write_probe(path: str | os.PathLike, probe: ProbeFile) -> None:
    """Write a probe.

    Raises:
        StoreError: the file could not be written; an existing file is unchanged.
    """
    header = {
        "format": FORMAT_VERSION,
        "labels": list(probe.names),
        "names": probe.names,
        "signature": probe.signature,
        "scan": probe.scan_key,
        "scattered": sorted(probe.fragmented),
        "parameters": probe.parameters,
    }
    tensors = {"weights": probe.weights, "image_weights": probe.image_weights, "intercept": probe.intercept}
    tensors |= {"points": torch.from_numpy(probe.prompts.points_ras), "told": torch.from_numpy(probe.prompts.labels)}
    if probe.memory is not None:
        tensors |= {_MEMORY + name: part for name, part in probe.memory.tensors().items()}
    write_tensors(path, "probe", header, tensors)


def read_probe(path: str | os.PathLike) -> ProbeFile:
    """Read a probe.

    Raises:
        ProbeError: the file is missing, damaged, or no probe.
    """
    name = Path(path).name
    lengths = {"image_channels": VoxelFeatures.channels, "tissue": HU_CHANNELS}
    header, tensors = read_tensors(path, "probe", schemas.PROBE, **lengths)
    if header.get("format") != FORMAT_VERSION:
        raise ProbeError(f"{name} is a probe of format {header.get('format')}; this version reads {FORMAT_VERSION}.")
    try:
        return _decoded(header, tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise ProbeError(f"The probe {name} is incomplete ({error}). Fit it again.") from error


def _decoded(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> ProbeFile:
    """The probe of a file.

    Raises:
        KeyError, TypeError, ValueError: a part is missing, or does not fit the others.
    """
    labels = [int(label) for label in header["labels"]]
    if len(labels) != len(tensors["weights"]):
        raise ValueError("the weights are for another number of structures")
    if not all(str(label) in header["names"] for label in header["labels"]):
        raise ValueError("a structure has no name")
    called = {int(label): str(name) for label, name in header["names"].items()}
    names = dict(zip(called, unique_names(called.values()), strict=True))
    points, of_points = tensors.get("points", torch.zeros(0, 3)), tensors.get("told", torch.zeros(0))
    memory = {name.removeprefix(_MEMORY): part for name, part in tensors.items() if name.startswith(_MEMORY)}
    return ProbeFile(
        header["parameters"],
        {label: names[label] for label in labels},
        tensors["weights"],
        tensors["image_weights"],
        tensors["intercept"],
        str(header["signature"]),
        Prompts(points.numpy(), of_points.numpy(), names),
        str(header.get("scan", "")),
        frozenset(map(int, header.get("scattered", ()))),
        TransferMemory.from_tensors(memory) if memory else None,
    )
