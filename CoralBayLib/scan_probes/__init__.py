"""Scan probes: small models on frozen features that predict a class, a number or a risk, and explain it by a map.

Linear ones take the scan embedding, attentive ones the tokens of all levels.

Importing this does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from CoralBayLib.core.moved import lazy_names

if TYPE_CHECKING:
    from .comparison import Comparison, compare, shot_curves
    from .embeddings import ScanEmbeddings, embed_scans
    from .evaluation import Evaluation, cross_validate, few_shot, few_shot_patients
    from .labels import Labels
    from .loading import load_scan_probe
    from .metrics import Estimate
    from .model import ScanProbe
    from .perturbation import stability
    from .probes.attention_maps import attention_map
    from .probes.attentive import AttentiveProbe
    from .probes.nearest import NearestProbe
    from .saliency import saliency_map
    from .tables.table import ScanTable, Skipped, read_table
    from .tokens import ScanTokens, sample_tokens

_HOME = {
    "AttentiveProbe": "probes.attentive",
    "Comparison": "comparison",
    "Estimate": "metrics",
    "Evaluation": "evaluation",
    "Figure": "metrics",
    "Labels": "labels",
    "NearestProbe": "probes.nearest",
    "ScanEmbeddings": "embeddings",
    "ScanProbe": "model",
    "ScanTable": "tables.table",
    "ScanTokens": "tokens",
    "Skipped": "tables.table",
    "attention_map": "probes.attention_maps",
    "compare": "comparison",
    "cross_validate": "evaluation",
    "embed_scans": "embeddings",
    "few_shot": "evaluation",
    "few_shot_patients": "evaluation",
    "load_scan_probe": "loading",
    "read_table": "tables.table",
    "saliency_map": "saliency",
    "sample_tokens": "tokens",
    "shot_curves": "comparison",
    "stability": "perturbation",
}

__all__ = sorted(_HOME.keys() - {"Figure"})

__getattr__ = lazy_names(__name__, _HOME)
