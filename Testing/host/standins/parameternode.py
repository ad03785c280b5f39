"""``slicer.parameterNodeWrapper``: a class of typed parameters on a MRML node, connected to widgets.

What a module commonly uses of Slicer's wrapper; no parameter packs but FloatRange, no generated GUI.
"""

import typing
from typing import Any

import slicer
import vtk

from . import serialization
from .guiconnect import connector_for
from .serialization import FloatRange, plain
from .validators import Choice, Decimals, Default, Exclude, Maximum, Minimum, RangeBounds, SingleStep, Validator, WithinRange

__all__ = [
    "Choice",
    "Decimals",
    "Default",
    "Exclude",
    "FloatRange",
    "Maximum",
    "Minimum",
    "RangeBounds",
    "SingleStep",
    "SlicerParameterNamePropertyName",
    "Validator",
    "WithinRange",
    "isParameterNodeWrapper",
    "parameterNodeWrapper",
]

SlicerParameterNamePropertyName = "SlicerParameterName"


class _Wrapper:
    """The methods that every wrapped class gets."""

    allParameters: dict[str, Any]
    _is_parameter_node_wrapper = True

    def __init__(self, parameterNode: Any) -> None:
        self.parameterNode = parameterNode
        self._guis: dict[int, tuple[dict[str, Any], int]] = {}
        self._next_tag = 0
        self._updating = False
        for name, kind in self.allParameters.items():
            if not serialization.holds(parameterNode, name, kind):
                self.setValue(name, self.default(name).value)

    def default(self, name: str) -> Default:
        _, annotations = plain(self.allParameters[name])
        given = type(self)._defaults.get(name)
        given = given or next((part for part in annotations if isinstance(part, Default)), None)
        return given or Default(serialization.default(self.allParameters[name]))

    @classmethod
    def dataType(cls, name: str) -> Any:
        if name not in cls.allParameters:
            raise ValueError(f"Cannot find a param with the given name: {name}")
        return cls.allParameters[name]

    def getValue(self, name: str) -> Any:
        kind = self.dataType(name)
        if not serialization.holds(self.parameterNode, name, kind):
            self.setValue(name, self.default(name).value)
        return serialization.read(self.parameterNode, name, kind)

    def setValue(self, name: str, value: Any) -> None:
        kind = self.dataType(name)
        serialization.check(kind, value)
        with slicer.util.NodeModify(self.parameterNode):
            serialization.write(self.parameterNode, name, kind, value)

    def connectGui(self, gui: Any) -> int:
        """Connect each widget that carries the dynamic property ``SlicerParameterName``."""
        import qt

        is_widget = getattr(gui, "isWidgetType", lambda: False)()
        widgets = gui.findChildren(qt.QWidget) if is_widget else vars(gui).values()
        named = {widget.property(SlicerParameterNamePropertyName): widget for widget in widgets}
        named.pop(None, None)
        return self.connectParametersToGui(named)

    def connectParametersToGui(self, mapping: dict[str, Any]) -> int:
        connectors = {name: connector_for(widget, self.dataType(name)) for name, widget in mapping.items()}
        for name, connector in connectors.items():
            connector.write(self.getValue(name))
            connector.connect(self._writer(name, connector))
        observer = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._update_gui())
        self._next_tag += 1
        self._guis[self._next_tag] = (connectors, observer)
        return self._next_tag

    def disconnectGui(self, tag: int) -> None:
        if tag in self._guis:
            connectors, observer = self._guis.pop(tag)
            for connector in connectors.values():
                connector.disconnect()
            self.RemoveObserver(observer)

    def _writer(self, name: str, connector: Any) -> Any:
        def write(*_: Any) -> None:
            if not self._updating:
                self.setValue(name, connector.read())

        return write

    def _update_gui(self) -> None:
        if self._updating:
            return
        self._updating = True
        try:
            for connectors, _ in list(self._guis.values()):
                for name, connector in connectors.items():
                    connector.write(self.getValue(name))
        finally:
            self._updating = False

    def isCached(self, name: str) -> bool:
        return False

    def StartModify(self) -> int:
        return self.parameterNode.StartModify()

    def EndModify(self, wasModified: int) -> None:
        self.parameterNode.EndModify(wasModified)

    def AddObserver(self, event: Any, callback: Any, priority: float = 0.0) -> int:
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)

    def Modified(self) -> None:
        self.parameterNode.Modified()


def _parameter(name: str) -> property:
    return property(lambda self: self.getValue(name), lambda self, value: self.setValue(name, value))


def parameterNodeWrapper(classtype: type | None = None) -> Any:
    """Class decorator: the annotated members become properties kept in a MRML node."""
    if classtype is None:
        return parameterNodeWrapper
    parameters = typing.get_type_hints(classtype, include_extras=True)
    defaults = {name: Default(vars(classtype)[name]) for name in parameters if name in vars(classtype)}
    for name, kind in parameters.items():
        if hasattr(_Wrapper, name):
            raise ValueError(f"Cannot use reserved name '{name}' in a parameterNodeWrapper")
        serialization.check_type(kind)
    members = {name: value for name, value in vars(classtype).items() if name not in ("__dict__", "__weakref__")}
    members.update({name: _parameter(name) for name in parameters})
    members.update(allParameters=parameters, _defaults=defaults)
    members.pop("__init__", None)
    return type(classtype.__name__, (_Wrapper, *classtype.__bases__), members)


def isParameterNodeWrapper(candidate: Any) -> bool:
    return getattr(candidate, "_is_parameter_node_wrapper", False)
