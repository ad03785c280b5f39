"""Which answer to the first click of a structure the user chose: a part of the most probable region, or a larger one.

An attribute of the structure's prompts node holds the choice with the number of that click (see `order`), and is saved with
the scene. The choice ends with the click.
"""

from __future__ import annotations

from collections.abc import Iterable

import slicer

from . import order

EXTENT = "CoralBaySlicer.Extent"
"""Attribute of a prompts node, as in "4=-1": the number of the first click, and -1 for a part or 1 for a larger region."""


def extent_of(node: slicer.vtkMRMLMarkupsFiducialNode) -> int:
    """-1, 0 or 1; 0 for the most probable region. See the library's `Segmenter.fit`."""
    click, _equals, extent = (node.GetAttribute(EXTENT) or "").rpartition("=")
    numbers = order.numbers_of(node)
    return int(extent) if extent in ("-1", "1") and numbers and click == str(min(numbers)) else 0


def choose(node: slicer.vtkMRMLMarkupsFiducialNode, extent: int) -> None:
    """Choose the answer to the first click of a structure that has points with numbers."""
    if extent:
        node.SetAttribute(EXTENT, f"{min(order.numbers_of(node))}={extent}")
    else:
        node.RemoveAttribute(EXTENT)


def forget_removed(nodes: Iterable[slicer.vtkMRMLMarkupsFiducialNode]) -> None:
    """Forget the choices for first clicks that were removed."""
    for node in nodes:
        if node.GetAttribute(EXTENT) is not None and not extent_of(node):
            node.RemoveAttribute(EXTENT)
