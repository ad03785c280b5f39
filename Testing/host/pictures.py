"""Pictures of what a person would see: a view, the module panel, the whole window."""

from pathlib import Path
from typing import Any

import numpy as np
import slicer
from PySide6 import QtGui, QtWidgets

from .lifecycle import process_events
from .mainwindow import PANEL_WIDTH


def view(name: str) -> Any:
    """The view of that name: Red, Yellow, Green or 1 (the 3D view)."""
    layout = slicer.app.layoutManager()
    slices = layout.sliceWidget(name)
    return slices.sliceView() if slices is not None else layout.threeDWidget(0).threeDView()


def pixels(name: str) -> np.ndarray:
    """What the view shows now, as rows from the top, columns, RGB."""
    process_events()
    shown = view(name)
    shown.forceRender()
    return _array(shown._image)


def _array(image: QtGui.QImage) -> np.ndarray:
    image = image.convertToFormat(QtGui.QImage.Format.Format_RGB888)
    raw = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
    return raw[:, : 3 * image.width()].reshape(image.height(), image.width(), 3).copy()


def save_view(name: str, path: str | Path) -> None:
    """Save one view as a PNG."""
    pixels(name)
    _save(view(name)._image, path)


def save_window(path: str | Path, width: int = 1500, height: int = 950) -> None:
    """Save the whole window, module panel and views, as a PNG."""
    window = slicer.util.mainWindow()
    window.resize(width, height)
    process_events(0.05)
    slicer.util.forceRenderAllViews()
    _save(window.grab().toImage(), path)


def save_panel(module_name: str, path: str | Path, width: int = PANEL_WIDTH) -> None:
    """Save the module's panel at its full height as a PNG, whatever part of it the window shows."""
    panel = slicer.app.moduleManager().module(module_name).widgetRepresentation()
    process_events()
    owner = slicer.util.findChild(slicer.util.mainWindow(), "ModulePanel")
    # The scroll area would take its own width back at once.
    owner._take()
    panel.show()
    layout = panel.layout()
    height = layout.totalHeightForWidth(width) if layout.hasHeightForWidth() else panel.sizeHint().height()
    panel.resize(width, max(height, panel.minimumSizeHint().height()))
    _save(panel.grab().toImage(), path)
    owner._put(panel)
    process_events()


def clipped(module_name: str) -> list[str]:
    """The visible labels and buttons of a panel whose text does not fit in them."""
    panel = slicer.app.moduleManager().module(module_name).widgetRepresentation()
    found = []
    for widget in panel.findChildren(QtWidgets.QWidget):
        wraps = isinstance(widget, QtWidgets.QLabel) and widget.wordWrap
        if not isinstance(widget, (QtWidgets.QLabel, QtWidgets.QAbstractButton)) or not widget.isVisible() or wraps:
            continue
        if widget.text and widget.sizeHint().width() > widget.width + 1:
            found.append(f"{widget.name or type(widget).__name__}: {widget.text}")
    return found


def _save(image: QtGui.QImage, path: str | Path) -> None:
    if not image.save(str(path)):
        raise OSError(f"could not write {path}")
