"""The module's functions on MRML nodes, for the panels, scripts and Slicer's Python console."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import slicer
import vtk
from numpy.typing import ArrayLike, NDArray
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic
from slicer.util import VTKObservationMixin

from CoralBayLib.core.deprecation import deprecated_attribute, deprecated_parameters
from CoralBayLib.fewshot.options import Options
from CoralBayLib.fewshot.prompts import Prompts
from CoralBaySlicerCore.scene import masks, segments, volumes
from CoralBaySlicerCore.scene.parameters import CoralBaySlicerParameters, reset_damaged
from CoralBaySlicerCore.setup import encoder_files, servers, settings
from CoralBaySlicerCore.work.library import tasks as scan_library

from . import region_segments
from .batch import applyProbeToFolderTask
from .session import EncoderConfig
from .tasks import FoundRegion, Tasks

if TYPE_CHECKING:
    from CoralBayLib.features.pyramid import FeaturePyramid
    from CoralBayLib.fewshot.batch import FolderResult
    from CoralBayLib.fewshot.probe import Probe
    from CoralBayLib.library.ingest import Outcome
    from CoralBayLib.library.search import RegionHit, ScanHit

    from .region_segments import RegionSegments

PointsByName = Mapping[str, ArrayLike]
"""(N, 3) RAS mm of the world by the structure's name; the points of "background" are negative prompts."""


class CoralBaySlicerLogic(Tasks, ScriptedLoadableModuleLogic, VTKObservationMixin):
    """Embed, segment and search, from Slicer's Python console or a script.

    Methods without "Task" in their name return when the work is done. They compute on the worker thread and keep the event
    loop running, so that Slicer stays responsive. The others return a `Task` at once.

    Example, on the scan CoralBayChestCT of the module Sample Data::

        logic = slicer.util.getModuleLogic("CoralBaySlicer")
        logic.getParameterNode().encoder = "coralbay-mini"  # comes with CoralBay
        volume = slicer.util.getNode("CoralBayChestCT")
        logic.embed(volume)
        prompts = {"liver": [[42, 21, -243]], "background": [[-90, 0, -240]]}  # RAS mm
        segmentation = logic.segment(volume, prompts)
        print(slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, "liver", volume).sum(), "voxels")
        for region in logic.similar(volume, prompts["liver"], count=5):
            print(region.rank, round(region.score, 2), region.ras)
        logic.applyProbe(logic.probe, [volume])  # or on other scans; logic.saveProbe(path) saves it
    """

    choice = deprecated_attribute("choice", "encoder_config")

    def __init__(self, parent: object = None) -> None:
        settings.read_again()
        ScriptedLoadableModuleLogic.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        Tasks.__init__(self)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self._on_scene_closing)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.NodeAboutToBeRemovedEvent, self._on_node_removed)

    # -- state

    def getParameterNode(self) -> CoralBaySlicerParameters:
        """The module's parameters in the scene; those whose saved values cannot be used have their defaults."""
        node = super().getParameterNode()
        reset_damaged(node)
        return CoralBaySlicerParameters(node)

    def encoder_config(self) -> EncoderConfig:
        """The configuration of the encoder, from the parameters and this computer's settings."""
        parameters = self.getParameterNode()
        name = parameters.encoder
        return EncoderConfig(
            name,
            settings.weights_file(name),
            settings.device(),
            parameters.setting,
            parameters.assumeHU,
            encoder_files.file_of(name),
            (self.features.weights_version, *settings.weights_fingerprint(name)),
            servers.of_device(settings.device()),
        )

    def close(self) -> None:
        """End the worker; the logic cannot be used afterwards."""
        self.removeObservers()
        self.worker.close()
        self.reader.close()
        self._forget()

    # -- methods that wait for their result

    def embed(self, volume: slicer.vtkMRMLScalarVolumeNode) -> FeaturePyramid:
        """Compute a volume's features, or read them from the store.

        Returns:
            The library's FeaturePyramid.

        Raises:
            CoralBayError: the volume is not a CT, weights are missing, memory is too small, ...; the message says what to do.
        """
        return self.worker.wait(self.embedTask(volume))

    def segment(
        self,
        volume: slicer.vtkMRMLScalarVolumeNode,
        prompts: PointsByName,
        segmentation: slicer.vtkMRMLSegmentationNode | None = None,
        threshold: float = 0.5,
        connected: bool = True,
        locked: slicer.vtkMRMLSegmentationNode | None = None,
        start: slicer.vtkMRMLSegmentationNode | None = None,
    ) -> slicer.vtkMRMLSegmentationNode:
        """Segment structures from a few points.

        Args:
            volume: a CT; its features are computed first if necessary.
            prompts: points by structure; see `PointsByName`.
            segmentation: the node to write to; a new node by default.
            threshold: probability from 0 to 1 from which a voxel belongs to a structure.
            connected: keep only the connected components that contain a prompt.
            locked: a segmentation whose visible segments must not be touched, but for those named as a structure.
            start: a segmentation with segments to correct, those named as a structure.

        Returns:
            The vtkMRMLSegmentationNode.

        Raises:
            CoralBayError: as for `embed`, or the prompts or segments cannot be used.
        """
        options, points = Options(threshold, connected), self.prompts_of(volume, prompts)
        bounds = masks.read(
            volume,
            [(locked, masks.lockable(locked, points.names.values()))] if locked is not None else [],
            [(start, masks.named(start, points.names))] if start is not None else [],
        )
        return self.worker.wait(self.segmentTask(volume, points, segmentation, options, masks=bounds))

    def similar(
        self,
        volume: slicer.vtkMRMLScalarVolumeNode,
        query: ArrayLike,
        others: Sequence[slicer.vtkMRMLScalarVolumeNode] = (),
        count: int = 10,
        distance_mm: float = 20.0,
        threshold: float = 0.5,
    ) -> list[FoundRegion]:
        """Find regions that are similar to a query.

        Args:
            volume: the CT that the query points lie in.
            query: (N, 3) RAS mm of the world; the features of several points are averaged.
            others: further volumes to search.
            count: most regions to return.
            distance_mm: least distance between two peaks.
            threshold: similarity, from 0 to 1, down to which a region extends.

        Raises:
            CoralBayError: as for `embed`, or the query lies outside the volume.
        """
        return self.worker.wait(self.similarTask(volume, query, others, count, distance_mm, threshold))

    def segmentRegions(self, volume: slicer.vtkMRMLScalarVolumeNode) -> RegionSegments:
        """Make a segment of its own of each region that the last search found in a volume.

        Returns:
            `RegionSegments`: the new segmentation, and a table node with volume, mean HU, position and similarity.

        Raises:
            CoralBayError: nothing was found in this volume.
        """
        return self.worker.wait(region_segments.from_search(self, volume))

    def applyProbe(
        self, probe: Probe | str | Path, targets: Sequence[slicer.vtkMRMLScalarVolumeNode], threshold: float = 0.5
    ) -> list[slicer.vtkMRMLSegmentationNode]:
        """Segment volumes with an existing probe.

        Args:
            probe: the library's Probe, or the path of one.
            targets: volumes.
            threshold: probability from 0 to 1.

        Returns:
            A new vtkMRMLSegmentationNode for each volume.
        """
        return self.worker.wait(self.applyProbeTask(probe, targets, threshold))

    def applyProbeToFolder(
        self, probe: Probe | str | Path, folder: str | Path, threshold: float = 0.5, overwrite: bool = False
    ) -> FolderResult:
        """Segment every scan of a folder into `<name>.seg.nrrd` in it, without loading them into the scene.

        Args:
            probe: the library's Probe, or the path of one.
            folder: with NRRD, NIfTI or MHA files, or subfolders with a DICOM series each.
            threshold: probability from 0 to 1.
            overwrite: whether existing segmentations are replaced; otherwise their scans are skipped.

        Returns:
            The library's `FolderResult`: `written` and `failed`, with the error of each scan that could not be segmented.

        Raises:
            CoralBayError: the folder contains no scan, or the probe was made with another encoder.
        """
        return self.worker.wait(applyProbeToFolderTask(self, probe, folder, threshold, overwrite))

    def addToLibrary(self, scans: Sequence[str | Path], folder: str | Path = "") -> list[Outcome]:
        """Add scans to a library; the features of new scans are computed, which may take long.

        Args:
            scans: files and folders.
            folder: of the library; the default location if "".

        Returns:
            The library's `Outcome` of each scan.

        Raises:
            CoralBayError: the library cannot be used or written.
        """
        paths = [str(scan) for scan in scans]
        return self.worker.wait(scan_library.addTask(self, str(folder), lambda *_args: paths, []))

    @deprecated_parameters(others="exclude_query_scan")
    def searchLibrary(
        self,
        volume: slicer.vtkMRMLScalarVolumeNode,
        query: ArrayLike | None,
        folder: str | Path = "",
        count: int = 10,
        distance_mm: float = 20.0,
        exclude_query_scan: bool = True,
    ) -> list[RegionHit] | list[ScanHit]:
        """Find regions of a library that are similar to a query, or scans that are similar to a scan.

        Args:
            volume: the CT that the query points lie in; it need not be in the library.
            query: (N, 3) RAS mm of the world; the features of several points are averaged. None for the whole scan.
            folder: of the library; the default location if "".
            count: most results to return.
            distance_mm: least distance between regions of one scan.
            exclude_query_scan: whether to skip the scan of the query.

        Returns:
            The library's `RegionHit`s, with `ras` in the space of their own scans; or its `ScanHit`s.

        Raises:
            CoralBayError: as for `embed`, or the library cannot be used.
        """
        task = scan_library.searchTask(self, str(folder), volume, query, count, distance_mm, exclude_query_scan)
        return self.worker.wait(task)

    def saveProbe(self, path: str | Path) -> None:
        """Write the probe of the last segmentation or preview."""
        self.worker.wait(self.saveProbeTask(path))

    def prompts_of(self, volume: slicer.vtkMRMLScalarVolumeNode, prompts: PointsByName) -> Prompts:
        """Prompts in the volume's own space from points by structure (RAS mm of the world)."""
        points: list[NDArray[np.float64]] = [np.empty((0, 3))]
        labels = [np.empty(0, np.int64)]
        names: dict[int, str] = {}
        for name, given in prompts.items():
            label = 0 if segments.is_background(name) else len(names) + 1
            if label:
                names[label] = name
            points.append(volumes.from_world(volume, given))
            labels.append(np.full(len(points[-1]), label))
        return Prompts(np.concatenate(points), np.concatenate(labels), names)

    # -- internal

    def _forget(self) -> None:
        self.features.forget()
        self.similarities.clear()
        self.skipped_scans.clear()
        self.undo.clear()
        self.probe = None

    def _on_scene_closing(self, caller: object, event: str) -> None:
        self.worker.scene_closes()
        self.reader.scene_closes()
        self.overlays.forget()
        self._forget()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _on_node_removed(self, caller: object, event: str, node: slicer.vtkMRMLNode) -> None:
        self.features.forget(node.GetID())
        self.similarities.pop(node.GetID(), None)
