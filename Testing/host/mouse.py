"""A person's mouse and keys: real Qt events, which the views hand on to VTK's interactors."""

from typing import Any

from PySide6 import QtCore, QtWidgets
from PySide6.QtTest import QTest

from .lifecycle import process_events
from .pictures import view


def press(widget: QtWidgets.QWidget) -> None:
    """Click a widget with the left button, where a person would."""
    if not widget.isVisible() or not widget.enabled:
        raise AssertionError(f"{widget.name or widget} cannot be clicked: hidden or disabled")
    position = QtCore.QPoint(min(10, widget.width // 2), min(10, widget.height // 2))
    QTest.mouseClick(widget, QtCore.Qt.MouseButton.LeftButton, QtCore.Qt.KeyboardModifier.NoModifier, position)
    process_events()


def key(sequence: str, widget: QtWidgets.QWidget | None = None) -> None:
    """Type a key sequence such as ``Ctrl+Z`` into the main window, or into ``widget``."""
    import slicer

    target = widget or slicer.util.mainWindow()
    # Shortcuts live in the active window; a dialog that closed leaves none active where there is no window manager.
    target.window().activateWindow()
    process_events()
    QTest.keySequence(target, sequence)
    process_events()


def click_view(name: str, ras: Any, button: str = "Left", modifiers: Any = None) -> tuple[float, float, float]:
    """Click in a slice view at the pixel nearest to a point of the world.

    Returns:
        The RAS position of that pixel, which lies in the slice: the slice is not moved to ``ras``.
    """
    shown = view(name)
    x, y, _ = shown.convertRASToXYZ(list(ras))
    column, row_from_bottom = round(x), round(y)
    if not (0 <= column < shown.width and 0 <= row_from_bottom < shown.height):
        raise AssertionError(f"{tuple(ras)} lies outside the {name} view")
    position = QtCore.QPoint(column, shown.height - 1 - row_from_bottom)
    modifiers = modifiers or QtCore.Qt.KeyboardModifier.NoModifier
    pressed = getattr(QtCore.Qt.MouseButton, f"{button}Button")
    QTest.mouseMove(shown, position)
    QTest.mouseClick(shown, pressed, modifiers, position)
    process_events()
    return tuple(shown.convertXYZToRAS([float(column), float(row_from_bottom), 0.0]))
