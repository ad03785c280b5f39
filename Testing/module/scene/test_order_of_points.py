"""Point prompts keep the order in which they were placed, across structures and the background."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def two(coralbay: Any, make_volume: Any) -> Any:
    """A volume with a structure and the background, whose points were placed in turn, at x = 0, 1, 2 and 3."""
    from CoralBaySlicerCore.scene import structures

    volume = make_volume()
    structures.add(volume, "lesion")
    known = structures.of_volume(volume)
    for n in range(4):
        structures.add_point(known[n % 2], [n, 0, 0])
        structures.number_points(known)
    return volume, known


def order(volume: Any) -> list[tuple[int, int]]:
    """Position and label of each point."""
    from CoralBaySlicerCore.scene import structures

    known = structures.of_volume(volume)
    structures.number_points(known)
    points, labels, _names = structures.points_in(volume, known)
    return [(round(x), label) for x, label in zip(points[:, 0].tolist(), labels.tolist(), strict=True)]


def test_points_are_in_the_order_of_placement(two: Any) -> None:
    volume, (lesion, background) = two
    assert order(volume) == [(0, 1), (1, 0), (2, 1), (3, 0)]
    lesion.node.RemoveNthControlPoint(0)
    assert order(volume) == [(1, 0), (2, 1), (3, 0)]
    background.node.AddControlPointWorld(4, 0, 0)
    assert order(volume) == [(1, 0), (2, 1), (3, 0), (4, 0)]
    # A point that is dragged stays the point that it was.
    background.node.SetNthControlPointPositionWorld(0, 9, 0, 0)
    assert order(volume) == [(9, 0), (2, 1), (3, 0), (4, 0)]
    # IDs of points that were removed are used again by the markups node.
    lesion.node.RemoveAllControlPoints()
    assert order(volume) == [(9, 0), (3, 0), (4, 0)]
    lesion.node.AddControlPointWorld(5, 0, 0)
    assert order(volume) == [(9, 0), (3, 0), (4, 0), (5, 1)]


def test_undo_and_redo_keep_the_order(two: Any) -> None:
    from CoralBaySlicerCore.scene.structures import History

    volume, known = two
    history = History()
    history.record(known)
    known[0].node.RemoveNthControlPoint(0)
    history.record(known)
    known[0].node.AddControlPointWorld(7, 0, 0)
    history.record(known)
    history.undo(known)
    assert order(volume) == [(1, 0), (2, 1), (3, 0)]
    history.undo(known)
    assert order(volume) == [(0, 1), (1, 0), (2, 1), (3, 0)]
    history.redo(known)
    history.redo(known)
    assert order(volume) == [(1, 0), (2, 1), (3, 0), (7, 1)]


def test_undo_keeps_labels_and_descriptions(two: Any) -> None:
    from CoralBaySlicerCore.scene.structures import History

    volume, known = two
    node, history = known[0].node, History()
    history.record(known)
    for index, label in enumerate(("apex", "base")):
        node.SetNthControlPointLabel(index, label)
        node.SetNthControlPointDescription(index, f"{label}, as in the report")
    node.SetNthControlPointLocked(1, True)
    history.note_labels(known)
    assert not history.can_undo
    node.RemoveNthControlPoint(0)
    history.record(known)
    known[1].node.AddControlPointWorld(7, 0, 0)
    history.record(known)

    def described() -> dict[int, tuple[str, str, bool]]:
        return {
            round(node.GetNthControlPointPosition(n)[0]): (
                node.GetNthControlPointLabel(n),
                node.GetNthControlPointDescription(n),
                bool(node.GetNthControlPointLocked(n)),
            )
            for n in range(node.GetNumberOfControlPoints())
        }

    base = ("base", "base, as in the report", True)
    history.undo(known)
    assert described() == {2: base}
    history.undo(known)
    assert described() == {0: ("apex", "apex, as in the report", False), 2: base}
    assert order(volume) == [(0, 1), (1, 0), (2, 1), (3, 0)]
    history.redo(known)
    assert described() == {2: base}
    # What the user wrote after a step is not undone with it.
    node.SetNthControlPointLabel(0, "bottom")
    history.undo(known)
    assert described()[2][0] == "bottom"
    node.SetNthControlPointPosition(0, 5, 0, 0)
    history.record(known)
    history.undo(known)
    assert described()[2][0] == "bottom"


def test_the_order_is_saved_with_the_scene_and_descriptions_stay(two: Any, tmp_path: Path) -> None:
    import slicer

    volume, (lesion, _background) = two
    lesion.node.SetNthControlPointDescription(0, "as in the report")
    before, name = order(volume), volume.GetName()
    path = str(tmp_path / "scene.mrb")
    assert slicer.util.saveScene(path)
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(path)
    volume = slicer.util.getNode(name)
    assert order(volume) == before
    assert slicer.util.getNode("lesion").GetNthControlPointDescription(0) == "as in the report"


@pytest.mark.parametrize("text", ["", "1", "= =3 1=x", "1=-1 2=99999999999999999999", "1=0 1=0 2=0"])
def test_a_damaged_order_is_no_obstacle(two: Any, text: str) -> None:
    from CoralBaySlicerCore.scene.clicks.order import ORDER

    volume, (lesion, _background) = two
    lesion.node.SetAttribute(ORDER, text)
    assert sorted(order(volume)) == [(0, 1), (1, 0), (2, 1), (3, 0)]
    assert order(volume) == order(volume)


def test_points_without_numbers_come_last(two: Any) -> None:
    from CoralBaySlicerCore.scene import structures

    volume, known = two
    structures.add_point(known[0], [4, 0, 0])
    points, _labels, _names = structures.points_in(volume, known)
    assert np.array_equal(np.round(points[:, 0]), [0, 1, 2, 3, 4])
