"""The subject hierarchy, which Qt plugins of Slicer keep."""

import logging
from typing import Any

import slicer
import vtk

from . import lifecycle


class Hierarchy:
    """Keeps the subject hierarchy as a Qt plugin of Slicer's does: an item for each node that a user sees."""

    _CLASSES = (
        "vtkMRMLVolumeNode",
        "vtkMRMLSegmentationNode",
        "vtkMRMLMarkupsNode",
        "vtkMRMLModelNode",
        "vtkMRMLTransformNode",
        "vtkMRMLTableNode",
        "vtkMRMLTextNode",
        "vtkMRMLPlotChartNode",
        "vtkMRMLPlotSeriesNode",
    )

    def __init__(self, scene: Any) -> None:
        self._scene = scene
        self._callbacks = (self._on_added, self._on_removed)
        for callback in self._callbacks:
            callback.__func__.CallDataType = vtk.VTK_OBJECT
        scene.AddObserver(slicer.vtkMRMLScene.NodeAddedEvent, self._on_added)
        scene.AddObserver(slicer.vtkMRMLScene.NodeAboutToBeRemovedEvent, self._on_removed)
        scene.AddObserver(slicer.vtkMRMLScene.EndImportEvent, self._on_imported)

    def _wanted(self, node: Any) -> bool:
        return not node.GetHideFromEditors() and any(node.IsA(name) for name in self._CLASSES)

    def _add(self, node: Any) -> None:
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(self._scene)
        if self._wanted(node) and not hierarchy.GetItemByDataNode(node):
            hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)

    def _on_added(self, scene: Any, event: str, node: Any) -> None:
        if node.IsA("vtkMRMLSegmentationNode"):
            # Slicer never takes this observer off: it ends with the node.
            node.AddObserver(slicer.vtkMRMLDisplayableNode.DisplayModifiedEvent, self._on_display_modified)
        # While a scene is imported its own hierarchy has not been merged yet.
        if not scene.IsImporting():
            self._add(node)

    def _on_imported(self, scene: Any, event: str) -> None:
        for index in range(scene.GetNumberOfNodes()):
            self._add(scene.GetNthNode(index))

    def _on_removed(self, scene: Any, event: str, node: Any) -> None:
        if scene.IsClosing():
            return
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
        if not self._wanted(node) or hierarchy is None:
            return
        item = hierarchy.GetItemByDataNode(node)
        if item:
            hierarchy.RemoveItem(item, False, False)

    def _on_display_modified(self, node: Any, event: str) -> None:
        """What Slicer's plugin for segmentations does: it updates the items of the segments, and cannot without the node's own.

        A segmentation that is still held by somebody when the scene closes outlives its item, and comes here when its
        display node goes.
        """
        if self._scene.IsImporting() or node.GetHideFromEditors():
            return
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(self._scene)
        if hierarchy is None or not hierarchy.GetItemByDataNode(node):
            text = f"Unable to find subject hierarchy item for segmentation node {node.GetName()}"
            logging.getLogger("slicer").critical(text)
            lifecycle.unhandled.append(text)
            lifecycle._log(text)
