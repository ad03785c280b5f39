"""Probes on whole scans: a light model on frozen scan embeddings says something of a patient, and shows what it looked at."""

from .embeddings import ScanEmbeddings, embed_scans
from .evaluation import Evaluation, Figure, cross_validate, few_shot, few_shot_patients
from .model import ScanProbe
from .saliency import saliency_map
from .stability import stability
from .table import Labels, ScanTable, read_table

__all__ = [
    "Evaluation",
    "Figure",
    "Labels",
    "ScanEmbeddings",
    "ScanProbe",
    "ScanTable",
    "cross_validate",
    "embed_scans",
    "few_shot",
    "few_shot_patients",
    "read_table",
    "saliency_map",
    "stability",
]
