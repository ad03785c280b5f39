"""The modules that code in Slicer imports: ``slicer``, ``qt``, ``ctk``."""

import importlib
import os
import sys
import types
from pathlib import Path
from typing import Any

import slicer
import slicer.util
from host.qt.pythonqt import SHIMS
from PySide6 import QtCore, QtGui, QtWidgets

# Slicer's own Base/Python/slicer, where it is at hand.
PYTHON_DIR = "SLICER_PYTHON_DIR"
# Slicer's own scripted effects, in its source.
_EFFECTS = "Modules/Loadable/Segmentations/EditorEffects/Python"

_STAND_INS = {
    "ScriptedLoadableModule": "scriptedmodule",
    "parameterNodeWrapper": "parameternode",
    "i18n": "i18n",
}

# PySide's own inventions, which PythonQt's qt module lacks.
_NOT_IN_QT = {"Signal", "Slot", "Property", "SignalInstance", "ClassInfo", "QEnum", "QFlag"}


def remove_leaks() -> None:
    """Drop from ``slicer`` what the wheel spills into it; there is no ``slicer.getNode`` in Slicer."""
    spilled = {"me", "info", "item_name", "module", "iter_modules", "import_module", "extend_path", "sys"}
    for name in list(vars(slicer)):
        if name.startswith("__") or name in ("util", "slicer_core"):
            continue
        if name in spilled or (hasattr(slicer.util, name) and getattr(slicer.util, name) is getattr(slicer, name)):
            delattr(slicer, name)


def _qt_module() -> types.ModuleType:
    from host.qt.uiloader import QUiLoader

    module = types.ModuleType("qt", "Qt's classes in one namespace, as in Slicer.")

    def find(name: str) -> Any:
        if name == "QUiLoader":
            return QUiLoader
        if not name.startswith("_") and name not in _NOT_IN_QT:
            for source in (QtCore, QtGui, QtWidgets):
                if hasattr(source, name):
                    return getattr(source, name)
        raise AttributeError(f"module 'qt' has no attribute '{name}'")

    module.__getattr__ = find
    return module


def _module(name: str, documentation: str) -> types.ModuleType:
    module = types.ModuleType(name, documentation)
    sys.modules[name] = module
    return module


def add_shims() -> None:
    """Make every shim class importable from where Slicer has it."""
    ctk = sys.modules["ctk"]
    for name, cls in SHIMS.items():
        setattr(ctk if name.startswith("ctk") else slicer, name, cls)
    effects = sys.modules["qSlicerSegmentationsEditorEffectsPythonQt"]
    for name in ("qSlicerSegmentEditorAbstractEffect", "qSlicerSegmentEditorScriptedEffect"):
        setattr(effects, name, SHIMS[name])


def install() -> None:
    """Prepare ``slicer``, ``qt`` and ``ctk``; the application is added later."""
    remove_leaks()
    sys.modules["qt"] = _qt_module()
    _module("ctk", "CTK's widgets.")
    slicer.modules = _module("slicer.modules", "The loaded modules.")
    slicer.moduleNames = _module("slicer.moduleNames", "The names of the loaded modules.")
    _add_effects()
    if uses_real_files():
        slicer.__path__.append(os.environ[PYTHON_DIR])
        return
    for name, source in _STAND_INS.items():
        sys.modules[f"slicer.{name}"] = _Late(f"slicer.{name}", f"{__package__}.standins.{source}")
        setattr(slicer, name, sys.modules[f"slicer.{name}"])


def _add_effects() -> None:
    """The modules that an effect of the Segment Editor imports."""
    _module("qSlicerSegmentationsEditorEffectsPythonQt", "The C++ classes of effects.")
    real = Path(os.environ.get(PYTHON_DIR, "")).joinpath(*[".."] * 3, _EFFECTS).resolve()
    if uses_real_files() and real.is_dir():
        sys.path.append(str(real))
        # Modules of Slicer whose classes the wheel has in one.
        sys.modules["vtkSegmentationCorePython"] = sys.modules["vtkITK"] = slicer
    else:
        sys.modules["SegmentEditorEffects"] = _Late("SegmentEditorEffects", f"{__package__}.segmenteditor.autocomplete")


def uses_real_files() -> bool:
    """Whether the environment names Slicer's own Python files."""
    folder = os.environ.get(PYTHON_DIR, "")
    if folder and not (Path(folder) / "ScriptedLoadableModule.py").is_file():
        raise RuntimeError(f"{PYTHON_DIR} is {folder}, where there is no ScriptedLoadableModule.py")
    return bool(folder)


class _Late(types.ModuleType):
    """A module whose source is imported at first use: the stand-ins need qt and ctk, which come after them."""

    def __init__(self, name: str, source: str) -> None:
        super().__init__(name)
        self._source = source

    @property
    def __all__(self) -> list[str]:
        source = importlib.import_module(self._source)
        return getattr(source, "__all__", [name for name in vars(source) if not name.startswith("_")])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(importlib.import_module(self._source), name)
