"""Qt properties for shim classes, written in one line each."""

from collections.abc import Callable
from typing import Any

from PySide6 import QtCore, QtWidgets


def stored(kind: Any, default: Any, applied: Callable[[Any, Any], None] | None = None) -> QtCore.Property:
    """A property that is remembered; ``applied(self, value)`` makes a change visible."""
    key = object()

    def get(self: Any) -> Any:
        return self.__dict__.get("_stored", {}).get(key, default)

    def put(self: Any, value: Any) -> None:
        # PythonQt makes tuples of Qt's lists and takes the truth of anything.
        value = tuple(value) if kind == "QStringList" else bool(value) if kind is bool else value
        self.__dict__.setdefault("_stored", {})[key] = value
        if applied is not None:
            applied(self, value)

    return QtCore.Property(kind, get, put)


def forwarded(kind: Any, part: str, name: str) -> QtCore.Property:
    """A property that an inner widget keeps: ``name`` of ``self.<part>``."""

    def get(self: Any) -> Any:
        return getattr(getattr(self, part), name)

    def put(self: Any, value: Any) -> None:
        setattr(getattr(self, part), name, value)

    return QtCore.Property(kind, get, put)


def row(parent: Any, *widgets: Any) -> QtWidgets.QHBoxLayout:
    """Lay ``widgets`` out in a tight row inside ``parent``."""
    layout = QtWidgets.QHBoxLayout(parent)
    layout.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        layout.addWidget(widget)
    return layout
