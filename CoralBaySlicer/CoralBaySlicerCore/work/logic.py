"""The verbs on MRML nodes, for the panels and for Slicer's Python console."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import ArrayLike
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic
from slicer.util import VTKObservationMixin

from CoralBayLib.fewshot.options import Options
from CoralBayLib.fewshot.prompts import Prompts
from CoralBaySlicerCore.scene import segments, volumes
from CoralBaySlicerCore.scene.parameters import CoralBaySlicerParameters
from CoralBaySlicerCore.setup import encoder_files, settings

from . import scan_library
from .batch import applyProbeToFolderTask
from .session import Choice
from .tasks import FoundRegion, Tasks

PointsByName = Mapping[str, ArrayLike]
"""(N, 3) RAS points of the world by the structure's name; those of "background" are negative."""


class CoralBaySlicerLogic(Tasks, ScriptedLoadableModuleLogic, VTKObservationMixin):
    """Embed, segment and search, from Slicer's Python console or a script.

    The verbs without "Task" in their name return when the work is done. They compute on the worker thread and keep the
    event loop running meanwhile, so Slicer stays responsive. The others return a `Task` at once.

    Example, on the scan CoralBayChestCT of the module Sample Data::

        logic = slicer.util.getModuleLogic("CoralBaySlicer")
        logic.getParameterNode().encoder = "coralbay-mini"  # comes with CoralBay; other encoders by their names
        volume = slicer.util.getNode("CoralBayChestCT")
        logic.embed(volume)
        prompts = {"liver": [[42, 21, -243]], "background": [[-90, 0, -240]]}  # RAS mm
        segmentation = logic.segment(volume, prompts)
        print(slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, "liver", volume).sum(), "voxels")
        for region in logic.similar(volume, prompts["liver"], count=5):
            print(region.rank, round(region.score, 2), region.ras)
        logic.applyProbe(logic.probe, [volume])  # or on other scans; logic.saveProbe(path) keeps it
    """

    def __init__(self, parent: Any = None) -> None:
        settings.read_again()
        ScriptedLoadableModuleLogic.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        Tasks.__init__(self, self.choice)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self._on_scene_closing)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.NodeAboutToBeRemovedEvent, self._on_node_removed)

    # -- state

    def getParameterNode(self) -> CoralBaySlicerParameters:
        """The module's parameters in the scene."""
        return CoralBaySlicerParameters(super().getParameterNode())

    def choice(self) -> Choice:
        """The encoder and how it is run, from the parameters and this computer's settings."""
        parameters = self.getParameterNode()
        name = parameters.encoder
        return Choice(
            name,
            settings.weights_file(name),
            settings.device(),
            parameters.setting,
            parameters.assumeHU,
            encoder_files.file_of(name),
            (self.features.weights_version, *settings.weights_fingerprint(name)),
        )

    def close(self) -> None:
        """End the worker; the logic cannot be used afterwards."""
        self.removeObservers()
        self.worker.close()
        self.reader.close()
        self._forget()

    # -- verbs that wait

    def embed(self, volume: Any) -> Any:
        """Compute a volume's features, or fetch them from the store.

        Returns:
            The library's FeaturePyramid.

        Raises:
            CoralBayError: the volume is no CT, there are no weights, too little memory, ...; says what to do.
        """
        return self.worker.wait(self.embedTask(volume))

    def segment(
        self, volume: Any, prompts: PointsByName, segmentation: Any = None, threshold: float = 0.5, connected: bool = True
    ) -> Any:
        """Segment structures from a few points.

        Args:
            volume: a CT; it is embedded first if need be.
            prompts: points by structure; see `PointsByName`.
            segmentation: where to write; a new node by default.
            threshold: probability from 0 to 1 from which a voxel belongs to a structure.
            connected: keep only the pieces that a point touches.

        Returns:
            The vtkMRMLSegmentationNode.

        Raises:
            CoralBayError: as `embed`, or the prompts cannot be used.
        """
        options = Options(threshold, connected)
        return self.worker.wait(self.segmentTask(volume, self.prompts_of(volume, prompts), segmentation, options))

    def similar(
        self,
        volume: Any,
        query: ArrayLike,
        others: Sequence[Any] = (),
        count: int = 10,
        distance_mm: float = 20.0,
        threshold: float = 0.5,
    ) -> list[FoundRegion]:
        """Find regions that look like a query.

        Args:
            volume: the CT the query points lie in.
            query: (N, 3) RAS points of the world; several count as their average.
            others: further volumes to search.
            count: most regions to return.
            distance_mm: between any two of them.
            threshold: similarity from 0 to 1 to which a region reaches.

        Raises:
            CoralBayError: as `embed`, or the query lies outside the volume.
        """
        return self.worker.wait(self.similarTask(volume, query, others, count, distance_mm, threshold))

    def applyProbe(self, probe: Any, targets: Sequence[Any], threshold: float = 0.5) -> list[Any]:
        """Segment volumes with a probe that was made before.

        Args:
            probe: the library's Probe, or the path of one.
            targets: volumes.
            threshold: probability from 0 to 1.

        Returns:
            A new vtkMRMLSegmentationNode for each volume.
        """
        return self.worker.wait(self.applyProbeTask(probe, targets, threshold))

    def applyProbeToFolder(self, probe: Any, folder: str | Path, threshold: float = 0.5, overwrite: bool = False) -> Any:
        """Segment every scan of a folder into `<name>.seg.nrrd` in it, without loading them into the scene.

        Args:
            probe: the library's Probe, or the path of one.
            folder: with NRRD, NIfTI or MHA files, or subfolders with a DICOM series each.
            threshold: probability from 0 to 1.
            overwrite: whether segmentations that are there already are replaced; left out otherwise.

        Returns:
            The library's `FolderResult`: `written` and `failed`, the latter with the error of each scan that could not be used.

        Raises:
            CoralBayError: there is nothing like a scan in the folder, or the probe is of another encoder.
        """
        return self.worker.wait(applyProbeToFolderTask(self, probe, folder, threshold, overwrite))

    def addToLibrary(self, scans: Sequence[str | Path], folder: str | Path = "") -> list[Any]:
        """Add files, and the scans of folders, to a library of scans; what is new is embedded, which may take long.

        Args:
            scans: files and folders.
            folder: the library's; the usual place by default.

        Returns:
            What has become of each scan: the library's `Outcome`s.

        Raises:
            CoralBayError: the library cannot be used or written.
        """
        paths = [str(scan) for scan in scans]
        return self.worker.wait(scan_library.addTask(self, str(folder), lambda *_args: paths, []))

    def searchLibrary(
        self,
        volume: Any,
        query: ArrayLike | None,
        folder: str | Path = "",
        count: int = 10,
        distance_mm: float = 20.0,
        others: bool = True,
    ) -> list[Any]:
        """Find regions of a library of scans that look like a query, or scans that look like one.

        Args:
            volume: the CT the query points lie in, which need not be in the library.
            query: (N, 3) RAS points of the world; several count as their average. None for the whole scan.
            folder: the library's; the usual place by default.
            count: most to return.
            distance_mm: between regions of one scan.
            others: leave out the scan the query is from.

        Returns:
            The library's `RegionHit`s, whose `ras` are in the space of their own scans; or its `ScanHit`s.

        Raises:
            CoralBayError: as `embed`, or the library cannot be used.
        """
        return self.worker.wait(scan_library.searchTask(self, str(folder), volume, query, count, distance_mm, others))

    def saveProbe(self, path: str | Path) -> None:
        """Write the probe of the last segmentation or preview."""
        self.worker.wait(self.saveProbeTask(path))

    def prompts_of(self, volume: Any, prompts: PointsByName) -> Prompts:
        """Points by structure, in RAS of the world, as prompts in the volume's own space."""
        points, labels, names = [np.empty((0, 3))], [np.empty(0, np.int64)], {}
        for name, given in prompts.items():
            label = 0 if segments.is_background(name) else len(names) + 1
            if label:
                names[label] = name
            own = volumes.from_world(volume, given)
            points.append(own)
            labels.append(np.full(len(own), label))
        return Prompts(np.concatenate(points), np.concatenate(labels), names)

    # -- inner workings

    def _forget(self) -> None:
        self.features.forget()
        self.similarities.clear()
        self.left_out.clear()
        self.undo.clear()
        self.probe = None

    def _on_scene_closing(self, caller: Any, event: Any) -> None:
        self.worker.scene_closes()
        self.reader.scene_closes()
        self.overlays.forget()
        self._forget()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _on_node_removed(self, caller: Any, event: Any, node: Any) -> None:
        self.features.forget(node.GetID())
        self.similarities.pop(node.GetID(), None)
