"""The MRML scene with the logics that Slicer's own modules put on it."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import slicer
import vtk

from .hierarchy import Hierarchy

# Module name in Slicer -> logic class in the wheel.
_LOGICS = {
    "Colors": "vtkSlicerColorLogic",
    "Units": "vtkSlicerUnitsLogic",
    "Volumes": "vtkSlicerVolumesLogic",
    "Terminologies": "vtkSlicerTerminologiesModuleLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Data": "vtkSlicerDataModuleLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "VolumeRendering": "vtkSlicerVolumeRenderingLogic",
    "CropVolume": "vtkSlicerCropVolumeLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Plots": "vtkSlicerPlotsLogic",
    "Models": "vtkSlicerModelsLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Cameras": "vtkSlicerCamerasModuleLogic",
    "Sequences": "vtkSlicerSequencesLogic",
    "Texts": "vtkSlicerTextsLogic",
    "ViewControllers": "vtkSlicerViewControllersLogic",
}


@contextlib.contextmanager
def quiet_vtk() -> Iterator[None]:
    """Silence VTK's log for a moment."""
    vtk.vtkLogger.SetStderrVerbosity(vtk.vtkLogger.VERBOSITY_OFF)
    try:
        yield
    finally:
        vtk.vtkLogger.SetStderrVerbosity(vtk.vtkLogger.VERBOSITY_WARNING)


class Scene:
    """A MRML scene, its application logic and the module logics, as they stand after Slicer's start."""

    def __init__(self, cache: str) -> None:
        self.node = slicer.vtkMRMLScene()
        # Scene bundles are unpacked into the cache of the data manager.
        self._remote = slicer.vtkMRMLRemoteIOLogic()
        self._remote.SetMRMLScene(self.node)
        self._remote.AddDataIOToScene()
        self._remote.GetCacheManager().SetRemoteCacheDirectory(cache)
        self.application_logic = slicer.vtkSlicerApplicationLogic()
        self.logics: dict[str, Any] = {}
        # The color and terminology files that the logics look for are not in the wheel.
        with quiet_vtk():
            self.application_logic.SetMRMLScene(self.node)
            for name, class_name in _LOGICS.items():
                logic = getattr(slicer, class_name)()
                logic.SetMRMLApplicationLogic(self.application_logic)
                logic.SetMRMLScene(self.node)
                self.application_logic.SetModuleLogic(name, logic)
                self.logics[name] = logic
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(self.node)
        crosshair = slicer.vtkMRMLCrosshairNode()
        crosshair.SetCrosshairName("default")
        self.node.AddNode(crosshair)
        self._add_colors()
        self._hierarchy = Hierarchy(self.node)
        for event in (slicer.vtkMRMLScene.NodeAddedEvent, slicer.vtkMRMLScene.NodeRemovedEvent):
            self.node.AddObserver(event, _check_thread)

    def _add_colors(self) -> None:
        """The color nodes that Slicer reads from files and modules name by ID."""
        if self.node.GetNodeByID("vtkMRMLColorTableNodeFileGenericColors.txt") is None:
            generic = slicer.vtkMRMLColorTableNode()
            generic.SetTypeToRandom()
            generic.SetName("GenericColors")
            generic.SetSingletonTag("FileGenericColors.txt")
            generic.SetHideFromEditors(False)
            generic.SaveWithSceneOff()
            self.node.AddNode(generic)
        for tag, name, stops in _MAPS:
            if self.node.GetNodeByID(f"vtkMRMLColorTableNode{tag}") is None:
                self.node.AddNode(_color_table(tag, name, stops))


def _check_thread(scene: Any, event: str) -> None:
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError(f"{event} from {threading.current_thread().name}: MRML belongs to the main thread")


# Shapes of the color tables that come with Slicer as files, sampled coarsely.
_MAPS = (
    ("FileViridis.txt", "Viridis", ((0.27, 0, 0.33), (0.23, 0.32, 0.55), (0.13, 0.57, 0.55), (0.99, 0.91, 0.14))),
    ("FilePlasma.txt", "Plasma", ((0.05, 0.03, 0.53), (0.61, 0.09, 0.62), (0.93, 0.47, 0.33), (0.94, 0.98, 0.13))),
    ("FileInferno.txt", "Inferno", ((0, 0, 0.01), (0.47, 0.11, 0.43), (0.93, 0.41, 0.15), (0.99, 1, 0.64))),
    ("FileMagma.txt", "Magma", ((0, 0, 0.01), (0.45, 0.12, 0.51), (0.95, 0.38, 0.36), (0.99, 0.99, 0.75))),
    ("FileColdToHotRainbow.txt", "ColdToHotRainbow", ((0, 0, 1), (0, 1, 1), (1, 1, 0), (1, 0, 0))),
)


def _color_table(tag: str, name: str, stops: tuple[tuple[float, float, float], ...]) -> Any:
    ramp = vtk.vtkColorTransferFunction()
    for index, color in enumerate(stops):
        ramp.AddRGBPoint(index / (len(stops) - 1), *color)
    table = slicer.vtkMRMLColorTableNode()
    table.SetTypeToUser()
    table.SetNumberOfColors(256)
    for index in range(256):
        table.SetColor(index, f"{name} {index}", *ramp.GetColor(index / 255), 1.0)
    table.GetLookupTable().SetRange(0, 255)
    table.SetName(name)
    table.SetSingletonTag(tag)
    table.SaveWithSceneOff()
    table.SetAttribute("Category", "Continuous")
    return table
