"""Loading and saving through MRML's storage nodes and module logics."""

from pathlib import Path
from typing import Any

import slicer
from host.qt.pythonqt import shim
from PySide6 import QtCore

_TYPES = {
    ".mrml": "SceneFile",
    ".mrb": "SceneFile",
    ".seg.nrrd": "SegmentationFile",
    ".seg.nhdr": "SegmentationFile",
    ".mrk.json": "MarkupsFile",
    ".fcsv": "MarkupsFile",
    ".nrrd": "VolumeFile",
    ".nhdr": "VolumeFile",
    ".nii.gz": "VolumeFile",
    ".nii": "VolumeFile",
    ".mha": "VolumeFile",
    ".h5": "TransformFile",
    ".tfm": "TransformFile",
    ".vtk": "ModelFile",
    ".stl": "ModelFile",
    ".ply": "ModelFile",
    ".csv": "TableFile",
    ".tsv": "TableFile",
    ".txt": "TextFile",
}


@shim
class qSlicerIOManager(QtCore.QObject):
    """Header: Slicer Base/QTGUI/qSlicerIOManager.h (and Base/QTCore/qSlicerCoreIOManager.h)."""

    def fileType(self, path: str) -> str:
        suffix = next((suffix for suffix in _TYPES if path.lower().endswith(suffix)), "")
        return _TYPES.get(suffix, "NoFile")

    def fileWriterFileType(self, node: Any, extension: str = "") -> str:
        return "NodeFile"

    def loadNodes(self, kind: str, properties: dict, loaded: Any = None, messages: Any = None) -> bool:
        path = str(properties["fileName"])
        if not Path(path).exists():
            return False
        if kind == "SceneFile":
            return self.loadScene(path, properties.get("clear", True))
        node = self._load(kind, path, properties)
        if node is None:
            return False
        if properties.get("name"):
            node.SetName(properties["name"])
        if loaded is not None:
            loaded.AddItem(node)
        return True

    def _load(self, kind: str, path: str, properties: dict) -> Any:
        modules, name = slicer.modules, Path(path).name.split(".")[0]
        if kind == "VolumeFile":
            options = int(bool(properties.get("labelmap")))
            node = modules.volumes.logic().AddArchetypeVolume(path, name, options)
            if node is not None and properties.get("show", True):
                slicer.app.applicationLogic().GetSelectionNode().SetActiveVolumeID(node.GetID())
                slicer.app.applicationLogic().PropagateVolumeSelection()
            return node
        if kind == "SegmentationFile":
            return modules.segmentations.logic().LoadSegmentationFromFile(path)
        if kind == "MarkupsFile":
            return slicer.mrmlScene.GetNodeByID(modules.markups.logic().LoadMarkups(path, name) or "")
        if kind == "ModelFile":
            return modules.models.logic().AddModel(path)
        if kind == "TransformFile":
            return modules.transforms.logic().AddTransform(path, slicer.mrmlScene)
        if kind == "TableFile":
            return modules.tables.logic().AddTable(path)
        return None

    def loadScene(self, path: str, clear: bool = True, messages: Any = None) -> bool:
        scene = slicer.mrmlScene
        if path.lower().endswith(".mrb"):
            return bool(scene.ReadFromMRB(path, clear))
        scene.SetURL(path)
        return bool(scene.Connect() if clear else scene.Import())

    def saveNodes(self, kind: str, properties: dict, messages: Any = None, scene: Any = None) -> bool:
        path = str(properties["fileName"])
        scene = scene or slicer.mrmlScene
        if kind == "SceneFile":
            if path.lower().endswith(".mrb"):
                return bool(scene.WriteToMRB(path, None))
            if path.lower().endswith(".mrml"):
                return bool(scene.Commit(path))
            Path(path).mkdir(parents=True, exist_ok=True)
            return bool(slicer.app.applicationLogic().SaveSceneToSlicerDataBundleDirectory(path, None))
        node = scene.GetNodeByID(properties["nodeID"])
        storage = node.CreateDefaultStorageNode()
        storage.UnRegister(None)
        storage.SetFileName(path)
        storage.SetUseCompression(properties.get("useCompression", 1))
        return bool(storage.WriteData(node))
