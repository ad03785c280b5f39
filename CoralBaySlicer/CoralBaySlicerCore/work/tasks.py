"""Tasks on volume nodes: the computation on the worker, and the change of the scene that follows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
from numpy.typing import ArrayLike
from slicer.i18n import tr as _

from CoralBayLib.core.deprecation import deprecated_attribute
from CoralBayLib.core.errors import CoralBayError, PromptError, VolumeError
from CoralBayLib.core.progress import CancelToken, subprogress
from CoralBayLib.fewshot.options import Options
from CoralBayLib.fewshot.prompts import Prompts
from CoralBaySlicerCore.scene import segments, surfaces, volumes
from CoralBaySlicerCore.scene.colors import by_name
from CoralBaySlicerCore.scene.masks import Masks
from CoralBaySlicerCore.scene.overlays import Overlays
from CoralBaySlicerCore.setup import packages
from CoralBaySlicerCore.work.compute import similarity
from CoralBaySlicerCore.work.compute.segmentation import segmentation_of

from .features import Features, FeatureSource
from .found_regions import FoundRegion, rank_regions
from .remedies import describe_error
from .session import EncoderConfig
from .worker import Task, TaskProgress, Worker

if TYPE_CHECKING:
    import vtk

    from CoralBayLib.features.pyramid import FeaturePyramid
    from CoralBayLib.fewshot.probe import Probe
    from CoralBayLib.fewshot.segmenter import Segmenter
    from CoralBayLib.imaging.cropping import CroppedMask

    _Applied = tuple[FeatureSource, FeaturePyramid, dict[str, CroppedMask], dict[str, tuple[float, float, float]]]


class Tasks:
    """Starts tasks on volume nodes. Each method returns a `Task` at once.

    A subclass says with which encoder, in `encoder_config`.

    Attributes:
        worker: the thread that computes.
        reader: a thread that only reads files, so that reading does not wait for a computation.
        features: of the volumes.
        overlays: the maps in the slice views.
        undo: states of segmentations before they were written to.
        probe: the probe that was fitted or loaded last.
        similarities: results of the last search, by the volume's node ID.
        skipped_scans: the reason for each scan that the last search skipped, by the scan's name.
    """

    left_out = deprecated_attribute("left_out", "skipped_scans")

    def __init__(self) -> None:
        self.worker = Worker()
        self.reader = Worker()
        self.features = Features(self.worker, self.encoder_config)
        self.overlays = Overlays()
        self.undo = segments.Undo()
        self.probe: Probe | None = None
        self.similarities: dict[str, similarity.Similarity] = {}
        self.skipped_scans: dict[str, str] = {}

    def encoder_config(self) -> EncoderConfig:
        """The current configuration of the encoder."""
        raise NotImplementedError

    def embedTask(self, volume: slicer.vtkMRMLScalarVolumeNode) -> Task:
        """The task of `embed`."""
        source = self.features.source(volume)

        def run(progress: TaskProgress, cancel: CancelToken) -> FeaturePyramid:
            return self.features.compute(source, progress, cancel)

        def finish(pyramid: FeaturePyramid) -> FeaturePyramid:
            self.features.put(source, pyramid)
            return pyramid

        return self._start(Task(run, finish, title=_("Computing features of {name}").format(name=source.scan.name)))

    def storedTask(self, volume: slicer.vtkMRMLScalarVolumeNode) -> Task:
        """Read a volume's features from the store; the result is None if they are not there."""
        source = self.features.source(volume)

        def finish(pyramid: FeaturePyramid | None) -> FeaturePyramid | None:
            if pyramid is not None:
                self.features.put(source, pyramid)
            return pyramid

        return self._start(Task(lambda *_: self.features.stored(source), finish, "stored", _("Looking for stored features")))

    def segmentTask(
        self,
        volume: slicer.vtkMRMLScalarVolumeNode,
        prompts: Prompts,
        segmentation: slicer.vtkMRMLSegmentationNode | None = None,
        options: Options | None = None,
        probe: Probe | None = None,
        colors: Mapping[str, Sequence[float]] | None = None,
        segmenter: Segmenter | None = None,
        masks: Masks | None = None,
        extents: Mapping[int, int] | None = None,
    ) -> Task:
        """The task of `segment`, with prompts from `prompts_of` or with a probe.

        Args:
            volume: the scan's node.
            prompts: in the volume's own space.
            segmentation: where to write; a new node by default.
            options: the library's `Options`, or None for the defaults.
            probe: a loaded probe, or None.
            colors: of new segments, by name.
            segmenter: the library's `Segmenter` of a preview, which is used again if features and all that it was fitted on
                are the same.
            masks: what is locked, and what structures start from.
            extents: by label, which answers to first clicks are wanted; see the library's `Segmenter.fit`.
        """
        source = self.features.source(volume)
        target = segmentation.GetID() if segmentation is not None else None
        if segmentation is not None:
            segments.transform_to(segmentation, volume)

        def run(progress: TaskProgress, cancel: CancelToken) -> tuple[FeaturePyramid, tuple[dict[str, CroppedMask], Probe]]:
            pyramid = self.features.compute(source, subprogress(progress, 0, 0.8), cancel)
            known = segmenter if segmenter is not None and segmenter.pyramid is pyramid else None
            part = subprogress(progress, 0.8, 1)
            return pyramid, segmentation_of(source.scan, pyramid, prompts, options, probe, known, masks, part, cancel, extents)

        def finish(result: tuple[FeaturePyramid, tuple[dict[str, CroppedMask], Probe]]) -> slicer.vtkMRMLSegmentationNode:
            pyramid, (masks, fitted) = result
            scan = self.features.put(source, pyramid)
            node = slicer.mrmlScene.GetNodeByID(target) if target else None
            if target and node is None:
                raise CoralBayError(_("The segmentation was removed during the computation. Choose another and apply again."))
            node = node or segments.new(scan, _("{volume} segmentation").format(volume=scan.GetName()))
            surfaces.remove(node)
            self.undo.save(node)
            segments.write_masks(node, scan, source.scan, masks, dict(colors or by_name(fitted.names_)))
            self.probe = fitted
            return node

        return self._start(Task(run, finish, title=_("Segmenting")))

    def surfacesTask(self, segmentation: slicer.vtkMRMLSegmentationNode) -> Task:
        """Show the segments of a segmentation in the 3D views; a newer call cancels an older one."""
        node_id, voxels = segmentation.GetID(), surfaces.read(segmentation)

        def run(progress: TaskProgress, cancel: CancelToken) -> dict[str, tuple[int, vtk.vtkPolyData]]:
            return surfaces.build(voxels, progress, cancel)

        def finish(built: dict[str, tuple[int, vtk.vtkPolyData]]) -> slicer.vtkMRMLSegmentationNode | None:
            node = slicer.mrmlScene.GetNodeByID(node_id)
            if node is not None:
                surfaces.put(node, built)
            return node

        return self.worker.start(Task(run, finish, "surfaces", _("Computing 3D surfaces")))

    def applyProbeTask(
        self, probe: Probe | str | Path | None, targets: Sequence[slicer.vtkMRMLScalarVolumeNode], threshold: float = 0.5
    ) -> Task:
        """The task of `applyProbe`. Nothing is written until all volumes are done."""
        options = Options(threshold)
        if not targets:
            raise CoralBayError(_("Choose at least one volume to apply the probe to."))
        sources = [self.features.source(volume) for volume in targets]

        def run(progress: TaskProgress, cancel: CancelToken) -> list[_Applied]:
            from CoralBayLib.fewshot.probe import Probe

            fitted = Probe.load(probe) if isinstance(probe, (str, Path)) else probe
            done = []
            for number, source in enumerate(sources):
                step = subprogress(progress, number / len(sources), (number + 1) / len(sources))
                pyramid = self.features.compute(source, subprogress(step, 0, 0.8), cancel)
                part = subprogress(step, 0.8, 1)
                masks, used = segmentation_of(source.scan, pyramid, None, options, fitted, None, None, part, cancel)
                done.append((source, pyramid, masks, by_name(used.names_)))
            return done

        def finish(done: list[_Applied]) -> list[slicer.vtkMRMLSegmentationNode]:
            nodes = []
            for source, pyramid, *_rest in done:
                nodes.append(self.features.put(source, pyramid))
            written = []
            for node, (source, _pyramid, masks, palette) in zip(nodes, done, strict=True):
                written.append(segments.new(node, _("{volume} segmentation").format(volume=node.GetName())))
                segments.write_masks(written[-1], node, source.scan, masks, palette)
            return written

        return self._start(Task(run, finish, title=_("Applying the probe")))

    def saveProbeTask(self, path: str | Path) -> Task:
        """The task of `saveProbe`. It first computes the samples with which the probe adapts to other scans."""
        probe = self.probe
        if probe is None:
            raise PromptError(_("There is no probe yet. Mark a structure and the background first."))
        return self.workTask(lambda *_args: probe.save(path), _("Saving the probe"))

    def similarTask(
        self,
        volume: slicer.vtkMRMLScalarVolumeNode,
        query: ArrayLike,
        others: Sequence[slicer.vtkMRMLScalarVolumeNode] = (),
        count: int = 10,
        distance_mm: float = 20.0,
        threshold: float = 0.5,
    ) -> Task:
        """The task of `similar`; a newer search cancels an older one. Other scans that cannot be searched are skipped."""
        points, query_source = volumes.from_world(volume, query), self.features.source(volume)
        sources, refused = [query_source], {}
        for other in others:
            try:
                if other is not volume:
                    sources.append(self.features.source(other))
            except VolumeError as error:
                refused[other.GetName()] = describe_error(error)

        def run(progress: TaskProgress, cancel: CancelToken) -> Any:
            pyramids, skipped = {}, dict(refused)
            for number, source in enumerate(sources):
                step = subprogress(progress, 0.8 * number / len(sources), 0.8 * (number + 1) / len(sources))
                try:
                    pyramids[source.scan.node_id] = self.features.compute(source, step, cancel)
                except VolumeError as error:
                    if source is query_source:
                        raise
                    skipped[source.scan.name] = describe_error(error)
            step = subprogress(progress, 0.8, 1)
            query_id = query_source.scan.node_id
            results = similarity.similar(pyramids, query_id, points, count, distance_mm, threshold, step, cancel)
            return pyramids, skipped, results

        def finish(result: Any) -> list[FoundRegion]:
            pyramids, skipped, results = result
            nodes = {}
            for source in (each for each in sources if each.scan.node_id in pyramids):
                try:
                    nodes[source.scan.node_id] = self.features.put(source, pyramids[source.scan.node_id])
                except CoralBayError:
                    if source is query_source:
                        raise
                    skipped[source.scan.name] = _("It was removed or changed during the search.")
            kept = [each for each in results if each.node_id in nodes]
            self.similarities, self.skipped_scans = {each.node_id: each for each in kept}, skipped
            return rank_regions(kept, nodes, count)

        return self._start(Task(run, finish, "similar", _("Looking for similar regions")))

    def start(
        self,
        volume: slicer.vtkMRMLScalarVolumeNode | None,
        run: Callable[[FeaturePyramid, CancelToken], Any],
        finish: Callable[[Any], Any],
        lane: str,
        title: str,
    ) -> Task:
        """Start a task on a volume's features: `run(pyramid, cancel)` on the worker, `finish(result)` on the main thread."""
        source = self.features.source(volume)

        def with_features(progress: TaskProgress, cancel: CancelToken) -> tuple[FeaturePyramid, Any]:
            pyramid = self.features.compute(source, progress, cancel)
            return pyramid, run(pyramid, cancel)

        def keep_and_finish(result: tuple[FeaturePyramid, Any]) -> Any:
            self.features.put(source, result[0])
            return finish(result[1])

        return self._start(Task(with_features, keep_and_finish, lane, title))

    def workTask(self, run: Callable[[TaskProgress, CancelToken], Any], title: str) -> Task:
        """Start a task on the worker that needs no volume, and so continues when the scene is closed."""
        return self._start(Task(run, title=title, outlives_scene=True))

    def start_task(self, task: Task) -> Task:
        """Start a task once the packages are there."""
        return self._start(task)

    def _start(self, task: Task) -> Task:
        packages.ensure()
        return self.worker.start(task)
