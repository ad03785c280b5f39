"""Files of probes of several patients: safetensors with a JSON header, never pickle."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from CoralBayLib.core import schemas
from CoralBayLib.core.errors import ProbeError
from CoralBayLib.core.tensor_files import kind_of, read_tensors, write_tensors
from CoralBayLib.features.alignment import AxisAlignment

from .appearance import AppearanceNetwork
from .patients import Patients
from .record import PatientRecord, Projection
from .registration import Deformation

KIND = "patients-probe"
FORMAT_VERSION = 1
_NETWORK = "network."


def write_patients(path: str | os.PathLike, patients: Patients, signature: str, parameters: Mapping[str, Any]) -> None:
    """Write the patients of a probe, and the network that learnt from them.

    Args:
        path: an existing file is replaced.
        patients: of the probe.
        signature: of the features they were learnt on.
        parameters: arguments of the probe.

    Raises:
        StoreError: the file could not be written; an existing file is unchanged.
    """
    header = {
        "format": FORMAT_VERSION,
        "signature": signature,
        "parameters": dict(parameters),
        "shared": patients.projection.shared,
        "patients": [record.header() for record in patients.records],
        "alignments": [
            {"scale": d.alignment.scale.tolist(), "shift": d.alignment.shift.tolist(), "step_mm": d.step_mm}
            for d in patients.deformations
        ],
    }
    tensors = {"projection": patients.projection.weights, "offset": patients.projection.offset}
    for n, (record, deformation) in enumerate(zip(patients.records, patients.deformations, strict=True)):
        tensors |= {f"patient.{n}.{name}": part for name, part in record.tensors().items()}
        tensors[f"patient.{n}.displacement"] = deformation.displacement.half()
        tensors[f"patient.{n}.origin_ras"] = deformation.origin_ras
    tensors |= {_NETWORK + name: part for name, part in patients.network().tensors().items()}
    write_tensors(path, KIND, header, tensors)


def is_of_patients(path: str | os.PathLike) -> bool:
    """Whether a file is a probe of several patients; False for one that is missing or damaged."""
    try:
        return kind_of(Path(path)) == KIND
    except (OSError, ValueError):
        return False


def read_patients(path: str | os.PathLike) -> tuple[Patients, str, dict[str, Any]]:
    """Patients, signature and parameters of a file.

    Raises:
        ProbeError: the file is missing, damaged, or no probe of several patients.
    """
    header, tensors = read_tensors(path, KIND, schemas.PATIENTS_PROBE)
    name = Path(path).name
    if header["format"] != FORMAT_VERSION:
        raise ProbeError(f"{name} is a probe of format {header['format']}; this version reads {FORMAT_VERSION}.")
    try:
        return _decoded(header, tensors), str(header["signature"]), dict(header["parameters"])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ProbeError(f"The probe {name} is incomplete ({error}). Fit it again.") from error


def _decoded(header: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Patients:
    projection = Projection(tensors["projection"], tensors["offset"], bool(header["shared"]))
    records, deformations = [], []
    if len(header["patients"]) != len(header["alignments"]):
        raise ValueError("the alignments are of another number of patients")
    for n, (about, alignment) in enumerate(zip(header["patients"], header["alignments"], strict=True)):
        start = f"patient.{n}."
        parts = {key.removeprefix(start): part for key, part in tensors.items() if key.startswith(start)}
        displacement, origin = parts.pop("displacement"), parts.pop("origin_ras")
        records.append(PatientRecord.from_parts(about, parts))
        body = AxisAlignment(np.array(alignment["scale"], float), np.array(alignment["shift"], float))
        deformations.append(Deformation(body, origin, float(alignment["step_mm"]), displacement))
    network = {key.removeprefix(_NETWORK): part for key, part in tensors.items() if key.startswith(_NETWORK)}
    patients = Patients(projection, tuple(records), tuple(deformations))
    trained = AppearanceNetwork.from_tensors(network)
    if any(layers[-1][0].shape[0] != 1 + len(patients.names) for layers in trained.layers):
        raise ValueError("the network is for another number of structures")
    return patients.with_network(trained)
