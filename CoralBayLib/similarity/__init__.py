"""Similar regions of a scan, and maps of its features. Importing this does not import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from CoralBayLib.core.moved import lazy_names

if TYPE_CHECKING:
    from .search import Query, Region, find_regions, similarity_map

__all__ = ["Query", "Region", "find_regions", "similarity_map"]

__getattr__ = lazy_names(__name__, dict.fromkeys(__all__, "search"))
