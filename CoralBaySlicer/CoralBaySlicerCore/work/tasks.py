"""The verbs that return at once: what is computed on the worker, and what then changes in the scene."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer
from numpy.typing import ArrayLike
from slicer.i18n import tr as _

from CoralBayLib.core.errors import CoralBayError, PromptError, VolumeError
from CoralBayLib.core.progress import CancelToken, Progress, subprogress
from CoralBayLib.fewshot.options import Options
from CoralBayLib.fewshot.prompts import Prompts
from CoralBaySlicerCore.scene import segments, surfaces, volumes
from CoralBaySlicerCore.scene.colors import by_name
from CoralBaySlicerCore.scene.overlays import Overlays
from CoralBaySlicerCore.setup import packages
from CoralBaySlicerCore.work.compute import similarity
from CoralBaySlicerCore.work.compute.segmentation import segmentation_of

from .features import Features
from .session import Choice
from .worker import Task, Worker, describe_error


@dataclass(frozen=True)
class FoundRegion:
    """A region that looks like the query.

    Attributes:
        node_id, volume: the scan it lies in.
        rank: from 1, over all scans searched.
        ras: its peak, RAS mm of the world.
        score: similarity there, at most 1.
        volume_ml: of the connected piece around it, in millilitres.
        within: rank of the region whose piece it lies in, when that is another's; else 0.
    """

    node_id: str
    volume: str
    rank: int
    ras: tuple[float, float, float]
    score: float
    volume_ml: float
    within: int = 0


class Tasks:
    """Starts work on volume nodes. Each method returns a `Task`, whose result is said in its description.

    Args:
        choice: tells which encoder is chosen now.

    Attributes:
        worker: the one thread that computes.
        reader: another one, which only reads files and so does not keep the user waiting while that one computes.
        features: of the volumes.
        overlays: the maps in the slice views.
        undo: states of segmentations before they were written to.
        probe: the last one that was fitted or loaded.
        similarities: the last search, by the volume's node ID.
        left_out: why scans could not be searched then, in words, by the scan's name.
    """

    def __init__(self, choice: Callable[[], Choice]) -> None:
        self.worker = Worker()
        self.reader = Worker()
        self.features = Features(self.worker, choice)
        self.overlays = Overlays()
        self.undo = segments.Undo()
        self.probe: Any = None
        self.similarities: dict[str, similarity.Similarity] = {}
        self.left_out: dict[str, str] = {}

    def embedTask(self, volume: Any) -> Task:
        """As `embed`."""
        source = self.features.source(volume)

        def run(progress: Progress, cancel: CancelToken) -> Any:
            return self.features.compute(source, progress, cancel)

        def finish(pyramid: Any) -> Any:
            self.features.put(source, pyramid)
            return pyramid

        return self._start(Task(run, finish, title=_("Computing features of {name}").format(name=source.scan.name)))

    def storedTask(self, volume: Any) -> Task:
        """Fetch a volume's features from the store if they are there; the result is None otherwise."""
        source = self.features.source(volume)

        def finish(pyramid: Any) -> Any:
            if pyramid is not None:
                self.features.put(source, pyramid)
            return pyramid

        return self._start(Task(lambda *_: self.features.stored(source), finish, "stored", _("Looking for stored features")))

    def segmentTask(
        self,
        volume: Any,
        prompts: Prompts,
        segmentation: Any = None,
        options: Options | None = None,
        probe: Any = None,
        colors: Mapping[str, Any] | None = None,
        segmenter: Any = None,
    ) -> Task:
        """As `segment`, with prompts as `prompts_of` gives them or with a probe.

        Args:
            volume: the scan's node.
            prompts: in the volume's own space.
            segmentation: where to write; a new node by default.
            options: the library's `Options`, or None for the defaults.
            probe: a probe that was made elsewhere, or None.
            colors: of new segments, by name.
            segmenter: the library's `Segmenter` of a preview, whose fit is used again if it has these features and prompts.
        """
        source = self.features.source(volume)
        target = segmentation.GetID() if segmentation is not None else None
        if segmentation is not None:
            segments.way_to(segmentation, volume)

        def run(progress: Progress, cancel: CancelToken) -> Any:
            pyramid = self.features.compute(source, subprogress(progress, 0, 0.8), cancel)
            known = segmenter if segmenter is not None and segmenter.pyramid is pyramid else None
            part = subprogress(progress, 0.8, 1)
            return pyramid, segmentation_of(source.scan, pyramid, prompts, options, probe, known, part, cancel)

        def finish(result: Any) -> Any:
            pyramid, (masks, fitted) = result
            own = self.features.put(source, pyramid)
            node = slicer.mrmlScene.GetNodeByID(target) if target else None
            if target and node is None:
                raise CoralBayError(_("The segmentation was removed during the computation. Choose another and apply again."))
            node = node or segments.new(own, _("{volume} segmentation").format(volume=own.GetName()))
            surfaces.remove(node)
            self.undo.save(node)
            segments.write_masks(node, own, source.scan, masks, dict(colors or by_name(fitted.names_)))
            self.probe = fitted
            return node

        return self._start(Task(run, finish, title=_("Segmenting")))

    def surfacesTask(self, segmentation: Any) -> Task:
        """Show the segments of a segmentation in the 3D views; a newer call stops an older one."""
        node_id, solids = segmentation.GetID(), surfaces.read(segmentation)

        def run(progress: Progress, cancel: CancelToken) -> Any:
            return surfaces.build(solids, progress, cancel)

        def finish(made: Any) -> Any:
            node = slicer.mrmlScene.GetNodeByID(node_id)
            if node is not None:
                surfaces.put(node, made)
            return node

        return self.worker.start(Task(run, finish, "surfaces", _("Making surfaces")))

    def applyProbeTask(self, probe: Any, targets: Sequence[Any], threshold: float = 0.5) -> Task:
        """As `applyProbe`. Nothing is written before all volumes are done."""
        options = Options(threshold)
        if not targets:
            raise CoralBayError(_("Choose at least one volume to apply the probe to."))
        sources = [self.features.source(volume) for volume in targets]

        def run(progress: Progress, cancel: CancelToken) -> Any:
            from CoralBayLib.fewshot.probe import Probe

            fitted = Probe.load(probe) if isinstance(probe, (str, Path)) else probe
            done = []
            for number, source in enumerate(sources):
                own = subprogress(progress, number / len(sources), (number + 1) / len(sources))
                pyramid = self.features.compute(source, subprogress(own, 0, 0.8), cancel)
                part = subprogress(own, 0.8, 1)
                masks, used = segmentation_of(source.scan, pyramid, None, options, fitted, None, part, cancel)
                done.append((source, pyramid, masks, by_name(used.names_)))
            return done

        def finish(done: Any) -> list[Any]:
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
        """As `saveProbe`. What a probe keeps of its scan is made now, which takes a moment."""
        probe = self.probe
        if probe is None:
            raise PromptError(_("There is no probe yet. Mark a structure and the background first."))
        return self.workTask(lambda *_args: probe.save(path), _("Saving the probe"))

    def similarTask(
        self,
        volume: Any,
        query: ArrayLike,
        others: Sequence[Any] = (),
        count: int = 10,
        distance_mm: float = 20.0,
        threshold: float = 0.5,
    ) -> Task:
        """As `similar`; a newer search stops an older one. Another scan that cannot be searched is left out."""
        points, home = volumes.from_world(volume, query), self.features.source(volume)
        sources, refused = [home], {}
        for other in others:
            try:
                if other is not volume:
                    sources.append(self.features.source(other))
            except VolumeError as error:
                refused[other.GetName()] = describe_error(error)

        def run(progress: Progress, cancel: CancelToken) -> Any:
            pyramids, left_out = {}, dict(refused)
            for number, source in enumerate(sources):
                own = subprogress(progress, 0.8 * number / len(sources), 0.8 * (number + 1) / len(sources))
                try:
                    pyramids[source.scan.node_id] = self.features.compute(source, own, cancel)
                except VolumeError as error:
                    if source is home:
                        raise
                    left_out[source.scan.name] = describe_error(error)
            own = subprogress(progress, 0.8, 1)
            home_id = home.scan.node_id
            return pyramids, left_out, similarity.similar(pyramids, home_id, points, count, distance_mm, threshold, own, cancel)

        def finish(result: Any) -> list[FoundRegion]:
            pyramids, self.left_out, found = result
            used = [source for source in sources if source.scan.node_id in pyramids]
            nodes = {source.scan.node_id: self.features.put(source, pyramids[source.scan.node_id]) for source in used}
            self.similarities = {each.node_id: each for each in found}
            return _ranked(found, nodes, count)

        return self._start(Task(run, finish, "similar", _("Looking for similar regions")))

    def start(
        self, volume: Any, run: Callable[[Any, CancelToken], Any], finish: Callable[[Any], Any], lane: str, title: str
    ) -> Task:
        """Start other work on a volume's features: `run(pyramid, cancel)` on the worker, `finish(result)` here."""
        source = self.features.source(volume)

        def with_features(progress: Progress, cancel: CancelToken) -> Any:
            pyramid = self.features.compute(source, progress, cancel)
            return pyramid, run(pyramid, cancel)

        def keep_and_finish(result: Any) -> Any:
            self.features.put(source, result[0])
            return finish(result[1])

        return self._start(Task(with_features, keep_and_finish, lane, title))

    def workTask(self, run: Callable[[Progress, CancelToken], Any], title: str) -> Task:
        """Start work on the worker that needs no volume."""
        return self._start(Task(run, title=title))

    def _start(self, task: Task) -> Task:
        packages.ensure()
        return self.worker.start(task)


def _ranked(found: list[similarity.Similarity], nodes: dict[str, Any], count: int) -> list[FoundRegion]:
    """The best regions over all scans."""
    everything = []
    for each in found:
        world = volumes.to_world(nodes[each.node_id], each.places)
        for number, (score, place, millilitres) in enumerate(zip(each.scores, world, each.volumes_ml, strict=True)):
            everything.append((float(score), each, number, place, float(millilitres)))
    everything = sorted(everything, key=lambda entry: -entry[0])[:count]
    # A piece's highest peak comes before its others, so it has a rank when they are listed.
    ranks = {(each.node_id, number): rank for rank, (_s, each, number, _p, _v) in enumerate(everything, start=1)}
    regions = []
    for rank, (score, each, number, place, millilitres) in enumerate(everything, start=1):
        node, leader = nodes[each.node_id], int(each.leaders[number])
        within = 0 if leader == number else ranks[each.node_id, leader]
        ras = tuple(float(part) for part in place)
        regions.append(FoundRegion(node.GetID(), node.GetName(), rank, ras, score, millilitres, within))
    return regions
