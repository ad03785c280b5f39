"""PySide6 in PythonQt's manners.

Slicer's Python sees Qt through PythonQt: a property is an attribute (``label.text = "a"``), signals are connected by
signature (``button.connect("clicked(bool)", f)``), and a C++ object takes no attribute that its class lacks. PySide6's
own classes are patched in place, since ``type(widget) is qt.QCheckBox`` has to keep holding.
"""

import threading
from collections.abc import Callable
from functools import cache
from inspect import getattr_static
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from . import headers

SHIMS: dict[str, type] = {}

# Virtual methods that are properties as well: Qt calls them by name on Python subclasses, so they stay methods.
_METHODS_ALWAYS = {"sizeHint", "minimumSizeHint"}

_get = QtCore.QObject.__getattribute__
_MAIN = threading.main_thread().ident

# PySide's QUiLoader sets every child as an attribute of the root; PythonQt finds children by name anyway.
ignored_new_attributes = False


class MissingInHostError(NotImplementedError):
    """A member that Slicer has and this host does not."""


def shim(cls: type) -> type:
    """Register a stand-in for the C++ class of the same name; refuse a public member that its header lacks."""
    name = cls.__name__
    if name not in headers.table():
        raise TypeError(f"{name} is not among the classes whose headers were read")
    qt_base = next((base for base in cls.__mro__ if _is_native(base)), object)
    real_base = headers.table()[headers.lineage(name)[-1]]["base"]
    if qt_base.__name__ != real_base:
        raise TypeError(f"{name} is a {real_base} in Slicer, not a {qt_base.__name__}")
    known = headers.members(name)
    own = [base for base in cls.__mro__ if not _is_cpp(base) and base is not object]
    invented = [
        member
        for base in own
        for member in vars(base)
        if not member.startswith("_") and member not in known and not hasattr(qt_base, member)
        if member != "staticMetaObject"
    ]
    if invented:
        raise TypeError(f"{name} has no {', '.join(invented)} in Slicer")
    cls._cpp = True
    SHIMS[name] = cls
    return cls


def _is_native(cls: type) -> bool:
    return cls.__module__.startswith(("PySide6", "Shiboken", "shiboken"))


def _is_cpp(cls: type) -> bool:
    """Whether Slicer's class of that name is C++, so that its objects take no new attributes."""
    return _is_native(cls) or "_cpp" in vars(cls)


@cache
def _properties(cls: type) -> dict[str, QtCore.QMetaProperty]:
    """Qt's own properties of ``cls``, but for those that a Python subclass overrides."""
    found: dict[str, QtCore.QMetaProperty] = {}
    hidden: set[str] = set(_METHODS_ALWAYS)
    for base in cls.__mro__:
        if not issubclass(base, QtCore.QObject):
            continue
        if not _is_native(base):
            hidden.update(vars(base))
            continue
        meta = base.staticMetaObject
        for index in range(meta.propertyOffset(), meta.propertyCount()):
            name = meta.property(index).name()
            if name not in hidden:
                found.setdefault(name, meta.property(index))
    return found


def _read(self: QtCore.QObject, name: str) -> Any:
    for getter in (name, "is" + name[0].upper() + name[1:]):
        try:
            method = _get(self, getter)
        except AttributeError:
            continue
        # The static QTimer.singleShot hides a property of that name.
        if callable(method) and name != "singleShot":
            return method()
    return _get(self, "property")(name)


def _check_thread(cls: type) -> None:
    """Widgets belong to the main thread; elsewhere this would crash sooner or later, so here it fails at once."""
    if threading.get_ident() != _MAIN and issubclass(cls, QtWidgets.QWidget):
        raise RuntimeError(f"a {cls.__name__} was touched from {threading.current_thread().name}")


def _getattribute(self: QtCore.QObject, name: str) -> Any:
    if name.startswith("__"):
        return _get(self, name)
    cls = type(self)
    _check_thread(cls)
    if name in _properties(cls):
        return _read(self, name)
    if name in _EXTRA:
        return _EXTRA[name].__get__(self)
    try:
        return _get(self, name)
    except AttributeError:
        return _missing(self, name)


def _missing(self: QtCore.QObject, name: str) -> Any:
    """PythonQt's last resorts: ``name`` for objectName, dynamic properties, children by name."""
    if name == "name":
        return _get(self, "objectName")()
    if not name.startswith("_"):
        if name in headers.members(_shim_name(self)):
            raise MissingInHostError(f"{_shim_name(self)}.{name} exists in Slicer but not in this host")
        if name.encode() in [bytes(known) for known in _get(self, "dynamicPropertyNames")()]:
            return _get(self, "property")(name)
        for child in _get(self, "children")():
            if _get(child, "objectName")() == name:
                return child
    raise AttributeError(f"{type(self).__name__} has no attribute named '{name}'")


def _shim_name(self: QtCore.QObject) -> str:
    return next((cls.__name__ for cls in type(self).__mro__ if "_cpp" in vars(cls)), "")


def _setattr(self: QtCore.QObject, name: str, value: Any) -> None:
    cls = type(self)
    _check_thread(cls)
    if name == "name" and not hasattr(cls, "name"):
        name = "objectName"
    known = _properties(cls).get(name)
    if known is not None:
        _write(self, known, value)
    elif isinstance(found := getattr_static(cls, name, None), QtCore.Property):
        if found.fset is None:
            raise AttributeError(f"Property '{name}' of {cls.__name__} object is not writable")
        found.fset(self, value)
    elif hasattr(type(found), "__set__"):
        type(found).__set__(found, self, value)
    elif not _is_cpp(cls) or (name.startswith("_") and not _is_native(cls)) or type(value) is QtCore.SignalInstance:
        # Shiboken's own __setattr__ refuses to be called once it is replaced. PySide keeps bound signals this way.
        _get(self, "__dict__")[name] = value
    elif name.encode() in [bytes(dynamic) for dynamic in _get(self, "dynamicPropertyNames")()]:
        _get(self, "setProperty")(name, value)
    elif hasattr(cls, name):
        raise AttributeError(f"Slot '{name}' can not be overwritten on {cls.__name__} object")
    elif name in headers.members(_shim_name(self)):
        raise MissingInHostError(f"{_shim_name(self)}.{name} exists in Slicer but not in this host")
    elif not ignored_new_attributes:
        raise AttributeError(
            f"Attribute '{name}' does not exist on {cls.__name__} and creating new attributes on C++ objects is not allowed"
        )


def _write(self: QtCore.QObject, known: QtCore.QMetaProperty, value: Any) -> None:
    name = known.name()
    if not known.isWritable():
        raise AttributeError(f"Property '{name}' of {type(self).__name__} object is not writable")
    try:
        method = _get(self, "set" + name[0].upper() + name[1:])
    except AttributeError:
        method = None
    if known.typeName() == "bool":
        # PythonQt takes the truth of anything: ``button.enabled = node`` is common.
        value = bool(value)
    if method is not None:
        method(value)
    elif not _get(self, "setProperty")(name, value):
        raise AttributeError(f"Property '{name}' of {type(self).__name__} does not accept {value!r}")


def _signal(self: QtCore.QObject, signature: str) -> tuple[Any, str]:
    """The PySide signal that ``signature`` names, as something with connect and disconnect, and its normal form."""
    normal = bytes(QtCore.QMetaObject.normalizedSignature(signature).data()).decode()
    name = normal.split("(")[0]
    shim_name = _shim_name(self)
    if shim_name and normal in headers.signals(shim_name):
        overloads = getattr(type(self), "_overloads", {})
        attribute = overloads.get(normal, name)
        if not hasattr(type(self), attribute):
            raise MissingInHostError(f"signal {shim_name}.{normal} exists in Slicer but not in this host")
        return _get(self, attribute), normal
    if "(" not in normal or _get(self, "metaObject")().indexOfSignal(normal) < 0 or "PyObject" in normal:
        raise ValueError(f"signal '{signature}' does not exist on {type(self).__name__}")
    return None, normal


def _connect(self: QtCore.QObject, signature: Any, *target: Any) -> bool:
    """``connect(signal, callable)`` or ``connect(signal, receiver, slot)``; a wrong signature raises."""
    if isinstance(signature, QtCore.QObject):
        # The static form names the sender first; QTimer.singleShot uses it, with Qt's mark for a signal.
        return _connect(signature, target[0].removeprefix("2"), *target[1:])
    slot = target[0] if len(target) == 1 else getattr(target[0], target[1].split("(")[0])
    if not callable(slot):
        raise TypeError(f"connect({signature!r}) needs something callable, got {slot!r}")
    signal, normal = _signal(self, signature)
    if signal is not None:
        signal.connect(slot)
        return True
    return bool(QtCore.QObject.connect(self, "2" + normal, slot))


def _disconnect(self: QtCore.QObject, signature: str, *target: Any) -> bool:
    signal, normal = _signal(self, signature)
    slots = (target[0] if len(target) == 1 else getattr(target[0], target[1].split("(")[0]),) if target else ()
    try:
        if signal is not None:
            return bool(signal.disconnect(*slots))
        if slots:
            return bool(QtCore.QObject.disconnect(self, "2" + normal, *slots))
        return bool(_get(self, normal.split("(")[0]).disconnect())
    except (RuntimeError, TypeError):
        # PythonQt answers False, without a word, where nothing was connected.
        return False


def _class_name(self: QtCore.QObject) -> str:
    return _get(self, "metaObject")().className()


_EXTRA: dict[str, Callable] = {"connect": _connect, "disconnect": _disconnect, "className": _class_name}


def _color_name(self: QtGui.QColor, form: Any = QtGui.QColor.NameFormat.HexRgb) -> str:
    return _qcolor_name(self, QtGui.QColor.NameFormat(form))


_qcolor_name = QtGui.QColor.name


def install() -> None:
    """Patch PySide6's classes. Call once, before any module code runs."""
    QtCore.QObject.__getattribute__ = _getattribute
    for module in (QtCore, QtGui, QtWidgets):
        for name in dir(module):
            cls = getattr(module, name)
            if isinstance(cls, type) and issubclass(cls, QtCore.QObject):
                cls.__setattr__ = _setattr
    # PythonQt's enumerators are plain integers.
    QtGui.QColor.name = _color_name
