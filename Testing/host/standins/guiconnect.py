"""Which widget can stand for a parameter of which type, as in Slicer: by the widget's exact class."""

import enum
import pathlib
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ctk
import qt
import slicer

from .serialization import FloatRange, is_node, is_union, plain
from .validators import Choice, Decimals, Default, Maximum, Minimum, RangeBounds, SingleStep, WithinRange


@dataclass
class Connector:
    """Reads and writes one widget, and tells when a person changed it."""

    signal: Any
    read: Callable[[], Any]
    write: Callable[[Any], None]
    _slot: Any = None

    def connect(self, slot: Callable) -> None:
        self._slot = slot
        if self.signal is not None:
            self.signal.connect(slot)

    def disconnect(self) -> None:
        if self.signal is not None and self._slot is not None:
            self.signal.disconnect(self._slot)
        self._slot = None


def connector_for(widget: Any, datatype: Any) -> Connector:
    """The connector of ``widget`` for a parameter of type ``datatype``; raises where Slicer has none."""
    kind, annotations = plain(datatype)
    cls = type(widget)
    for accepts, classes, make in _RULES:
        if cls in classes() and accepts(kind):
            return make(widget, kind, annotations)
    raise RuntimeError(f"Unable to create GUI connector from datatype '{datatype}' to widget type '{cls}'.")


def _find(annotations: tuple, wanted: type) -> Any:
    return next((part for part in annotations if isinstance(part, wanted)), None)


def _attribute(widget: Any, name: str, signal: Any, kind: Any = None) -> Connector:
    def write(value: Any) -> None:
        # Writing an unchanged text would move the cursor under the person's hands.
        if getattr(widget, name) != value:
            setattr(widget, name, value)

    return Connector(signal, lambda: kind(getattr(widget, name)) if kind else getattr(widget, name), write)


def _checkbox(widget: Any, kind: Any, annotations: tuple) -> Connector:
    return _attribute(widget, "checked", widget.stateChanged)


def _button(widget: Any, kind: Any, annotations: tuple) -> Connector:
    widget.checkable = True
    return _attribute(widget, "checked", widget.toggled)


def _number(widget: Any, kind: Any, annotations: tuple) -> Connector:
    within = _find(annotations, WithinRange)
    low, high = _find(annotations, Minimum), _find(annotations, Maximum)
    minimum = within.minimum if within else low.minimum if low else None
    maximum = within.maximum if within else high.maximum if high else None
    sliders = (qt.QSlider, ctk.ctkSliderWidget, slicer.qMRMLSliderWidget)
    if type(widget) in sliders and (minimum is None or maximum is None):
        raise RuntimeError(f"Cannot have a connection to {type(widget).__name__} where the type is unbounded.")
    decimals, step = _find(annotations, Decimals), _find(annotations, SingleStep)
    whole = type(widget) in (qt.QSlider, qt.QSpinBox)
    if not whole and type(widget) is not ctk.ctkDoubleSlider:
        if kind is int:
            widget.decimals = 0
        elif decimals:
            widget.decimals = decimals.value
    if step:
        widget.singleStep = step.value
    limit = 2**31 - 1 if whole else float("inf")
    widget.minimum = -limit if minimum is None else minimum
    widget.maximum = limit if maximum is None else maximum
    return _attribute(widget, "value", widget.valueChanged, kind)


def _combo(widget: Any, kind: Any, annotations: tuple) -> Connector:
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        choices = list(kind)
        labels = [choice.label() if hasattr(choice, "label") else choice.name for choice in choices]
    else:
        choice = _find(annotations, Choice)
        if choice is None:
            raise RuntimeError("A combo box requires the Choice annotation to be used.")
        choices = list(choice.choices)
        labels = [str(part) for part in choices]
    widget.clear()
    widget.addItems(labels)

    def write(value: Any) -> None:
        widget.currentIndex = choices.index(value)

    return Connector(widget.currentIndexChanged, lambda: choices[widget.currentIndex], write)


def _text_edit(widget: Any, kind: Any, annotations: tuple) -> Connector:
    return Connector(widget.textChanged, widget.toPlainText, widget.setPlainText)


def _range(widget: Any, kind: Any, annotations: tuple) -> Connector:
    bounds = _find(annotations, RangeBounds)
    if bounds is None:
        raise RuntimeError("Cannot have a connection to a range widget without a RangeBounds annotation.")
    if _find(annotations, Default) is None:
        # Slicer's own connector fails here, whether or not there is a default by "=".
        raise RuntimeError("A range widget needs the Default annotation beside RangeBounds.")
    decimals = _find(annotations, Decimals)
    if decimals and type(widget) is not ctk.ctkDoubleRangeSlider:
        widget.decimals = decimals.value
    widget.setRange(bounds.minimum, bounds.maximum)
    return Connector(
        widget.valuesChanged,
        lambda: FloatRange(widget.minimumValue, widget.maximumValue),
        lambda value: widget.setValues(value.minimum, value.maximum),
    )


def _path(name: str, signal: str) -> Callable:
    def make(widget: Any, kind: Any, annotations: tuple) -> Connector:
        return Connector(
            getattr(widget, signal),
            lambda: kind(getattr(widget, name)),
            lambda value: setattr(widget, name, str(value)),
        )

    return make


def _node(widget: Any, kind: Any, annotations: tuple) -> Connector:
    kinds = typing.get_args(kind) if is_union(kind) else (kind,)
    widget.nodeTypes = [part.__name__ for part in kinds if is_node(part)]
    return Connector(widget.currentNodeChanged, widget.currentNode, widget.setCurrentNode)


def _takes_node(kind: Any) -> bool:
    kinds = typing.get_args(kind) if is_union(kind) else (kind,)
    return any(is_node(part) for part in kinds) and all(is_node(part) or part is type(None) for part in kinds)


def _is_path(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, pathlib.PurePath)


# What the parameter's type must be, which widgets fit, how they are connected. The widget classes are looked up late:
# the host registers them after this file is imported.
_RULES: tuple[tuple[Callable[[Any], bool], Callable[[], tuple], Callable], ...] = (
    (lambda kind: kind is bool, lambda: (qt.QCheckBox, ctk.ctkCheckBox), _checkbox),
    (lambda kind: kind is bool, lambda: (qt.QPushButton, ctk.ctkCheckablePushButton), _button),
    (lambda kind: kind is int, lambda: (qt.QSlider, qt.QSpinBox), _number),
    (
        lambda kind: kind in (int, float),
        lambda: (
            qt.QDoubleSpinBox,
            ctk.ctkSliderWidget,
            slicer.qMRMLSliderWidget,
            ctk.ctkDoubleSlider,
            ctk.ctkDoubleSpinBox,
            slicer.qMRMLSpinBox,
        ),
        _number,
    ),
    (
        lambda kind: kind in (int, float, str, bool) or (isinstance(kind, type) and issubclass(kind, enum.Enum)),
        lambda: (qt.QComboBox, ctk.ctkComboBox),
        _combo,
    ),
    (
        lambda kind: kind is str,
        lambda: (qt.QLineEdit,),
        lambda widget, kind, annotations: _attribute(widget, "text", widget.textChanged),
    ),
    (
        lambda kind: kind is str,
        lambda: (qt.QLabel,),
        lambda widget, kind, annotations: _attribute(widget, "text", None),
    ),
    (lambda kind: kind is str, lambda: (qt.QTextEdit,), _text_edit),
    (
        lambda kind: kind is FloatRange,
        lambda: (ctk.ctkRangeWidget, ctk.ctkDoubleRangeSlider, slicer.qMRMLRangeWidget),
        _range,
    ),
    (_is_path, lambda: (ctk.ctkPathLineEdit,), _path("currentPath", "currentPathChanged")),
    (_is_path, lambda: (ctk.ctkDirectoryButton,), _path("directory", "directoryChanged")),
    (_takes_node, lambda: (slicer.qMRMLNodeComboBox,), _node),
)
