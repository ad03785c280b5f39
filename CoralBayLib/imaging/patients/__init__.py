"""Patients with labels in a folder: which there are, what their structures are called, and their labelmaps."""

from .folders import LabeledPatient, PatientFolder, find_patients
from .labelmaps import LabeledScan, read_labels
from .structures import chosen_names, common_labels, common_names, names_from_json, renumbered

__all__ = [
    "LabeledPatient",
    "LabeledScan",
    "PatientFolder",
    "chosen_names",
    "common_labels",
    "common_names",
    "find_patients",
    "names_from_json",
    "read_labels",
    "renumbered",
]
