"""Where the names live that the facade `CoralBayLib` does not offer: the one file to edit when modules move."""

from __future__ import annotations

from typing import Any

from CoralBayLib.scan_probes import ScanProbe as ScanProbe
from CoralBayLib.scan_probes import saliency_map as saliency_map
from CoralBayLib.scan_probes.labels import SAVED_TASKS as SAVED_TASKS
from CoralBayLib.similarity.feature_maps import FeatureProjection as FeatureProjection
from CoralBayLib.similarity.feature_maps import cluster_map as cluster_map
from CoralBayLib.similarity.feature_maps import color_map as color_map


def structures_of(volume: Any) -> list[Any]:
    """The structures with point prompts on a volume node; to be asked once the module is loaded."""
    from CoralBaySlicerCore.scene.structures import of_volume

    return of_volume(volume)


def library_folder() -> str:
    """The folder of the library that was chosen on this computer; to be asked once the module is loaded."""
    from CoralBaySlicerCore.work.library import tasks as scan_library

    return scan_library.folder()


def read_settings_again() -> None:
    """Have the module read the application's settings as when it starts."""
    from CoralBaySlicerCore.setup import settings

    settings.read_again()
