"""Structures to segment and their point prompts: one markups node each, which refers to its volume."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import slicer
from numpy.typing import NDArray
from slicer.i18n import tr as _

from CoralBayLib.core.names import fold, unique_names
from CoralBayLib.core.schemas import MAX_LABEL

from . import colors
from .clicks import order
from .volumes import copy_transform, from_world

LABEL = "CoralBaySlicer.Label"
"""Attribute of a prompts node: "0" for the background, "1" and up for structures."""
_VOLUME_ROLE = "CoralBaySlicer.Volume"
_GLYPH_SCALE = 4.5
"""Size of the points, percent of the view."""


@dataclass(frozen=True, eq=False)
class Structure:
    """A structure, or the background.

    Attributes:
        label: 0 for the background, 1 and above for structures.
        node: with its prompts.
    """

    label: int
    node: slicer.vtkMRMLMarkupsFiducialNode

    @property
    def name(self) -> str:
        """Name that the user sees."""
        return _("Background") if self.label == 0 else self.node.GetName()

    @property
    def color(self) -> tuple[float, float, float]:
        """RGB from 0 to 1."""
        return tuple(self.node.GetDisplayNode().GetSelectedColor())

    def world_points(self) -> NDArray[np.float64]:
        """(N, 3) positions of the placed points, RAS mm of the world."""
        node = self.node
        return np.array([node.GetNthControlPointPositionWorld(i) for i in order.placed(node)]).reshape(-1, 3)


def of_volume(volume: slicer.vtkMRMLScalarVolumeNode | None) -> list[Structure]:
    """The structures of a volume by label; the background, if there is one, is last.

    A node whose label is no number that a structure can have, or is that of an earlier structure, gets a free label: a scene
    file may be damaged, and a copy that was made in another module has the label of the original.
    """
    if volume is None:
        return []
    result: list[Structure] = []
    others = []
    labels: set[int] = set()
    for node in slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode"):
        if node.GetAttribute(LABEL) is None or node.GetNodeReferenceID(_VOLUME_ROLE) != volume.GetID():
            continue
        label = _label_of(node)
        if label is None or (label and label in labels):
            others.append(node)
            continue
        labels.add(label)
        result.append(Structure(label, node))
    for node in others:
        label = _free_label(labels)
        labels.add(label)
        node.SetAttribute(LABEL, str(label))
        result.append(Structure(label, node))
    return sorted(result, key=lambda structure: structure.label or 1 << 30)


def _label_of(node: slicer.vtkMRMLMarkupsFiducialNode) -> int | None:
    """The label in a node's attribute; None if it is no number, or none that a labelmap can hold."""
    try:
        label = int(node.GetAttribute(LABEL))
    except ValueError:
        return None
    return label if 0 <= label <= MAX_LABEL else None


def _free_label(labels: Collection[int]) -> int:
    """The label after the largest; the smallest that is free when there is none after it."""
    largest = max(labels, default=0)
    return largest + 1 if largest < MAX_LABEL else next(label for label in range(1, MAX_LABEL) if label not in labels)


def add(volume: slicer.vtkMRMLScalarVolumeNode, name: str = "") -> Structure:
    """Add a structure to a volume, and the background if it has none. Without a name the structure gets a default name."""
    known = of_volume(volume)
    label = _free_label({structure.label for structure in known})
    taken = {fold(structure.name) for structure in known}
    name = name or next(
        candidate
        for number in range(label, label + len(known) + 1)
        if fold(candidate := _("Structure {number}").format(number=number)) not in taken
    )
    name = unique_names([*(structure.name for structure in known), name])[-1]
    structure = _make(volume, label, name, colors.label_color(label))
    if not any(each.label == 0 for each in known):
        _make(volume, 0, _("Background"), colors.BACKGROUND)
    return structure


def remove(structure: Structure) -> None:
    """Remove a structure and its points from the scene."""
    slicer.mrmlScene.RemoveNode(structure.node)


def add_point(structure: Structure, world: Sequence[float] | NDArray[np.float64]) -> None:
    """Add a point prompt at (3,) RAS mm of the world, as a click does."""
    structure.node.AddControlPointWorld(*(float(part) for part in world))


def points_in(
    volume: slicer.vtkMRMLScalarVolumeNode, structures: list[Structure]
) -> tuple[NDArray[np.float64], NDArray[np.int64], dict[int, str]]:
    """All point prompts of some structures, in the order in which they were placed (see `number_points`).

    Returns:
        points: (N, 3) RAS mm in the volume's own space.
        labels: (N,) label of the structure of each point.
        names: of the structures, by label; unique.
    """
    points: list[NDArray[np.float64]] = [np.empty((0, 3))]
    labels = [np.empty(0, np.int64)]
    numbers: list[int] = []
    for structure in structures:
        placed = structure.world_points()
        points.append(from_world(volume, placed))
        labels.append(np.full(len(placed), structure.label))
        numbers += order.numbers_of(structure.node)
    by_number = np.argsort(np.array(numbers, np.int64), kind="stable")
    named = [structure for structure in structures if structure.label]
    # The user can rename nodes anywhere in Slicer, so that two structures may have the same name.
    unique = unique_names(structure.name for structure in named)
    names = {structure.label: name for structure, name in zip(named, unique, strict=True)}
    return np.concatenate(points)[by_number], np.concatenate(labels)[by_number], names


def number_points(structures: list[Structure]) -> None:
    """Take note of which points were placed since the last call, so that they come after all others."""
    order.number_points(structure.node for structure in structures)


def _make(volume: slicer.vtkMRMLScalarVolumeNode, label: int, name: str, color: tuple[float, float, float]) -> Structure:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
    node.SetAttribute(LABEL, str(label))
    node.SetNodeReferenceID(_VOLUME_ROLE, volume.GetID())
    node.CreateDefaultDisplayNodes()
    copy_transform(node, volume)
    display = node.GetDisplayNode()
    display.SetSelectedColor(*color)
    display.SetColor(*color)
    display.SetActiveColor(*color)
    # Larger than Slicer's default of 3 %: the points lie on a map of the same color.
    display.SetGlyphScale(_GLYPH_SCALE)
    display.SetOpacity(1.0)
    # Many names beside the points would cover the structure.
    display.SetPointLabelsVisibility(False)
    display.SetPropertiesLabelVisibility(False)
    return Structure(label, node)


_State = dict[str, tuple[order.Point, ...]]
"""The points of each node, by its ID."""


class History:
    """Undo and redo of point prompts: the points of all nodes after each change, and the order in which they were placed.

    Example::

        history.record(structures)      # after each change; an unchanged state is not recorded again
        history.undo(structures)
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._states: list[_State] = []
        self._at = -1

    @property
    def can_undo(self) -> bool:
        """Whether there is an earlier state."""
        return self._at > 0

    @property
    def can_redo(self) -> bool:
        """Whether a state was undone."""
        return self._at + 1 < len(self._states)

    def record(self, structures: list[Structure]) -> None:
        """Record the current points; if they changed, states that were undone are discarded."""
        number_points(structures)
        state = _state_of(structures)
        if self._at < 0 or not _same_places(self._states[self._at], state):
            del self._states[self._at + 1 :]
            self._states.append(state)
            self._at += 1
        else:
            self._states[self._at] = state

    def note_labels(self, structures: list[Structure]) -> None:
        """Take note of labels and descriptions that the user changed; that is no step to undo."""
        state = _state_of(structures)
        if self._at >= 0 and _same_places(self._states[self._at], state):
            self._states[self._at] = state

    def undo(self, structures: list[Structure]) -> None:
        """Undo the last change."""
        if self.can_undo:
            self._at -= 1
            _restore(structures, self._states[self._at])

    def redo(self, structures: list[Structure]) -> None:
        """Redo the last change that was undone."""
        if self.can_redo:
            self._at += 1
            _restore(structures, self._states[self._at])


def _state_of(structures: list[Structure]) -> _State:
    return {structure.node.GetID(): order.points_of(structure.node) for structure in structures}


def _same_places(one: _State, other: _State) -> bool:
    """Whether two states have the same points, whatever their labels."""
    return one.keys() == other.keys() and all(
        len(points) == len(other[node]) and all(map(order.Point.same_place, points, other[node]))
        for node, points in one.items()
    )


def _restore(structures: list[Structure], state: _State) -> None:
    for structure in structures:
        order.restore(structure.node, state.get(structure.node.GetID(), ()))
