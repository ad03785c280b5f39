"""The order in which point prompts were placed, across all structures of a volume and the background.

The answer to a click depends on the clicks before it. An attribute of each prompts node holds the number of each of its
points, by the control point's ID, and is saved with the scene; labels and descriptions of points stay the user's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import slicer

ORDER = "CoralBaySlicer.Order"
"""Attribute of a prompts node: the number of each control point by its ID, as in "1=0 2=3"."""

Point = tuple[tuple[float, float, float], int]
"""The position of a control point, in the space of its node, and its number."""


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
    """The placed points with their numbers, for `restore`."""
    positions = [tuple(node.GetNthControlPointPosition(index)) for index in placed(node)]
    return tuple(zip(positions, numbers_of(node), strict=True))


def restore(node: slicer.vtkMRMLMarkupsFiducialNode, points: Sequence[Point]) -> None:
    """Replace the points of a node by others, with their numbers."""
    with slicer.util.NodeModify(node):
        node.RemoveAllControlPoints()
        numbers = {}
        for position, number in points:
            numbers[node.GetNthControlPointID(node.AddControlPoint(*position))] = number
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
