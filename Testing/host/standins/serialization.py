"""Typed values in a parameter node, stored under the names that Slicer's own wrapper uses.

A scene that was saved here opens in Slicer and the other way round: a list is ``name.len`` and ``name.0`` …, a dict is
a list of pairs, a union is ``name.<index of its type>``, a node is a reference beside an empty parameter.
"""

import enum
import pathlib
import types
import typing
from collections.abc import Callable, Iterator, MutableMapping, MutableSequence
from typing import Any

import slicer


def is_node(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode)


def is_union(kind: Any) -> bool:
    return typing.get_origin(kind) in (typing.Union, types.UnionType)


def plain(kind: Any) -> tuple[Any, tuple]:
    """A type without its annotations, and these."""
    if typing.get_origin(kind) is typing.Annotated:
        return kind.__origin__, kind.__metadata__
    return kind, ()


class FloatRange:
    """Two numbers in order."""

    def __init__(self, minimum: float = 0, maximum: float = 0) -> None:
        self.setRange(minimum, maximum)

    def setRange(self, minimum: float, maximum: float) -> None:
        if not minimum <= maximum:
            raise ValueError(f"FloatRange must have minimum <= maximum: {minimum} <= {maximum}")
        self.minimum, self.maximum = minimum, maximum

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FloatRange) and (self.minimum, self.maximum) == (other.minimum, other.maximum)

    def __repr__(self) -> str:
        return f"FloatRange(minimum={self.minimum}, maximum={self.maximum})"


class ObservedList(MutableSequence):
    """A list whose every change is written back."""

    def __init__(self, items: list, save: Callable[[Any], None]) -> None:
        self._items, self._save = items, save

    def __getitem__(self, index: Any) -> Any:
        return self._items[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        self._items[index] = value
        self._save(self._items)

    def __delitem__(self, index: Any) -> None:
        del self._items[index]
        self._save(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def insert(self, index: int, value: Any) -> None:
        self._items.insert(index, value)
        self._save(self._items)

    def __eq__(self, other: object) -> bool:
        return self._items == (other._items if isinstance(other, ObservedList) else other)

    def __repr__(self) -> str:
        return f"ObservedList({self._items})"


class ObservedDict(MutableMapping):
    """A dict whose every change is written back."""

    def __init__(self, items: dict, save: Callable[[Any], None]) -> None:
        self._items, self._save = items, save

    def __getitem__(self, key: Any) -> Any:
        return self._items[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._items[key] = value
        self._save(self._items)

    def __delitem__(self, key: Any) -> None:
        del self._items[key]
        self._save(self._items)

    def __iter__(self) -> Iterator:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        return self._items == (other._items if isinstance(other, ObservedDict) else other)

    def __repr__(self) -> str:
        return f"ObservedDict({self._items})"


def default(kind: Any) -> Any:
    """The value of a parameter that has no other default."""
    kind, _ = plain(kind)
    if is_union(kind):
        kinds = typing.get_args(kind)
        return None if type(None) in kinds else default(kinds[0])
    if is_node(kind) or kind is type(None):
        return None
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return next(iter(kind))
    origin = typing.get_origin(kind) or kind
    if origin is tuple:
        return tuple(default(part) for part in typing.get_args(kind))
    return origin()


def check(kind: Any, value: Any) -> None:
    """Raise where ``value`` is not of type ``kind`` or breaks an annotation."""
    kind, annotations = plain(kind)
    if is_union(kind):
        _alternative(kind, value)
    elif value is None:
        if not is_node(kind) and kind is not type(None):
            raise ValueError("Value must not be None")
    else:
        wanted = typing.get_origin(kind) or kind
        also = {float: (int,), list: (ObservedList, tuple), dict: (ObservedDict,), tuple: (list,)}.get(wanted, ())
        if not isinstance(value, (wanted, *also)):
            raise TypeError(f"Value must be of type '{wanted}', is type '{type(value)}' value '{value}'")
        arguments = typing.get_args(kind)
        if wanted is list and arguments:
            for item in value:
                check(arguments[0], item)
    for annotation in annotations:
        if hasattr(annotation, "validate"):
            annotation.validate(value)


def _alternative(kind: Any, value: Any) -> int:
    failure: Exception | None = None
    for index, part in enumerate(typing.get_args(kind)):
        if value is None and part is not type(None):
            continue
        try:
            check(part, value)
        except (TypeError, ValueError) as error:
            failure = error
        else:
            return index
    raise failure or TypeError(f"Unable to write value '{value}' of type '{type(value)}'")


def write(node: Any, name: str, kind: Any, value: Any) -> None:
    kind, _ = plain(kind)
    origin, arguments = typing.get_origin(kind) or kind, typing.get_args(kind)
    if is_union(kind):
        index = _alternative(kind, value)
        remove(node, name, kind)
        write(node, f"{name}.{index}", arguments[index], value)
    elif is_node(kind):
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)
    elif origin is list:
        value = list(value)
        remove(node, name, kind)
        for index, item in enumerate(value):
            write(node, f"{name}.{index}", arguments[0], item)
        node.SetParameter(f"{name}.len", str(len(value)))
    elif origin is dict:
        write(node, name, list[tuple[arguments]], list(value.items()))
    elif origin is tuple:
        for index, (part, item) in enumerate(zip(arguments, value, strict=True)):
            write(node, f"{name}.{index}", part, item)
    elif kind is FloatRange:
        write(node, f"{name}._minimum", float, value.minimum)
        write(node, f"{name}._maximum", float, value.maximum)
    elif isinstance(kind, type) and issubclass(kind, enum.Enum):
        node.SetParameter(name, value.name)
    else:
        node.SetParameter(name, "True" if kind is type(None) else str(value))


def read(node: Any, name: str, kind: Any) -> Any:
    kind, _ = plain(kind)
    origin, arguments = typing.get_origin(kind) or kind, typing.get_args(kind)
    if is_union(kind):
        index = next(i for i, part in enumerate(arguments) if holds(node, f"{name}.{i}", part))
        return read(node, f"{name}.{index}", arguments[index])
    if is_node(kind):
        return node.GetNodeReference(name)
    if origin is list:
        count = int(node.GetParameter(f"{name}.len"))
        items = [read(node, f"{name}.{index}", arguments[0]) for index in range(count)]
        return ObservedList(items, lambda changed: write(node, name, kind, changed))
    if origin is dict:
        pairs = read(node, name, list[tuple[arguments]])
        return ObservedDict(dict(pairs), lambda changed: write(node, name, kind, changed))
    if origin is tuple:
        return tuple(read(node, f"{name}.{index}", part) for index, part in enumerate(arguments))
    if kind is FloatRange:
        return FloatRange(read(node, f"{name}._minimum", float), read(node, f"{name}._maximum", float))
    text = node.GetParameter(name)
    if kind is type(None):
        return None
    if kind is bool:
        return text == "True"
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind[text]
    return kind(text)


def holds(node: Any, name: str, kind: Any) -> bool:
    """Whether the node has a value of that name."""
    kind, _ = plain(kind)
    origin, arguments = typing.get_origin(kind) or kind, typing.get_args(kind)
    if is_union(kind):
        return any(holds(node, f"{name}.{index}", part) for index, part in enumerate(arguments))
    if origin in (list, dict):
        return bool(node.HasParameter(f"{name}.len"))
    if origin is tuple:
        return holds(node, f"{name}.0", arguments[0])
    return bool(node.HasParameter(f"{name}._minimum" if kind is FloatRange else name))


def remove(node: Any, name: str, kind: Any) -> None:
    """Forget the value of that name and all its parts."""
    for known in list(node.GetParameterNames()):
        if known == name or known.startswith(f"{name}."):
            node.UnsetParameter(known)
    roles: list[str] = []
    node.GetNodeReferenceRoles(roles)
    for role in roles:
        if role == name or role.startswith(f"{name}."):
            node.RemoveNodeReferenceIDs(role)


SUPPORTED = (bool, int, float, str, FloatRange, pathlib.PurePath, enum.Enum, slicer.vtkMRMLNode)


def check_type(kind: Any) -> None:
    """Raise for a type that cannot be stored."""
    kind, _ = plain(kind)
    arguments = typing.get_args(kind)
    if is_union(kind) or typing.get_origin(kind) in (list, dict, tuple):
        for part in arguments:
            check_type(part)
    elif kind is not type(None) and not (isinstance(kind, type) and issubclass(kind, SUPPORTED)):
        raise TypeError(f"Unable to create serializer for type: {kind}")
