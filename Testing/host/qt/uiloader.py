"""``qt.QUiLoader``: Designer's files with Slicer's widgets in them, read strictly.

Qt builds the tree; properties that only a shim widget has, and all connections, are applied in Python afterwards.
Whatever is unknown raises, where Qt would pass over it in silence.
"""

from typing import Any
from xml.etree import ElementTree

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

from . import headers, pythonqt
from .pythonqt import SHIMS


def _value(widget: type, element: ElementTree.Element) -> Any:
    """The Python value of a ``<property>``."""
    child = element[0]
    text = child.text or ""
    match child.tag:
        case "bool":
            return text == "true"
        case "number":
            return int(text)
        case "double":
            return float(text)
        case "string" | "cstring":
            return text
        case "stringlist":
            return [entry.text or "" for entry in child.findall("string")]
        case "color":
            return QtGui.QColor(*(int(child.findtext(part, "0")) for part in ("red", "green", "blue")))
        case "enum":
            return _enumerator(widget, text)
        case "set":
            value = _enumerator(widget, text.split("|")[0])
            for name in text.split("|")[1:]:
                value |= _enumerator(widget, name)
            return value
    raise RuntimeError(f"property '{element.get('name')}' of {widget.__name__}: <{child.tag}> is not handled here")


def _enumerator(widget: type, text: str) -> Any:
    scope, _, name = text.strip().rpartition("::")
    owner = QtCore.Qt if scope.startswith("Qt") else widget
    return getattr(owner, name)


class QUiLoader(QtUiTools.QUiLoader):
    """Loads a .ui file; ``load(file)`` as in Qt."""

    def createWidget(self, class_name: str, parent: Any = None, name: str = "") -> QtWidgets.QWidget:
        if class_name not in SHIMS:
            return super().createWidget(class_name, parent, name)
        widget = SHIMS[class_name](parent)
        widget.setObjectName(name)
        # Qt owns the widget through its parent; until that is set, Python must not drop it.
        self.__dict__.setdefault("_made", []).append(widget)
        return widget

    def load(self, source: Any, parent: QtWidgets.QWidget | None = None) -> QtWidgets.QWidget:
        path = source if isinstance(source, str) else source.fileName()
        tree = ElementTree.parse(path).getroot()
        kinds = self._check_classes(tree, path)
        values = self._take_properties(tree, path)
        connections = tree.find("connections")
        if connections is not None:
            tree.remove(connections)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(tree))
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        pythonqt.ignored_new_attributes = True
        try:
            root = super().load(buffer, parent)
        finally:
            pythonqt.ignored_new_attributes = False
        if root is None:
            raise RuntimeError(f"{path}: {self.errorString()}")
        named = {kind: root if kind == root.objectName else root.findChild(QtCore.QObject, kind) for kind in kinds}
        for name, attribute, value in values:
            setattr(named[name], attribute, value)
        for connection in connections if connections is not None else ():
            self._connect(named, connection, path)
        return root

    def _check_classes(self, tree: ElementTree.Element, path: str) -> set[str]:
        known = set(self.availableWidgets()) | set(SHIMS)
        for widget in tree.iter("widget"):
            if widget.get("class") not in known:
                raise RuntimeError(f"{path}: there is no widget class '{widget.get('class')}'")
        return {element.get("name", "") for tag in ("widget", "action") for element in tree.iter(tag)}

    def _take_properties(self, tree: ElementTree.Element, path: str) -> list[tuple[str, str, Any]]:
        """Take the shim widgets' own properties out of ``tree``."""
        taken = []
        for widget in tree.iter("widget"):
            cls = SHIMS.get(widget.get("class", ""))
            if cls is None:
                continue
            for element in widget.findall("property"):
                name = element.get("name", "")
                if element.get("stdset") == "0" or QtCore.QMetaObject.indexOfProperty(_qt_meta(cls), name) >= 0:
                    continue
                if name not in headers.members(cls.__name__):
                    raise RuntimeError(f"{path}: {cls.__name__} has no property '{name}'")
                taken.append((widget.get("name", ""), name, _value(cls, element)))
                widget.remove(element)
        return taken

    def _connect(self, named: dict[str, Any], connection: ElementTree.Element, path: str) -> None:
        sender, signal, receiver, slot = (connection.findtext(tag, "") for tag in ("sender", "signal", "receiver", "slot"))
        for name in (sender, receiver):
            if named.get(name) is None:
                raise RuntimeError(f"{path}: a connection names '{name}', which is not there")
        named[sender].connect(signal, getattr(named[receiver], slot.split("(")[0]))


def _qt_meta(cls: type) -> QtCore.QMetaObject:
    """The meta object of the nearest class of Qt's own."""
    return next(base for base in cls.__mro__ if base.__module__.startswith("PySide6")).staticMetaObject
