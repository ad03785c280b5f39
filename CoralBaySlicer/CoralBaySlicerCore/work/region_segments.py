"""Segments of all regions that look like a query, with their table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
from numpy.typing import ArrayLike
from slicer.i18n import tr as _

from CoralBayLib.core.errors import CoralBayError, QueryError
from CoralBayLib.core.names import unique_names
from CoralBayLib.core.progress import CancelToken, subprogress
from CoralBaySlicerCore.scene import colors, segments, surfaces, volumes
from CoralBaySlicerCore.scene.regions import table
from CoralBaySlicerCore.scene.regions.table import Row
from CoralBaySlicerCore.work.compute import similarity

from .worker import Task, TaskProgress

if TYPE_CHECKING:
    from CoralBayLib.features.pyramid import FeaturePyramid
    from CoralBayLib.similarity.region_masks import RegionMask

    from .features import FeatureSource
    from .tasks import Tasks


@dataclass(frozen=True, eq=False)
class RegionSegments:
    """Where regions were written to.

    Attributes:
        segmentation: with a segment for each region.
        table: with a row for each region.
        count: of the regions.
    """

    segmentation: slicer.vtkMRMLSegmentationNode
    table: slicer.vtkMRMLTableNode
    count: int


def from_search(tasks: Tasks, volume: slicer.vtkMRMLScalarVolumeNode) -> Task:
    """The task that makes a segment of each region that the last search found in a scan; its result is `RegionSegments`.

    Args:
        tasks: the logic.
        volume: the scan.

    Raises:
        QueryError: the last search found nothing in this scan.
    """
    found = tasks.similarities.get(volume.GetID())
    if found is None:
        raise QueryError(_("Search for similar regions in this scan first."))
    source = tasks.features.source(volume)

    def run(_progress: TaskProgress, cancel: CancelToken) -> list[RegionMask]:
        return similarity.region_masks_of(found, source.scan.volume, cancel)

    def finish(masks: list[RegionMask]) -> RegionSegments:
        tasks.features.require_unchanged(source)
        target = segments.new(volume, _("{volume} similar regions").format(volume=volume.GetName()))
        return _write(target, volume, source, masks, lambda number: _("Region {number}").format(number=number))

    return tasks.start_task(Task(run, finish, "regions", _("Making segments of regions")))


def from_query(
    tasks: Tasks,
    volume: slicer.vtkMRMLScalarVolumeNode,
    query: ArrayLike,
    target: slicer.vtkMRMLSegmentationNode,
    name: str,
    save_state: Callable[[], object],
    count: int,
    distance_mm: float,
    threshold: float,
) -> Task:
    """The task that adds a segment for each region that looks like a query, but for the query's own region.

    Args:
        tasks: the logic.
        volume: the scan.
        query: (N, 3) RAS mm of the world.
        target: the segmentation.
        name: of the query; the new segments are numbered.
        save_state: called before the segmentation is changed, so that this can be undone.
        count: most regions to find.
        distance_mm: least distance between two peaks.
        threshold: similarity, from 0 to 1, down to which a region extends.

    Raises:
        VolumeError: a non-linear transform lies between the scan and the segmentation.
    """
    points, source, target_id = volumes.from_world(volume, query), tasks.features.source(volume), target.GetID()
    segments.transform_to(target, volume)
    node_id = volume.GetID()

    def run(progress: TaskProgress, cancel: CancelToken) -> tuple[FeaturePyramid, list[RegionMask]]:
        pyramid = tasks.features.compute(source, subprogress(progress, 0, 0.8), cancel)
        # One more, since the query's own region is among them.
        (found,) = similarity.similar({node_id: pyramid}, node_id, points, count + 1, distance_mm, threshold, None, cancel)
        masks = similarity.region_masks_of(found, source.scan.volume, cancel)
        ijk = source.scan.volume.grid.nearest_ijk(points)
        return pyramid, [each for each in masks if not _holds_any(each, ijk)][:count]

    def finish(result: Any) -> RegionSegments:
        pyramid, masks = result
        tasks.features.put(source, pyramid)
        node = slicer.mrmlScene.GetNodeByID(target_id)
        if node is None:
            raise CoralBayError(_("The segmentation was removed during the computation. Nothing was written."))
        if not masks:
            raise QueryError(
                _(
                    "No other region reaches the similarity threshold. Lower the threshold in step 3 of "
                    "the module CoralBay, or paint more."
                )
            )
        save_state()
        return _write(node, volume, source, masks, lambda number: f"{name} {number + 1}")

    return tasks.start_task(Task(run, finish, "regions", _("Looking for regions similar to {name}").format(name=name)))


def _write(
    target: slicer.vtkMRMLSegmentationNode,
    volume: slicer.vtkMRMLScalarVolumeNode,
    source: FeatureSource,
    masks: Sequence[RegionMask],
    named: Callable[[int], str],
) -> RegionSegments:
    """Write regions as new segments; `named` gives their names by number, from 1."""
    if not masks:
        raise QueryError(_("No location reaches the similarity threshold. Lower the threshold and search again."))
    inner = target.GetSegmentation()
    taken = [inner.GetSegment(each).GetName() for each in segments.ids(target)]
    names = unique_names([*taken, *map(named, range(1, len(masks) + 1))])[len(taken) :]
    geometry = segments.transform_to(target, volume) @ source.scan.volume.grid.ijk_to_ras
    world, rows = volumes.to_world(volume, [each.ras for each in masks]), []
    surfaces.remove(target)
    with slicer.util.NodeModify(target):
        for number, (name, each) in enumerate(zip(names, masks, strict=True), start=len(taken) + 1):
            segment_id = segments.write(target, name, colors.label_color(number), each.mask, geometry)
            r, a, s = (float(part) for part in world[number - len(taken) - 1])
            rows.append(Row(segment_id, name, each.volume_ml, each.mean_hu, (r, a, s), each.score))
    return RegionSegments(target, table.add(target, rows), len(rows))


def _holds_any(region: RegionMask, ijk: np.ndarray) -> bool:
    """Whether a region has any of (N, 3) IJK voxels."""
    local = ijk - np.array(region.mask.start)
    size = np.array(region.mask.mask.shape[::-1])
    local = local[((local >= 0) & (local < size)).all(axis=1)]
    return bool(region.mask.mask[tuple(local[:, ::-1].T)].any())
