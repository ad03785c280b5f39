"""Similar regions of a scan, and maps of its features. Importing this does not import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from CoralBayLib.core.moved import lazy_names

if TYPE_CHECKING:
    from .landmarks import Landmark, Landmarks
    from .matching import Matches, match_points
    from .search import Query, Region, find_regions, similarity_map

__all__ = ["Landmark", "Landmarks", "Matches", "Query", "Region", "find_regions", "match_points", "similarity_map"]

_HOME = {"Landmark": "landmarks", "Landmarks": "landmarks", "Matches": "matching", "match_points": "matching"}

__getattr__ = lazy_names(__name__, {name: _HOME.get(name, "search") for name in __all__})
