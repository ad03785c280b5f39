"""Slice and 3D views: Slicer's displayable managers rendering offscreen into Qt widgets."""

from typing import Any, ClassVar

import numpy as np
import slicer
import vtk
from host.qt.pythonqt import shim
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property
from vtk.util.numpy_support import vtk_to_numpy

_BOTH = ("OrientationMarker", "Ruler", "Markups", "ColorLegend", "LinearTransforms")
_SLICE_MANAGERS = ("VolumeGlyphSlice", "ModelSlice", "Crosshair", "ScalarBar", *_BOTH)
_THREED_MANAGERS = ("Camera", "View", "Model", "ThreeDReformat", "VolumeRendering", *_BOTH)


def register_managers(application_logic: Any) -> None:
    """Tell Slicer's two factories which displayable managers a view gets."""
    slices = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
    threed = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance()
    for factory, names, segmentations in ((slices, _SLICE_MANAGERS, "2D"), (threed, _THREED_MANAGERS, "3D")):
        factory.SetMRMLApplicationLogic(application_logic)
        managers = [f"vtkMRML{name}DisplayableManager" for name in names]
        managers.append(f"vtkMRMLSegmentationsDisplayableManager{segmentations}")
        for manager in managers:
            if not factory.IsDisplayableManagerRegistered(manager):
                factory.RegisterDisplayableManager(manager)


class _View(QtWidgets.QWidget):
    """What the two kinds of view share: a render window, its picture and its mouse."""

    _BUTTONS: ClassVar = {
        QtCore.Qt.MouseButton.LeftButton: "LeftButton",
        QtCore.Qt.MouseButton.RightButton: "RightButton",
        QtCore.Qt.MouseButton.MiddleButton: "MiddleButton",
    }

    def __init__(self, parent: QtWidgets.QWidget | None, factory: Any, style: Any) -> None:
        super().__init__(parent)
        self.setMouseTracking(True)
        self.setMinimumSize(100, 100)
        self._window = vtk.vtkRenderWindow()
        self._window.SetOffScreenRendering(1)
        self._window.SetMultiSamples(0)
        self._renderer = vtk.vtkRenderer()
        self._window.AddRenderer(self._renderer)
        self._interactor = vtk.vtkGenericRenderWindowInteractor()
        self._interactor.SetRenderWindow(self._window)
        self._interactor.SetInteractorStyle(vtk.vtkInteractorStyleUser())
        self._interactor.Initialize()
        self._prepare_renderer()
        self._managers = factory.InstantiateDisplayableManagers(self._renderer)
        self._managers.AddObserver(vtk.vtkCommand.UpdateEvent, lambda *_: self.scheduleRender())
        self._style = style
        self._style.SetDisplayableManagers(self._managers)
        self._style.SetInteractor(self._interactor)
        self._image: QtGui.QImage | None = None
        self._paused = 0
        self._timer = QtCore.QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(15)
        self._timer.timeout.connect(self._on_timer)

    def _prepare_renderer(self) -> None:
        """Add what has to lie below the displayable managers' actors."""

    def renderWindow(self) -> Any:
        return self._window

    def interactor(self) -> Any:
        return self._interactor

    def interactorObserver(self) -> Any:
        return self._style

    def displayableManagerByClassName(self, name: str) -> Any:
        return self._managers.GetDisplayableManagerByClassName(name)

    def getDisplayableManagers(self, collection: Any) -> None:
        for index in range(self._managers.GetDisplayableManagerCount()):
            collection.AddItem(self._managers.GetNthDisplayableManager(index))

    def scheduleRender(self) -> None:
        if not self._paused and not self._timer.active:
            self._timer.start()

    def _on_timer(self) -> None:
        if self.isVisible():
            self.forceRender()

    def forceRender(self) -> None:
        self._window.SetSize(self.width, self.height)
        self._window.Render()
        grabber = vtk.vtkWindowToImageFilter()
        grabber.SetInput(self._window)
        grabber.ReadFrontBufferOff()
        grabber.ShouldRerenderOff()
        grabber.Update()
        picture = grabber.GetOutput()
        width, height, _ = picture.GetDimensions()
        pixels = vtk_to_numpy(picture.GetPointData().GetScalars()).reshape(height, width, 3)[::-1]
        data = np.ascontiguousarray(pixels).tobytes()
        self._image = QtGui.QImage(data, width, height, 3 * width, QtGui.QImage.Format.Format_RGB888).copy()
        self.update()

    def pauseRender(self) -> None:
        self._paused += 1

    def resumeRender(self) -> None:
        self._paused = max(self._paused - 1, 0)
        self.scheduleRender()

    def setRenderPaused(self, paused: bool) -> None:
        self.pauseRender() if paused else self.resumeRender()

    def setViewCursor(self, cursor: QtGui.QCursor) -> None:
        self.setCursor(cursor)

    def unsetViewCursor(self) -> None:
        self.unsetCursor()

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        if self._image is None or self._image.width() != self.width or self._image.height() != self.height:
            self.forceRender()
        QtGui.QPainter(self).drawImage(0, 0, self._image)

    def resizeEvent(self, event: QtGui.QResizeEvent) -> None:
        self._window.SetSize(event.size().width(), event.size().height())
        self._interactor.UpdateSize(event.size().width(), event.size().height())
        self.scheduleRender()

    def _send(self, event: Any, *names: str) -> None:
        """Pass a Qt mouse event on to VTK, whose rows count from the bottom."""
        modifiers = event.modifiers()
        position = event.position().toPoint()
        self._interactor.SetEventInformation(
            position.x(),
            self.height - 1 - position.y(),
            int(bool(modifiers & QtCore.Qt.KeyboardModifier.ControlModifier)),
            int(bool(modifiers & QtCore.Qt.KeyboardModifier.ShiftModifier)),
            "\0",
            0,
            None,
        )
        for name in names:
            self._interactor.InvokeEvent(name)

    def mouseMoveEvent(self, event: QtGui.QMouseEvent) -> None:
        self._send(event, "MouseMoveEvent")

    def mousePressEvent(self, event: QtGui.QMouseEvent) -> None:
        self._send(event, "MouseMoveEvent", self._BUTTONS[event.button()] + "PressEvent")

    def mouseReleaseEvent(self, event: QtGui.QMouseEvent) -> None:
        self._send(event, self._BUTTONS[event.button()] + "ReleaseEvent")

    def wheelEvent(self, event: QtGui.QWheelEvent) -> None:
        self._send(event, "MouseWheelForwardEvent" if event.angleDelta().y() > 0 else "MouseWheelBackwardEvent")

    def leaveEvent(self, event: QtCore.QEvent) -> None:
        self._interactor.InvokeEvent("LeaveEvent")

    def enterEvent(self, event: QtGui.QEnterEvent) -> None:
        self._interactor.InvokeEvent("EnterEvent")


@shim
class qMRMLSliceView(_View):
    """Header: Slicer Libs/MRML/Widgets/qMRMLSliceView.h (and CTK's ctkVTKSliceView.h, ctkVTKAbstractView.h)."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        super().__init__(parent, factory, slicer.vtkMRMLSliceViewInteractorStyle())
        self._logic: Any = None

    def _prepare_renderer(self) -> None:
        self._mapper = vtk.vtkImageMapper()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        self._actor = vtk.vtkActor2D()
        self._actor.SetMapper(self._mapper)
        # Added before the managers' actors: overlays would else be blended with black.
        self._renderer.AddViewProp(self._actor)

    def _set_logic(self, logic: Any) -> None:
        self._logic = logic
        self._style.SetSliceLogic(logic)
        self._managers.SetMRMLDisplayableNode(logic.GetSliceNode())
        logic.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._on_logic_modified())
        self._on_logic_modified()

    def _on_logic_modified(self) -> None:
        connection = self._logic.GetImageDataConnection()
        self._mapper.SetInputConnection(connection)
        self._actor.SetVisibility(connection is not None)
        self.scheduleRender()

    def setImageDataConnection(self, connection: Any) -> None:
        self._mapper.SetInputConnection(connection)

    def resizeEvent(self, event: QtGui.QResizeEvent) -> None:
        if self._logic is not None:
            self._logic.ResizeSliceNode(event.size().width(), event.size().height())
        super().resizeEvent(event)

    def mrmlSliceNode(self) -> Any:
        return self._logic.GetSliceNode()

    def sliceViewInteractorStyle(self) -> Any:
        return self._style

    def convertDeviceToXYZ(self, xy: list[int]) -> list[float]:
        return [float(xy[0]), float(self.height - 1 - xy[1]), 0.0]

    def convertXYZToRAS(self, xyz: list[float]) -> list[float]:
        return list(self.mrmlSliceNode().GetXYToRAS().MultiplyPoint([*xyz, 1.0])[:3])

    def convertRASToXYZ(self, ras: list[float]) -> list[float]:
        inverse = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self.mrmlSliceNode().GetXYToRAS(), inverse)
        return list(inverse.MultiplyPoint([*ras, 1.0])[:3])


@shim
class qMRMLThreeDView(_View):
    """Header: Slicer Libs/MRML/Widgets/qMRMLThreeDView.h (and CTK's ctkVTKRenderView.h, ctkVTKAbstractView.h)."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        factory = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance()
        super().__init__(parent, factory, slicer.vtkMRMLThreeDViewInteractorStyle())
        self._node: Any = None

    def _prepare_renderer(self) -> None:
        # Slicer's default colors for a 3D view.
        self._renderer.SetBackground(0.756862745098, 0.764705882353, 0.909803921569)
        self._renderer.SetBackground2(0.454901960784, 0.470588235294, 0.745098039216)
        self._renderer.GradientBackgroundOn()

    def setMRMLViewNode(self, node: Any) -> None:
        self._node = node
        self._managers.SetMRMLDisplayableNode(node)

    def mrmlViewNode(self) -> Any:
        return self._node

    def cameraNode(self) -> Any:
        return slicer.app.moduleLogic("Cameras").GetViewActiveCameraNode(self._node)

    def resetFocalPoint(self) -> None:
        # The box is drawn around what is there, and must not count as being there.
        box = self._node.GetBoxVisible(), self._node.GetAxisLabelsVisible()
        self._node.SetBoxVisible(False)
        self._node.SetAxisLabelsVisible(False)
        self._renderer.ResetCamera()
        self._node.SetBoxVisible(box[0])
        self._node.SetAxisLabelsVisible(box[1])
        self._node.InvokeEvent(self._node.ResetFocalPointRequestedEvent)
        self.scheduleRender()

    def resetCamera(self) -> None:
        self._renderer.ResetCamera()
        self.scheduleRender()

    def rotateToViewAxis(self, axis: int) -> None:
        self.cameraNode().RotateTo(axis)

    gradientBackground = Property(bool, lambda self: bool(self._renderer.GetGradientBackground()))
