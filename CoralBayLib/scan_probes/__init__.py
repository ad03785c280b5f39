"""Scan probes: linear models on scan embeddings that predict a class, a number or a risk, and explain it by a map.

Importing this does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from CoralBayLib.core.moved import lazy_names

if TYPE_CHECKING:
    from .embeddings import ScanEmbeddings, embed_scans
    from .evaluation import Evaluation, cross_validate, few_shot, few_shot_patients
    from .metrics import Estimate
    from .model import ScanProbe
    from .perturbation import stability
    from .saliency import saliency_map
    from .table import Labels, ScanTable, Skipped, read_table

_HOME = {
    "Estimate": "metrics",
    "Evaluation": "evaluation",
    "Figure": "metrics",
    "Labels": "table",
    "ScanEmbeddings": "embeddings",
    "ScanProbe": "model",
    "ScanTable": "table",
    "Skipped": "table",
    "cross_validate": "evaluation",
    "embed_scans": "embeddings",
    "few_shot": "evaluation",
    "few_shot_patients": "evaluation",
    "read_table": "table",
    "saliency_map": "saliency",
    "stability": "perturbation",
}

__all__ = sorted(_HOME.keys() - {"Figure"})

__getattr__ = lazy_names(__name__, _HOME)
