"""The order in which point prompts were placed, across all structures of a volume and the background.

The answer to a click depends on the clicks before it. An attribute of each prompts node holds the number of each of its
points, by the control point's ID, and is saved with the scene; labels and descriptions of points stay the user's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import slicer

ORDER = "CoralBaySlicer.Order"
"""Attribute of a prompts node: the number of each control point by its ID, as in "1=0 2=3"."""


class Point(NamedTuple):
    """A control point.

    Attributes:
        position: in the space of its node.
        number: by the order of placement.
        label, description: the user's own.
    """

    position: tuple[float, float, float]
    number: int
    label: str = ""
    description: str = ""

    def same_place(self, other: Point) -> bool:
        """Whether it is the same point at the same position, whatever its label and description."""
        return self[:2] == other[:2]


def is_placed(node: slicer.vtkMRMLMarkupsFiducialNode, index: int) -> bool:
    """Whether a control point has been placed; the point that follows the mouse has not."""
    return node.GetNthControlPointPositionStatus(index) == node.PositionDefined


def placed(node: slicer.vtkMRMLMarkupsFiducialNode) -> list[int]:
    """Indices of the control points that have been placed."""
    return [index for index in range(node.GetNumberOfControlPoints()) if is_placed(node, index)]


def number_points(nodes: Iterable[slicer.vtkMRMLMarkupsFiducialNode]) -> None:
    """Give each placed point that has no number the next one; points that have one keep it."""
    known = [(node, [node.GetNthControlPointID(index) for index in placed(node)], _read(node)) for node in nodes]
    following = 1 + max((numbers[each] for _node, ids, numbers in known for each in ids if each in numbers), default=-1)
    for node, ids, numbers in known:
        kept = {}
        for each in ids:
            if each in numbers:
                kept[each] = numbers[each]
            else:
                kept[each], following = following, following + 1
        if kept != numbers:
            _write(node, kept)


def numbers_of(node: slicer.vtkMRMLMarkupsFiducialNode) -> list[int]:
    """The number of each placed point, in the order of their indices; those without a number are the last ones."""
    numbers = _read(node)
    following = 1 + max(numbers.values(), default=-1)
    return [numbers.get(node.GetNthControlPointID(index), following + index) for index in placed(node)]


def points_of(node: slicer.vtkMRMLMarkupsFiducialNode) -> tuple[Point, ...]:
    """The placed points in the order of their numbers, for `restore`."""
    points = [
        Point(
            tuple(node.GetNthControlPointPosition(index)),
            number,
            node.GetNthControlPointLabel(index),
            node.GetNthControlPointDescription(index),
        )
        for index, number in zip(placed(node), numbers_of(node), strict=True)
    ]
    return tuple(sorted(points, key=lambda point: point.number))


def restore(node: slicer.vtkMRMLMarkupsFiducialNode, points: Sequence[Point]) -> None:
    """Give a node other points, with their numbers.

    Points that the node has already, by their numbers, are moved: their labels, descriptions and other properties stay.
    """
    unplaced: dict[int, list[Point]] = {}
    for point in points:
        unplaced.setdefault(point.number, []).append(point)
    present = [(node.GetNthControlPointID(index), n) for index, n in zip(placed(node), numbers_of(node), strict=True)]
    numbers = {}
    with slicer.util.NodeModify(node):
        for point_id, number in present:
            index = node.GetNthControlPointIndexByID(point_id)
            if not unplaced.get(number):
                node.RemoveNthControlPoint(index)
                continue
            position = unplaced[number].pop(0).position
            if position != tuple(node.GetNthControlPointPosition(index)):
                node.SetNthControlPointPosition(index, *position)
            numbers[point_id] = number
        for point in (each for rest in unplaced.values() for each in rest):
            index = node.AddControlPoint(*point.position)
            node.SetNthControlPointLabel(index, point.label)
            node.SetNthControlPointDescription(index, point.description)
            numbers[node.GetNthControlPointID(index)] = point.number
        _write(node, numbers)


def _read(node: slicer.vtkMRMLMarkupsFiducialNode) -> dict[str, int]:
    """The attribute; entries that cannot be read are left out, because a scene file may be damaged."""
    numbers = {}
    for entry in (node.GetAttribute(ORDER) or "").split():
        point_id, _equals, number = entry.rpartition("=")
        if number.isdecimal() and len(number) < 10:
            numbers[point_id] = int(number)
    return numbers


def _write(node: slicer.vtkMRMLMarkupsFiducialNode, numbers: dict[str, int]) -> None:
    node.SetAttribute(ORDER, " ".join(f"{point_id}={number}" for point_id, number in numbers.items()))
