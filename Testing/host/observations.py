"""Observers of MRML objects that end with the widget that wanted them, as CTK's qvtkConnect does it."""

import weakref
from collections.abc import Callable
from typing import Any

import vtk
from PySide6 import QtCore


class Observations:
    """The observers of one widget.

    Example::

        self._observations = Observations(self)
        self._observations.add(node, vtk.vtkCommand.ModifiedEvent, self._update)
    """

    def __init__(self, owner: QtCore.QObject) -> None:
        self._found: list[tuple[Any, int]] = []
        # Not a bound method: the owner would be kept alive by its own end.
        owner.destroyed.connect(lambda *_, found=self._found: _remove(found))

    def add(self, target: Any, event: int, method: Callable, with_node: bool = False) -> None:
        """Call ``method`` after each ``event``, with the node that comes with it if ``with_node``."""
        reference = weakref.WeakMethod(method)

        def callback(caller: Any, name: str, node: Any = None) -> None:
            alive = reference()
            if alive is not None:
                alive(node) if with_node else alive()

        if with_node:
            callback.CallDataType = vtk.VTK_OBJECT
        self._found.append((target, target.AddObserver(event, callback)))

    def clear(self) -> None:
        """Remove all of them."""
        _remove(self._found)


def _remove(found: list[tuple[Any, int]]) -> None:
    while found:
        target, tag = found.pop()
        target.RemoveObserver(tag)
