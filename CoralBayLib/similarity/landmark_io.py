"""Files of landmarks: safetensors with a JSON header."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from CoralBayLib.core import schemas
from CoralBayLib.core.errors import ProbeError
from CoralBayLib.core.tensor_files import read_tensors, write_tensors

from .comparable import FeatureSpace
from .landmark_examples import Example, Patient

KIND = "landmarks"
_FORMAT = 1


def save(
    path: str | os.PathLike,
    space: FeatureSpace,
    patients: Sequence[Patient],
    names: Sequence[str],
    errors_mm: Mapping[str, list[float]],
) -> None:
    """Write landmarks; raises `StoreError` if the file could not be written."""
    rows = [(n, name, example) for n, patient in enumerate(patients) for name, example in patient.examples.items()]
    header = {
        "format": _FORMAT,
        "signature": space.signature,
        "names": list(names),
        "bodies": [len(patient.points_ras) for patient in patients],
        "rows": [[n, names.index(name)] for n, name, _ in rows],
        "errors_mm": [errors_mm[name] for name in names],
    }
    tensors = {
        "projection": space.projection,
        "offset": space.offset,
        "body_points": torch.from_numpy(np.concatenate([patient.points_ras for patient in patients])),
        "body_vectors": torch.cat([patient.vectors for patient in patients]),
        "positions": torch.from_numpy(np.stack([example.ras for _, _, example in rows])),
        "appearance": torch.stack([example.appearance for _, _, example in rows]),
        "texture": torch.stack([example.texture for _, _, example in rows]),
    }
    write_tensors(path, KIND, header, tensors)


def load(path: str | os.PathLike) -> tuple[FeatureSpace, list[Patient], list[str], dict[str, list[float]]]:
    """Read what `save` wrote: the space, the patients, the names, and the errors by name.

    Raises:
        ProbeError: the file is missing, damaged, or no landmarks.
    """
    header, tensors = read_tensors(path, KIND, schemas.LANDMARKS)
    names, bodies, rows = header["names"], header["bodies"], header["rows"]
    whole = len(header["errors_mm"]) == len(names) and sum(bodies) == len(tensors["body_points"])
    if not whole or len(rows) != len(tensors["positions"]) or any(p >= len(bodies) or n >= len(names) for p, n in rows):
        raise ProbeError(f"{os.fspath(path)} is damaged: its parts do not fit together. Make it again.")
    space = FeatureSpace(tensors["projection"], tensors["offset"], header["signature"])
    examples: list[dict[str, Example]] = [{} for _ in bodies]
    for row, (patient, name) in enumerate(rows):
        ras = tensors["positions"][row].numpy()
        examples[patient][names[name]] = Example(ras, tensors["appearance"][row], tensors["texture"][row])
    points, vectors = tensors["body_points"].split(bodies), tensors["body_vectors"].split(bodies)
    patients = [Patient(p.numpy(), v, e) for p, v, e in zip(points, vectors, examples, strict=True)]
    return space, patients, names, dict(zip(names, header["errors_mm"], strict=True))
