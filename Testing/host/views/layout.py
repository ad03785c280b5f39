"""The four views side by side, as Slicer's "Four-Up" layout shows them."""

from typing import Any

import slicer
import vtk
from host.qt.pythonqt import shim
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property, Signal

from .qmrml_views import qMRMLSliceView, qMRMLThreeDView, register_managers

# Name: letter, color, orientation.
_SLICES = {
    "Red": ("R", (0.952941176, 0.290196078, 0.2), "Axial"),
    "Yellow": ("Y", (0.929411765, 0.835294118, 0.298039216), "Sagittal"),
    "Green": ("G", (0.431372549, 0.690196078, 0.294117647), "Coronal"),
    "Slice4": ("4", (0.95, 0.3, 0.6), "Axial"),
}
_FIRST = ("Red", "Yellow", "Green")
"""The slice views of the default layout; others are made by the layout that first shows them."""


def _bar(text: str, color: tuple[float, float, float], parent: QtWidgets.QWidget | None = None) -> QtWidgets.QLabel:
    label = QtWidgets.QLabel(text, parent)
    red, green, blue = (round(255 * part) for part in color)
    label.setStyleSheet(f"background: rgb({red}, {green}, {blue}); color: black; padding: 1px 6px;")
    label.setFixedHeight(20)
    return label


class _Framed(QtWidgets.QWidget):
    """A view below its colored bar."""

    def __init__(self, bar: QtWidgets.QLabel, view: QtWidgets.QWidget) -> None:
        super().__init__()
        self._bar, self._view = bar, view
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(bar)
        layout.addWidget(view, 1)

    def viewWidget(self) -> QtWidgets.QWidget:
        return self._view

    def setRenderPaused(self, paused: bool) -> None:
        self._view.setRenderPaused(paused)

    def pauseRender(self) -> None:
        self._view.pauseRender()

    def resumeRender(self) -> None:
        self._view.resumeRender()


@shim
class qMRMLSliceWidget(_Framed):
    """Header: Slicer Libs/MRML/Widgets/qMRMLSliceWidget.h."""

    def __init__(self, name: str, application_logic: Any, scene: Any) -> None:
        letter, color, orientation = _SLICES[name]
        self.__dict__["_logic"] = logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLApplicationLogic(application_logic)
        logic.SetMRMLScene(scene)
        # Displayable managers look for the view's logic there as soon as they have a view.
        application_logic.GetSliceLogics().AddItem(logic)
        node = logic.AddSliceNode(name)
        node.SetMappedInLayout(1)
        node.SetLayoutLabel(letter)
        node.SetLayoutColor(*color)
        # As the layout's description does it in Slicer: closing the scene turns the view back to it.
        node.SetDefaultOrientation(orientation)
        node.SetOrientationToDefault()
        super().__init__(_bar(letter, color), qMRMLSliceView())
        self._view._set_logic(logic)
        node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._on_node_modified())

    def _on_node_modified(self) -> None:
        node = self.mrmlSliceNode()
        offset = node.GetSliceOffset()
        self._bar.setText(f"{node.GetLayoutLabel()}    {node.GetOrientation()}    {offset:.2f} mm")

    def sliceView(self) -> qMRMLSliceView:
        return self._view

    def sliceLogic(self) -> Any:
        return self._logic

    def logic(self) -> Any:
        return self._logic

    def mrmlSliceNode(self) -> Any:
        return self._logic.GetSliceNode()

    def mrmlAbstractViewNode(self) -> Any:
        return self._logic.GetSliceNode()

    def mrmlSliceCompositeNode(self) -> Any:
        return self._logic.GetSliceCompositeNode()

    def interactorStyle(self) -> Any:
        return self._view.sliceViewInteractorStyle()

    def fitSliceToBackground(self) -> None:
        self._logic.FitSliceToBackground()

    def setSliceOrientation(self, orientation: str) -> None:
        self.mrmlSliceNode().SetOrientation(orientation)

    sliceViewName = Property(str, lambda self: self.mrmlSliceNode().GetLayoutName())
    sliceViewLabel = Property(str, lambda self: self.mrmlSliceNode().GetLayoutLabel())
    sliceOrientation = Property(str, lambda self: self.mrmlSliceNode().GetOrientation(), setSliceOrientation)


@shim
class qMRMLThreeDWidget(_Framed):
    """Header: Slicer Libs/MRML/Widgets/qMRMLThreeDWidget.h."""

    def __init__(self, application_logic: Any, scene: Any) -> None:
        self.__dict__["_logic"] = logic = slicer.vtkMRMLViewLogic()
        logic.SetMRMLApplicationLogic(application_logic)
        logic.SetMRMLScene(scene)
        node = logic.AddViewNode("1")
        node.SetMappedInLayout(1)
        super().__init__(_bar("1", slicer.vtkMRMLViewNode.GetThreeDViewBlueColor()), qMRMLThreeDView())
        self._view.setMRMLViewNode(node)

    def threeDView(self) -> qMRMLThreeDView:
        return self._view

    def viewLogic(self) -> Any:
        return self._logic

    def logic(self) -> Any:
        return self._logic

    def mrmlViewNode(self) -> Any:
        return self._view.mrmlViewNode()

    def mrmlAbstractViewNode(self) -> Any:
        return self._view.mrmlViewNode()


@shim
class qSlicerLayoutManager(QtCore.QObject):
    """Header: Slicer Base/QTGUI/qSlicerLayoutManager.h (and qMRMLLayoutManager.h, CTK's ctkLayoutManager.h)."""

    layoutChanged = Signal(int)

    def __init__(self, application_logic: Any, scene: Any) -> None:
        super().__init__()
        register_managers(application_logic)
        self._scene = scene
        self._layout = slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
        self._slices: dict[str, qMRMLSliceWidget] = {}
        self._turns = 0
        self._fourth: qMRMLSliceWidget | None = None
        self._logics = vtk.vtkCollection()
        application_logic.SetSliceLogics(self._logics)
        self._application_logic = application_logic
        for name in _FIRST:
            self._slices[name] = qMRMLSliceWidget(name, application_logic, scene)
        self._threed = qMRMLThreeDWidget(application_logic, scene)
        self._viewport = QtWidgets.QWidget()
        grid = QtWidgets.QGridLayout(self._viewport)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(2)
        places = (self._slices["Red"], self._threed, self._slices["Green"], self._slices["Yellow"])
        for index, widget in enumerate(places):
            grid.addWidget(widget, index // 2, index % 2)

    def viewport(self) -> QtWidgets.QWidget:
        return self._viewport

    def sliceViewNames(self) -> tuple[str, ...]:
        """In an order that is not to be relied on: Slicer's hash table has another one in each session."""
        names = tuple(self._slices)
        self._turns += 1
        at = self._turns % len(names)
        return (*names[at:], *names[:at])

    def sliceWidget(self, name: str) -> qMRMLSliceWidget | None:
        return self._slices.get(name)

    def threeDWidget(self, index: int | str) -> qMRMLThreeDWidget | None:
        return self._threed if index in (0, "1") else None

    def mrmlSliceLogics(self) -> Any:
        return self._logics

    def mrmlScene(self) -> Any:
        return self._scene

    def activeMRMLThreeDViewNode(self) -> Any:
        return self._threed.mrmlViewNode()

    def setLayout(self, layout: int) -> None:
        """Remembered and told. The host shows all four views, or four slice views for the layout two over two."""
        if layout != self._layout:
            self._layout = layout
            self._show_fourth(layout == slicer.vtkMRMLLayoutNode.SlicerLayoutTwoOverTwoView)
            self.layoutChanged.emit(layout)

    def _show_fourth(self, wanted: bool) -> None:
        """A slice view in the place of the 3D view. As in Slicer it is empty when it is new, and stays when it is hidden."""
        if wanted and "Slice4" not in self._slices:
            if self._fourth is None:
                self._fourth = qMRMLSliceWidget("Slice4", self._application_logic, self._scene)
                self._viewport.layout().addWidget(self._fourth, 0, 1)
            self._slices["Slice4"] = self._fourth
            composite = self._fourth.mrmlSliceCompositeNode()
            for layer in ("Background", "Foreground", "Label"):
                getattr(composite, f"Set{layer}VolumeID")(None)
        if "Slice4" in self._slices:
            self._slices["Slice4"].setVisible(wanted)
            self._slices["Slice4"].mrmlSliceNode().SetMappedInLayout(wanted)
            self._threed.setVisible(not wanted)

    def _remove_fourth(self) -> None:
        """Put it aside for the next test, which finds it as it was made."""
        self._fourth = self._slices.pop("Slice4", self._fourth)

    def resetSliceViews(self) -> None:
        for widget in self._slices.values():
            widget.sliceLogic().FitSliceToAll()

    def resetThreeDViews(self) -> None:
        self._threed.threeDView().resetFocalPoint()

    def pauseRender(self) -> None:
        for widget in (*self._slices.values(), self._threed):
            widget.pauseRender()

    def resumeRender(self) -> None:
        for widget in (*self._slices.values(), self._threed):
            widget.resumeRender()

    def setRenderPaused(self, paused: bool) -> None:
        self.pauseRender() if paused else self.resumeRender()

    layout = Property(int, lambda self: self._layout, setLayout)
    threeDViewCount = Property(int, lambda self: 1)
    tableViewCount = Property(int, lambda self: 0)
    plotViewCount = Property(int, lambda self: 0)
