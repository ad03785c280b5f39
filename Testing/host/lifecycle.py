"""Starting, driving and ending the host. One per process, as there is one QApplication per process."""

import ctypes
import gc
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

# Both are read when the libraries load: no X server, no screen.
os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from host.qt import pythonqt
from PySide6 import QtCore, QtGui

from . import sampledata
from .recorder import Dialogs

# Tracebacks of exceptions that nobody caught: in a slot, in an observer, in a thread. Slicer would print them and go
# on, so a test has to look.
unhandled: list[str] = []

vtk_warnings: list[str] = []
"""Warnings and errors that VTK printed since the last `reset`."""

WINDOW_SIZE = (1500, 950)
"""Width and height of the main window, in pixels."""

dialogs = Dialogs()
sample_data: list[dict[str, Any]] = sampledata.registered

_app: Any = None
_window: Any = None


def start(testing: bool = False) -> Any:
    """Start the host, or return the application that runs already.

    Args:
        testing: What ``slicer.app.testingEnabled()`` answers. Left off, so that ``tryWithErrorDisplay`` and
            ``slicer.packaging`` do as they do for a person; dialogs never show either way.
    """
    global _app, _window
    if _app is not None:
        return _app
    _make_singletons_immortal()
    QtCore.qInstallMessageHandler(_on_qt_message)
    pythonqt.install()
    import slicer

    from . import namespace

    namespace.install()
    # These define shim classes, which need the patched Qt and a tidy slicer.
    from host.views import layout

    from . import application, mainwindow, modules
    from .widgets import ctk, markups, qmrml, segmenteditor  # noqa: F401  importing them registers them

    namespace.add_shims()
    _app = slicer.app = application.qSlicerApplication(["Slicer"])
    _app._testing = testing
    slicer.mrmlScene = _app.mrmlScene()
    _add_fonts()
    for name, logic in _app._scene.logics.items():
        _app.moduleManager()._add(modules.qSlicerLoadableModule(name, logic))
    _record_vtk_warnings()
    sampledata.install()
    _app._layout = layout.qSlicerLayoutManager(_app.applicationLogic(), slicer.mrmlScene)
    _window = mainwindow.qSlicerMainWindow(_app._layout)
    _window.resize(*WINDOW_SIZE)
    _window.show()
    _add_editor()
    dialogs.install()
    sys.excepthook = _on_exception
    threading.excepthook = lambda failure: _on_exception(failure.exc_type, failure.exc_value, failure.exc_traceback)
    process_events()
    return _app


def uses_real_python_files() -> bool:
    """Whether Slicer's own ScriptedLoadableModule, parameterNodeWrapper and i18n are in use."""
    from . import namespace

    return namespace.uses_real_files()


def load_module(path: str | Path, show: bool = True) -> Any:
    """Load a scripted module as Slicer does at its start and, with ``show``, as if a person then selected it.

    Returns:
        The module's Python widget (``…Widget``), or its module object without ``show``.
    """
    from .modules import qSlicerScriptedLoadableModule

    module = qSlicerScriptedLoadableModule(Path(path).resolve())
    _app.moduleManager()._add(module)
    module._load()
    # Slicer tells this once, after all modules are there; a module under test is always the last.
    _app.startupCompleted.emit()
    if not show:
        return module
    import slicer.util

    slicer.util.selectModule(module.name)
    process_events()
    return slicer.util.getModuleWidget(module.name)


def unload_module(name: str) -> None:
    """Leave the module and take it out, as Slicer does at its end; its own folder of files is forgotten too."""
    module = _app.moduleManager().module(name)
    if _window.moduleSelector().selectedModule == name:
        _window.moduleSelector().selectModule("")
    _take_out(module)
    process_events()


def _take_out(module: Any) -> None:
    folder = Path(module.path).parent
    _app.moduleManager()._remove(module.name)
    if module._widget is not None:
        module._widget.deleteLater()
    _forget_effects(folder)
    for known, source in list(sys.modules.items()):
        file = getattr(source, "__file__", None)
        if file and folder in Path(file).parents:
            del sys.modules[known]


def quit_application() -> None:
    """Unload all modules, as Slicer does at its end, in the worst order that it may choose.

    Slicer unloads in the reverse order of loading. Only the modules that a scripted module names as its dependencies
    are sure to be loaded before it, and so are unloaded after it; all others are gone when its `cleanup` runs. The panel is
    not left before. Slicer's own modules are there again afterwards, for the next test.
    """
    manager = _app.moduleManager()
    modules = [manager.module(name) for name in manager.modulesNames()]
    scripted = [each for each in modules if hasattr(each, "_load")]
    needed = {name for each in scripted for name in each.dependencies}
    others = [each for each in modules if each not in scripted]
    late = [each for each in others if each.name in needed]
    for module in [each for each in others if each not in late]:
        manager._remove(module.name)
    _window.moduleSelector()._forget_selection()
    for module in scripted:
        _take_out(module)
    for module in late:
        manager._remove(module.name)
    for module in others:
        manager._add(module)
    _add_editor()
    process_events()


def _add_editor() -> None:
    """Load the module Segment Editor."""
    from .modules import qSlicerScriptedLoadableModule

    # In a folder of its own: what lies beside a module's file is forgotten with it.
    editor = qSlicerScriptedLoadableModule(Path(__file__).parent / "segmenteditor" / "module" / "SegmentEditor.py")
    _app.moduleManager()._add(editor)
    editor._load()


def _forget_effects(folder: Path) -> None:
    """Take out the effects of a module; in Slicer they stay until it ends, and modules with them."""
    from .segmenteditor.effects import qSlicerSegmentEditorEffectFactory

    factory, editor = qSlicerSegmentEditorEffectFactory.instance(), _app.moduleManager().module("SegmentEditor")
    if factory._forget(folder) and editor is not None and editor._widget is not None:
        if _window.moduleSelector().selectedModule == "SegmentEditor":
            _window.moduleSelector().selectModule("")
        # It cleans up, and once only.
        editor._widget._python._onModuleAboutToBeUnloaded("SegmentEditor")
        editor._widget.deleteLater()
        editor._widget = None
        process_events()
        # Widgets and effects know each other; they must not be freed by another thread later.
        gc.collect()


def _make_singletons_immortal() -> None:
    """What Python does itself from 3.12 on.

    PySide 6.12 drops a reference to None with each call that returns nothing; a minute of event loop would end the
    process with "deallocating None".
    """
    if sys.version_info < (3, 12):
        for each in (None, True, False):
            ctypes.c_ssize_t.from_address(id(each)).value += 1 << 40


def process_events(seconds: float = 0.0) -> None:
    """Let the event loop run for a while; at least once."""
    end = time.monotonic() + seconds
    while True:
        _app.processEvents()
        _app.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)
        if time.monotonic() >= end:
            return
        time.sleep(0.001)


def wait_for(condition: Callable[[], Any], timeout: float = 30.0) -> None:
    """Let the event loop run until ``condition()`` holds; raise TimeoutError when it does not in time."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= end:
            raise TimeoutError(f"not within {timeout} s")
        process_events(0.005)


def reset() -> None:
    """Undo what a test has left behind: the scene, the views, the mouse mode, the window and the recorded dialogs.

    The modules stay loaded; what a test leaves in them is its own affair.
    """
    import slicer

    slicer.mrmlScene.Clear()
    interaction = _app.applicationLogic().GetInteractionNode()
    interaction.SetPlaceModePersistence(0)
    interaction.SetCurrentInteractionMode(interaction.ViewTransform)
    _app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    _app.layoutManager()._remove_fourth()
    if _window.moduleSelector().selectedModule == "SegmentEditor":
        _window.moduleSelector().selectModule("")
        process_events()
    _window.resize(*WINDOW_SIZE)
    _window._restore_width()
    dialogs.clear()
    unhandled.clear()
    vtk_warnings.clear()
    process_events()


def close() -> None:
    """Unload the scripted modules, empty the scene and close the window."""
    import slicer

    for name in _app.moduleManager().modulesNames():
        if hasattr(_app.moduleManager().module(name), "_load"):
            unload_module(name)
    slicer.mrmlScene.Clear()
    _window.close()
    process_events()


def leave(status: int = 0) -> NoReturn:
    """End the process at once: PySide6 can abort while the interpreter is torn down."""
    if _app is not None:
        _app._folder.cleanup()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _log(text: str) -> None:
    """Append to the log file, which Slicer has and modules may read."""
    with Path(_app.errorLogModel().filePath).open("a", encoding="utf-8") as file:
        file.write(text + "\n")


def _on_exception(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    text = "".join(traceback.format_exception(kind, error, trace))
    unhandled.append(text)
    sys.stderr.write(text)
    _log(text)


def _on_qt_message(kind: QtCore.QtMsgType, context: Any, message: str) -> None:
    # The offscreen platform says this of every window.
    if "propagateSizeHints" not in message:
        logging.getLogger("qt").warning(message)


def _record_vtk_warnings() -> None:
    import vtk

    def note(window: Any, event: str, text: str) -> None:
        vtk_warnings.append(text)
        _log(text)

    note.CallDataType = vtk.VTK_STRING
    for event in ("WarningEvent", "ErrorEvent"):
        vtk.vtkOutputWindow.GetInstance().AddObserver(event, note)


def _add_fonts() -> None:
    """Bring a font where the machine has none; a screenshot would else show boxes."""
    if QtGui.QFontDatabase.families():
        return
    import matplotlib

    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    for path in fonts.glob("DejaVuSans*.ttf"):
        QtGui.QFontDatabase.addApplicationFont(str(path))
    _app.setFont(QtGui.QFont("DejaVu Sans", 9))
