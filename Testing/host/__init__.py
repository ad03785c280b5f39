"""A small stand-in for the Slicer application, on which the scripted module is tested.

The scene, the logics, the displayable managers and ``slicer.util`` are Slicer's own, from the package slicer-core. Qt
is PySide6 in PythonQt's manners, the widgets are shims. Example::

    import host

    host.start()
    widget = host.load_module("CoralBaySlicer/CoralBaySlicer.py")
    widget.ui.applyButton.click()
    host.wait_for(lambda: not widget.logic.busy)
    host.close()

Import ``slicer``, ``qt`` and ``ctk`` only after ``start``.
"""

from .lifecycle import (
    close,
    dialogs,
    leave,
    load_module,
    process_events,
    quit_application,
    reset,
    sample_data,
    start,
    unhandled,
    unload_module,
    uses_real_python_files,
    vtk_warnings,
    wait_for,
)

__all__ = [
    "close",
    "dialogs",
    "leave",
    "load_module",
    "process_events",
    "quit_application",
    "reset",
    "sample_data",
    "start",
    "unhandled",
    "unload_module",
    "uses_real_python_files",
    "vtk_warnings",
    "wait_for",
]
