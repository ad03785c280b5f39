"""Modules: the C++ ones as names with a logic, the scripted one loaded from its file as Slicer does."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import slicer
from host.qt.pythonqt import shim
from host.qt.qtproperty import stored
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal


@shim
class qSlicerModuleFactoryManager(QtCore.QObject):
    """Header: Slicer Base/QTCore/qSlicerModuleFactoryManager.h."""

    def __init__(self, manager: "qSlicerModuleManager") -> None:
        super().__init__(manager)
        self._manager = manager

    def loadedModuleNames(self) -> tuple[str, ...]:
        return self._manager.modulesNames()

    def registeredModuleNames(self) -> tuple[str, ...]:
        return self._manager.modulesNames()

    def isLoaded(self, name: str) -> bool:
        return name in self._manager._modules

    def isRegistered(self, name: str) -> bool:
        return name in self._manager._modules

    def loadedModule(self, name: str) -> Any:
        return self._manager.module(name)


@shim
class qSlicerModuleManager(QtCore.QObject):
    """Header: Slicer Base/QTCore/qSlicerModuleManager.h."""

    moduleLoaded = Signal(str)
    moduleAboutToBeUnloaded = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._modules: dict[str, Any] = {}
        self._factory = qSlicerModuleFactoryManager(self)

    def factoryManager(self) -> qSlicerModuleFactoryManager:
        return self._factory

    def modulesNames(self) -> tuple[str, ...]:
        return tuple(self._modules)

    def module(self, name: str) -> Any:
        return self._modules.get(name)

    def _add(self, module: Any) -> None:
        self._modules[module.name] = module
        if isinstance(module, qSlicerLoadableModule):
            slicer.app.applicationLogic().SetModuleLogic(module.name, module.logic())
        setattr(slicer.modules, module.name.lower(), module)
        setattr(slicer.moduleNames, module.name, module.name)
        self.moduleLoaded.emit(module.name)

    def _remove(self, name: str) -> None:
        self.moduleAboutToBeUnloaded.emit(name)
        del self._modules[name]
        # The logic is no longer to be had from the application.
        slicer.app.applicationLogic().SetModuleLogic(name, None)
        delattr(slicer.modules, name.lower())
        delattr(slicer.moduleNames, name)
        for suffix in ("Instance", "Widget"):
            if hasattr(slicer.modules, name + suffix):
                delattr(slicer.modules, name + suffix)
        sys.modules.pop(name, None)


@shim
class qSlicerLoadableModule(QtCore.QObject):
    """Header: Slicer Base/QTGUI/qSlicerLoadableModule.h (and qSlicerAbstractModule.h, qSlicerAbstractCoreModule.h)."""

    def __init__(self, name: str, logic: Any) -> None:
        super().__init__()
        self._name = name
        self._logic = logic

    def logic(self) -> Any:
        return self._logic

    def mrmlScene(self) -> Any:
        return slicer.mrmlScene

    def widgetRepresentation(self) -> None:
        """A C++ module's panel; the host has none."""
        return

    name = Property(str, lambda self: self._name)
    title = Property(str, lambda self: self._name)


@shim
class qSlicerScriptedLoadableModule(QtCore.QObject):
    """Header: Slicer Base/QTGUI/qSlicerScriptedLoadableModule.h (and qSlicerAbstractModule.h, …CoreModule.h)."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._widget: qSlicerScriptedLoadableModuleWidget | None = None

    def _load(self) -> None:
        source = load_source(self.name, self._path)
        instance = getattr(source, self.name)(self)
        missing = [name for name in self.dependencies if slicer.app.moduleManager().module(name) is None]
        if missing:
            # Slicer warns and leaves the module out.
            raise RuntimeError(f"{self.name} depends on modules that are not there: {', '.join(missing)}")
        setattr(slicer.modules, f"{self.name}Instance", instance)
        if hasattr(instance, "setup"):
            instance.setup()

    def logic(self) -> Any:
        return slicer.vtkSlicerScriptedLoadableModuleLogic()

    def mrmlScene(self) -> Any:
        return slicer.mrmlScene

    def widgetRepresentation(self) -> "qSlicerScriptedLoadableModuleWidget":
        if self._widget is None:
            self._widget = self.createNewWidgetRepresentation()
        return self._widget

    def createNewWidgetRepresentation(self) -> "qSlicerScriptedLoadableModuleWidget":
        widget = qSlicerScriptedLoadableModuleWidget(self)
        widget.setMRMLScene(slicer.mrmlScene)
        widget._instantiate()
        widget._setup()
        return widget

    name = Property(str, lambda self: self._path.stem)
    path = Property(str, lambda self: str(self._path))
    defaultDocumentationLink = Property(str, lambda self: slicer.app.moduleDocumentationUrl(self.name))
    title = stored(str, "")
    categories = stored("QStringList", ())
    contributors = stored("QStringList", ())
    dependencies = stored("QStringList", ())
    associatedNodeTypes = stored("QStringList", ())
    helpText = stored(str, "")
    acknowledgementText = stored(str, "")
    hidden = stored(bool, False)
    index = stored(int, -1)
    icon = stored(QtGui.QIcon, None)


@shim
class qSlicerScriptedLoadableModuleWidget(QtWidgets.QWidget):
    """Header: Slicer Base/QTGUI/qSlicerScriptedLoadableModuleWidget.h (and qSlicerAbstractModuleWidget.h)."""

    mrmlSceneChanged = Signal(object)

    def __init__(self, module: qSlicerScriptedLoadableModule) -> None:
        super().__init__()
        self._module = module
        self._python: Any = None
        self._entered = False
        QtWidgets.QVBoxLayout(self)

    def _instantiate(self) -> None:
        name = self._module.name
        # Reloading has put the new source in sys.modules; it is not to be read twice.
        source = sys.modules.get(name) or load_source(name, self._module._path)
        self._python = getattr(source, f"{name}Widget")(self)
        setattr(slicer.modules, f"{name}Widget", self._python)

    def _setup(self) -> None:
        self.setObjectName(f"{self._module.name}ModuleWidget")
        self.setWindowTitle(self._module.title)
        self._python.setup()

    def self(this) -> Any:
        return this._python

    def reload(self) -> None:
        self._instantiate()
        self._setup()

    def module(self) -> qSlicerScriptedLoadableModule:
        return self._module

    def setMRMLScene(self, scene: Any) -> None:
        self.mrmlSceneChanged.emit(scene)

    def enter(self) -> None:
        self._entered = True
        getattr(self._python, "enter", lambda: None)()

    def exit(self) -> None:
        self._entered = False
        getattr(self._python, "exit", lambda: None)()

    def setEditedNode(self, node: Any, role: str = "", context: str = "") -> bool:
        return getattr(self._python, "setEditedNode", lambda *_: False)(node, role, context)

    isEntered = Property(bool, lambda self: self._entered)


def load_source(name: str, path: Path) -> Any:
    """Import ``path`` as the module ``name``, with its folder importable as it is in Slicer."""
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    source = importlib.util.module_from_spec(spec)
    sys.modules[name] = source
    spec.loader.exec_module(source)
    return source
