"""Where the names live that the facade `CoralBayLib` does not offer: the one file to edit when modules move."""

from __future__ import annotations

from typing import Any

from CoralBayLib.inside import LookBasis as LookBasis
from CoralBayLib.inside import cluster_map as cluster_map
from CoralBayLib.inside import colour_map as colour_map
from CoralBayLib.scans import ScanProbe as ScanProbe
from CoralBayLib.scans import saliency_map as saliency_map


def structures_of(volume: Any) -> list[Any]:
    """The structures with point prompts on a volume node; to be asked once the module is loaded."""
    from CoralBaySlicerCore.structures import of

    return of(volume)


def library_folder() -> str:
    """The folder of the library that was chosen on this computer; to be asked once the module is loaded."""
    from CoralBaySlicerCore import scanlibrary

    return scanlibrary.folder()
