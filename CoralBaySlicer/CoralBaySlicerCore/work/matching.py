"""The same place in another scan of the scene."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import slicer
from numpy.typing import ArrayLike
from slicer.i18n import tr as _

from CoralBayLib.core.progress import CancelToken, subprogress
from CoralBaySlicerCore.scene import volumes

from .worker import Task, TaskProgress

if TYPE_CHECKING:
    from .tasks import Tasks


@dataclass(frozen=True)
class FoundPlace:
    """Where a point of one scan is in another.

    Attributes:
        node_id: of the other volume.
        ras: RAS mm of the world.
        score: 0 to 1, estimated probability that it is within 10 mm of the right place.
        same_patient: whether the scans look like two of one patient.
    """

    node_id: str
    ras: tuple[float, float, float]
    score: float
    same_patient: bool


def match_task(
    tasks: Tasks,
    volume: slicer.vtkMRMLScalarVolumeNode,
    point: ArrayLike,
    other: slicer.vtkMRMLScalarVolumeNode,
) -> Task:
    """The task that finds a point of one scan in another; its result is a `FoundPlace`.

    Args:
        tasks: the logic.
        volume: the CT that the point lies in.
        point: (3,) RAS mm of the world.
        other: the CT to find it in.
    """
    own = volumes.from_world(volume, point)
    sources = [tasks.features.source(node) for node in (volume, other)]

    def run(progress: TaskProgress, cancel: CancelToken) -> Any:
        from CoralBayLib.similarity.matching import match_points

        pyramids = []
        for number, source in enumerate(sources):
            step = subprogress(progress, 0.4 * number, 0.4 * (number + 1))
            pyramids.append(tasks.features.compute(source, step, cancel))
        matches = match_points(pyramids[0], pyramids[1], own[:1], subprogress(progress, 0.8, 1.0), cancel)
        return pyramids, matches

    def finish(result: Any) -> FoundPlace:
        pyramids, matches = result
        for source, pyramid in zip(sources, pyramids, strict=True):
            tasks.features.put(source, pyramid)
        r, a, s = (float(value) for value in volumes.to_world(other, matches.points_ras)[0])
        return FoundPlace(other.GetID(), (r, a, s), float(matches.scores[0]), matches.same_patient)

    return tasks.start_task(Task(run, finish, "match", _("Finding the same place")))
