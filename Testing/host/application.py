"""``slicer.app``."""

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from host.qt.pythonqt import shim
from host.qt.qtproperty import stored
from host.views.layout import qSlicerLayoutManager
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property, Signal

from .iomanager import qSlicerIOManager
from .modules import qSlicerModuleManager
from .scene import Scene


@shim
class qSlicerApplication(QtWidgets.QApplication):
    """Header: Slicer Base/QTGUI/qSlicerApplication.h (and Base/QTCore/qSlicerCoreApplication.h)."""

    startupCompleted = Signal()
    mrmlSceneChanged = Signal(object)

    def __init__(self, arguments: list[str]) -> None:
        # Settings of an earlier run, or of a person, must not reach a test.
        self.__dict__["_folder"] = tempfile.TemporaryDirectory(prefix="host")
        ini = QtCore.QSettings.Format.IniFormat
        QtCore.QSettings.setDefaultFormat(ini)
        QtCore.QSettings.setPath(ini, QtCore.QSettings.Scope.UserScope, self._folder.name)
        super().__init__(arguments)
        self.setOrganizationName("slicer.org")
        self.setApplicationName("Slicer")
        self.setStyle("Fusion")
        self._testing = False
        self.temporaryPath = str(Path(self._folder.name) / "tmp")
        self.cachePath = str(Path(self._folder.name) / "cache")
        for folder in (self.temporaryPath, self.cachePath):
            Path(folder).mkdir()
        self._scene = Scene(self.cachePath)
        self._modules = qSlicerModuleManager()
        self._io = qSlicerIOManager()
        self._settings = QtCore.QSettings()
        self._settings.setValue("Developer/DeveloperMode", False)
        self._settings.setValue("Developer/SelfTestDisplayMessageDelay", 100)
        self._layout: qSlicerLayoutManager | None = None

    def mrmlScene(self) -> Any:
        return self._scene.node

    def applicationLogic(self) -> Any:
        return self._scene.application_logic

    def moduleLogic(self, name: str) -> Any:
        return self.applicationLogic().GetModuleLogic(name)

    def moduleManager(self) -> qSlicerModuleManager:
        return self._modules

    def layoutManager(self) -> qSlicerLayoutManager | None:
        return self._layout

    def ioManager(self) -> qSlicerIOManager:
        return self._io

    def coreIOManager(self) -> qSlicerIOManager:
        return self._io

    def settings(self) -> QtCore.QSettings:
        return self._settings

    def userSettings(self) -> QtCore.QSettings:
        return self._settings

    def revisionUserSettings(self) -> QtCore.QSettings:
        return self._settings

    def testingEnabled(self) -> bool:
        return self._testing

    def errorLogModel(self) -> Any:
        """Only where the log is; `lifecycle` writes it."""
        return SimpleNamespace(filePath=str(Path(self.temporaryPath) / "Slicer.log"))

    def translate(self, context: str, text: str) -> str:
        return text

    def moduleDocumentationUrl(self, name: str) -> str:
        return f"{self.documentationBaseUrl}user_guide/modules/{name.lower()}.html"

    def pauseRender(self) -> None:
        self._layout.pauseRender()

    def resumeRender(self) -> None:
        self._layout.resumeRender()

    def setRenderPaused(self, paused: bool) -> None:
        self._layout.setRenderPaused(paused)

    def restart(self) -> None:
        """A test may press "Restart"; nothing follows."""

    def openUrl(self, url: str) -> None:
        """No browser here."""

    defaultScenePath = stored(str, "")
    temporaryPath = stored(str, "")
    cachePath = stored(str, "")
    slicerHome = Property(str, lambda self: self._folder.name)
    extensionsInstallPath = Property(str, lambda self: str(Path(self._folder.name) / "Extensions"))
    documentationBaseUrl = Property(str, lambda self: "https://slicer.readthedocs.io/en/latest/")
    majorVersion = Property(int, lambda self: slicer_version()[0])
    minorVersion = Property(int, lambda self: slicer_version()[1])
    revision = Property(str, lambda self: "0")


def slicer_version() -> tuple[int, int]:
    """The Slicer release that the wheel was built from."""
    from importlib.metadata import version

    major, minor, *_ = version("slicer-core").split(".")
    return int(major), int(minor)
