"""The module's panel: its steps, the parameters of the scene, and closing of the scene."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import qt
import slicer
import vtk
from slicer.util import VTKObservationMixin

from CoralBaySlicerCore.scene import volumes
from CoralBaySlicerCore.scene.parameters import CoralBaySlicerParameters
from CoralBaySlicerCore.scene.views import slices
from CoralBaySlicerCore.work.logic import CoralBaySlicerLogic

from .activity import Activity
from .base import Panel
from .cohort.panel import CohortPanel
from .feature_maps import FeatureMapsPanel
from .scan import ScanPanel
from .scans import ScansPanel
from .sections.shown_scan import ShownScan
from .segment import SegmentPanel
from .similar import SimilarPanel

PANELS: tuple[type[Panel], ...] = (ScanPanel, SegmentPanel, SimilarPanel, FeatureMapsPanel, ScansPanel, CohortPanel)
"""The steps, from top to bottom."""
_UI_FILE = Path(__file__).resolve().parents[2] / "Resources" / "UI" / "CoralBaySlicer.ui"


class ModulePanel(VTKObservationMixin):
    """The whole panel of the module.

    Args:
        logic: of the module.
        parent: the module's widget in Slicer.

    Attributes:
        panels: the steps; each is also an attribute by its `name`, such as `scan` and `segment`.
    """

    def __init__(self, logic: CoralBaySlicerLogic, parent: qt.QWidget) -> None:
        VTKObservationMixin.__init__(self)
        self.logic = logic
        self.parameters: CoralBaySlicerParameters | None = None
        self._parent = parent
        self._shortcuts: list[qt.QShortcut] = []
        self._has_new_views = False
        self.root = slicer.util.loadUI(str(_UI_FILE))
        self.ui = slicer.util.childWidgetVariables(self.root)
        self.root.setMRMLScene(slicer.mrmlScene)
        self.activity = Activity(self.ui, self.refresh)
        self.panels = tuple(panel_class(logic, self.activity) for panel_class in PANELS)
        for panel in self.panels:
            setattr(self, panel.name, panel)
            self.ui.panels.layout().addWidget(panel.root)
        # Changes often come in bursts; one refresh at the end is enough.
        self._refresh_timer = qt.QTimer()
        self._refresh_timer.setSingleShot(True)
        self._refresh_timer.setInterval(0)
        self._refresh_timer.connect("timeout()", self.refresh)
        self.logic.overlays.changed = self._schedule
        self.logic.overlays.scan = lambda: self.parameters.volume if self.parameters is not None else None
        self.shown_scan = ShownScan(self.ui, self.logic.overlays, self._schedule)
        layout = slicer.app.layoutManager()
        if layout is not None:
            layout.connect("layoutChanged(int)", self._on_layout)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self._on_closing)
        self.addObserver(scene, scene.EndCloseEvent, self._on_closed)
        # What a scene holds is checked once all of it is there.
        self.addObserver(scene, scene.StartImportEvent, lambda *_: self._set_parameters(None))
        self.addObserver(scene, scene.EndImportEvent, self._on_closed)
        self.addObserver(scene, scene.NodeAddedEvent, self._schedule)
        self.addObserver(scene, scene.NodeRemovedEvent, self._schedule)

    def enter(self) -> None:
        """Connect to the scene and activate the shortcuts."""
        self._connect()
        for panel in self.panels:
            for key, action in panel.shortcuts().items():
                self._add_shortcut(key, action, slicer.util.mainWindow() or self._parent)
        layout = slicer.app.layoutManager()
        if layout is not None:
            for panel in self.panels:
                for key, action in panel.view_shortcuts().items():
                    # Elsewhere these keys have other uses: Tab goes to the next field.
                    shortcut = self._add_shortcut(key, action, layout.viewport())
                    shortcut.setContext(qt.Qt.WidgetWithChildrenShortcut)
        # The layout may have changed while another module was shown.
        self._has_new_views = True
        self.refresh()
        self.logic.overlays.resume()
        for panel in self.panels:
            panel.enter()

    def exit(self) -> None:
        """Deactivate the shortcuts and restore the mouse mode and the views. Running tasks continue."""
        for shortcut in self._shortcuts:
            shortcut.enabled = False
            shortcut.setParent(None)
            shortcut.deleteLater()
        self._shortcuts = []
        for panel in self.panels:
            panel.exit()
        self.logic.overlays.suspend()
        self._set_parameters(None)

    def close(self) -> None:
        """Disconnect from everything; an error at one place does not keep the others from being disconnected."""
        with ExitStack() as stack:
            for panel in self.panels:
                stack.callback(panel.close)
            stack.callback(self.shown_scan.removeObservers)
            stack.callback(self.removeObservers)
            stack.callback(self._refresh_timer.stop)
            layout = slicer.app.layoutManager()
            if layout is not None:
                stack.callback(layout.disconnect, "layoutChanged(int)", self._on_layout)
            stack.callback(self._set_parameters, None)
            self.exit()

    def refresh(self) -> None:
        """Show the current state."""
        if self.parameters is None or slicer.mrmlScene.IsBatchProcessing():
            return
        if self._has_new_views:
            self._has_new_views = False
            slices.fill_empty_views(self.parameters.volume)
        for panel in self.panels:
            panel.refresh()
        self._follow(self.parameters.volume)
        self.shown_scan.refresh()
        self.logic.overlays.refresh()

    def _add_shortcut(self, key: str, action: Callable[[], object], parent: qt.QWidget) -> qt.QShortcut:
        shortcut = qt.QShortcut(qt.QKeySequence(key), parent)
        shortcut.connect("activated()", action)
        self._shortcuts.append(shortcut)
        return shortcut

    def _connect(self) -> None:
        parameters = self.logic.getParameterNode()
        if parameters.volume is None:
            background = slicer.app.applicationLogic().GetSelectionNode().GetActiveVolumeID()
            node = slicer.mrmlScene.GetNodeByID(background) if background else None
            if volumes.is_scan(node):
                parameters.volume = node
        self._set_parameters(parameters)

    def _set_parameters(self, parameters: CoralBaySlicerParameters | None) -> None:
        if self.parameters is not None:
            self.removeObserver(self.parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self._schedule)
        self.parameters = parameters
        if parameters is None:
            self._follow(None)
        for panel in self.panels:
            panel.set_parameters(parameters)
        if parameters is not None:
            # The node, not its wrapper: an observed object is kept, and a wrapper reads each value that a scene brings.
            self.addObserver(parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self._schedule)

    def _follow(self, volume: slicer.vtkMRMLScalarVolumeNode | None) -> None:
        """Refresh when the scan is changed by another module or a script: its voxels, geometry, name or transform."""
        if volume is not None and self.hasObserver(volume, vtk.vtkCommand.ModifiedEvent, self._on_scan_changed):
            return
        self.removeObservers(self._on_scan_changed)
        if volume is not None:
            for event in (vtk.vtkCommand.ModifiedEvent, volume.ImageDataModifiedEvent, volume.TransformModifiedEvent):
                self.addObserver(volume, event, self._on_scan_changed)

    def _on_scan_changed(self, *_: object) -> None:
        # Not `_schedule`, which also observes other nodes: these observers are removed by their method.
        self._schedule()

    def _schedule(self, *_: object) -> None:
        self._refresh_timer.start()

    def _on_layout(self, *_: object) -> None:
        self._has_new_views = True
        self._schedule()

    def _on_closing(self, *_: object) -> None:
        self._set_parameters(None)
        for panel in self.panels:
            panel.forget()

    def _on_closed(self, *_: object) -> None:
        if self._parent.isEntered:
            self._connect()
            self.refresh()
