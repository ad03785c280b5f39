"""Tasks that search a scan, or a library, by words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import slicer
from numpy.typing import NDArray
from slicer.i18n import tr as _

from CoralBayLib.core.progress import CancelToken, subprogress
from CoralBaySlicerCore.setup import packages
from CoralBaySlicerCore.work.worker import Task, TaskProgress

if TYPE_CHECKING:
    from CoralBayLib.features.pyramid import FeaturePyramid
    from CoralBayLib.imaging.grid import Volume
    from CoralBayLib.library.search import ScanHit
    from CoralBaySlicerCore.work.tasks import Tasks


@dataclass(frozen=True, eq=False)
class WordMap:
    """Where words describe a scan best.

    Attributes:
        node_id: of the volume.
        percent: (K, J, I) uint8: 0 where they describe the patient worst, 100 where best; 0 outside the patient.
        geometry: (4, 4), IJK to the volume's own RAS mm.
    """

    node_id: str
    percent: NDArray[np.uint8]
    geometry: NDArray[np.float64]


def word_map_task(tasks: Tasks, volume: slicer.vtkMRMLScalarVolumeNode, text: str) -> Task:
    """The task that compares words with each place of a scan; its result is a `WordMap`.

    Args:
        tasks: the logic.
        volume: the scan.
        text: the words, in English.

    Raises:
        CoralBayError: the user declined to install what is missing, or there is no image in the volume.
    """
    packages.ensure(packages.TEXT)
    source = tasks.features.source(volume)

    def run(progress: TaskProgress, cancel: CancelToken) -> tuple[FeaturePyramid, Volume]:
        from CoralBayLib.similarity.words import word_map

        pyramid = tasks.features.compute(source, subprogress(progress, 0, 0.9), cancel)
        encoder = tasks.features.encoder(source.config, None, cancel)
        return pyramid, word_map(pyramid, encoder, text, cancel)

    def finish(result: tuple[FeaturePyramid, Volume]) -> WordMap:
        pyramid, cosines = result
        node = tasks.features.put(source, pyramid)
        return WordMap(node.GetID(), _percent(cosines, pyramid), np.array(cosines.grid.ijk_to_ras))

    return tasks.start_task(Task(run, finish, "similar", _("Searching by words")))


def search_library_task(tasks: Tasks, path: str, text: str, count: int) -> Task:
    """The task that ranks the scans of a library by words; its result is a list of `ScanHit`.

    Args:
        tasks: the logic.
        path: the library's folder; "" for the default location.
        text: the words, in English.
        count: most scans.

    Raises:
        CoralBayError: the user declined to install what is missing.
    """
    packages.ensure(packages.LIBRARY, packages.TEXT)
    config = tasks.encoder_config()

    def run(progress: TaskProgress, cancel: CancelToken) -> list[ScanHit]:
        from CoralBayLib.library import Library

        library = Library(path or None)
        library.require_encoder(config.encoder)
        return library.search_text(text, tasks.features.encoder(config, progress, cancel), count)

    return tasks.worker.start(Task(run, lane="similar", title=_("Searching the library by words")))


def _percent(cosines: Volume, pyramid: FeaturePyramid) -> NDArray[np.uint8]:
    """Cosines as percent of their range in the patient: a cosine has no absolute meaning."""
    inside = pyramid.body.array > 0
    values = cosines.array[inside]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    percent = np.round(100 * (cosines.array - low) / max(high - low, 1e-6)).clip(0, 100).astype(np.uint8)
    percent[~inside] = 0
    return percent
