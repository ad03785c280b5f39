"""How the self-test works with the panel: it presses buttons that can be pressed, and waits as a user does."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest

from CoralBaySlicerCore.panels.module_panel import ModulePanel
from CoralBaySlicerCore.scene.parameters import CoralBaySlicerParameters

_TIMEOUT_S = 600


class User:
    """Presses buttons and waits.

    Args:
        test: whose assertions are used.
        panel: of the module, which is shown.
        folder: for files.
    """

    def __init__(self, test: ScriptedLoadableModuleTest, panel: ModulePanel, folder: Path) -> None:
        self.test, self.panel, self.folder = test, panel, folder

    @property
    def parameters(self) -> CoralBaySlicerParameters:
        """The parameters of the scene."""
        found = self.panel.parameters
        self.test.assertIsNotNone(found, "The panel is not connected to the scene.")
        assert found is not None
        return found

    def settle(self) -> None:
        """Wait until nothing is computed and nothing waits to be shown."""
        panel, end = self.panel, time.monotonic() + _TIMEOUT_S
        quiet = 0
        while quiet < 5:
            slicer.app.processEvents()
            busy = panel.logic.worker.busy or panel.logic.reader.busy or panel.segment.few_shot.is_waiting
            quiet = 0 if busy else quiet + 1
            self.test.assertLess(time.monotonic(), end, "CoralBay did not finish.")
            time.sleep(0.02)

    def press(self, button: Any) -> None:
        """Press a button, which must be in sight and enabled."""
        slicer.app.processEvents()
        name = button.objectName
        self.test.assertTrue(button.isVisibleTo(self.panel.root), f"{name} is hidden.")
        self.test.assertTrue(button.enabled, f"{name} is disabled.")
        button.click()
        slicer.app.processEvents()

    def bottom(self, widget: Any) -> int:
        """The lower end of a widget below the upper end of the panel, pixels."""
        return widget.mapTo(self.panel.root, qt.QPoint(0, widget.height)).y()
