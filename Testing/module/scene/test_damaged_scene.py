"""Scenes whose attributes and parameters are not what the module wrote: damaged files, edited files, copied nodes."""

from __future__ import annotations

import gc
import logging
import re
from pathlib import Path
from typing import Any

import host
import numpy as np
import pytest

pytestmark = pytest.mark.slow

DAMAGED = {
    "threshold": ("abc", "", "nan", "1e999", "-5", "5000"),
    "regionCount": ("1.5", "ten", "99999999999999999999", "0"),
    "clusters": ("", "1"),
    "livePreview": ("", "maybe"),
    "overlay": ("banana", ""),
    "queryKind": ("everything",),
    "scope": ("moon",),
    "scansTask": ("0",),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_parameter_that_cannot_be_used_gets_its_default(
    coralbay: Any, driver: Any, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    logic = coralbay.logic
    default = getattr(logic.getParameterNode(), name)
    others = {other: getattr(logic.getParameterNode(), other) for other in DAMAGED if other != name}
    node = logic.getParameterNode().parameterNode
    for text in DAMAGED[name]:
        coralbay.panel._set_parameters(None)
        gc.collect()  # Slicer's wrappers read each value that changes, and these cannot be read.
        node.SetParameter(name, text)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            coralbay.panel._connect()
        driver.settle()
        assert getattr(logic.getParameterNode(), name) == default, text
        assert name in caplog.text
        assert {other: getattr(logic.getParameterNode(), other) for other in others} == others
    assert host.dialogs.texts("error") == []


def test_a_parameter_that_can_be_used_is_kept(coralbay: Any) -> None:
    parameters = coralbay.logic.getParameterNode()
    parameters.threshold, parameters.regionCount, parameters.overlay, parameters.solid = 99, 200, "off", True
    parameters = coralbay.logic.getParameterNode()
    assert (parameters.threshold, parameters.regionCount, parameters.overlay, parameters.solid) == (99, 200, "off", True)


def test_a_reference_to_another_kind_of_node_is_dropped(coralbay: Any, make_volume: Any) -> None:
    import slicer

    volume, parameters = make_volume(), coralbay.logic.getParameterNode()
    parameters.volume = volume
    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode")
    for name in ("output", "queryRoi", "scansTable"):
        parameters.parameterNode.SetNodeReferenceID(name, table.GetID())
    parameters = coralbay.logic.getParameterNode()
    assert (parameters.volume, parameters.output, parameters.queryRoi) == (volume, None, None)
    assert parameters.scansTable is table


def test_a_damaged_scene_file_opens(coralbay: Any, driver: Any, make_volume: Any, tmp_path: Path) -> None:
    """Every number that the module keeps in a scene file is replaced, and the scene is opened and added."""
    import slicer
    from CoralBaySlicerCore.scene import structures

    volume = make_volume()
    coralbay.logic.getParameterNode().volume = volume
    for number, name in enumerate(("lung", "heart")):
        structures.add_point(structures.add(volume, name), [number, 0, 0])
    file = tmp_path / "scene.mrml"
    slicer.util.saveNode(volume, str(tmp_path / "ct.nrrd"))
    for structure in structures.of_volume(volume):
        slicer.util.saveNode(structure.node, str(tmp_path / f"{structure.name}.mrk.json"))
    slicer.mrmlScene.SetURL(str(file))
    slicer.mrmlScene.Commit()
    text = file.read_text(encoding="utf-8")
    damaged = text.replace("CoralBaySlicer.Label:1", "CoralBaySlicer.Label:one")
    before, node, after = damaged.partition('id="vtkMRMLScriptedModuleNodeCoralBaySlicer"')
    ours, end, after = after.partition("<SegmentEditor")
    ours = re.sub(r"(threshold|overlayOpacity|regionCount|clusters)(\W+)[0-9.]+", r"\1\2many", ours)
    damaged = before + node + ours + end + after
    assert damaged.count("many") == 4 and "Label:one" in damaged, text
    file.write_text(damaged, encoding="utf-8")
    for load in (slicer.util.loadScene, lambda path: slicer.util.loadScene(path, {"clear": False})):
        load(str(file))
        driver.settle()
        parameters = coralbay.logic.getParameterNode()
        assert (parameters.threshold, parameters.regionCount, parameters.clusters) == (50, 10, 8)
        found = structures.of_volume(parameters.volume)
        assert sorted((each.name, each.label) for each in found) == [("Background", 0), ("heart", 2), ("lung", 3)]
        assert coralbay.panel.parameters is not None
        del parameters  # Slicer's wrappers read each value that a scene brings.
    assert host.dialogs.texts("error") == [] and host.unhandled == []


@pytest.mark.parametrize("label", ["", "x", "1.0", "-1", "65536", "1" * 50, "nan", "\u00b2"])
def test_a_label_that_is_none_is_replaced_by_a_free_one(coralbay: Any, make_volume: Any, label: str) -> None:
    from CoralBaySlicerCore.scene import structures

    volume = make_volume()
    first, second = structures.add(volume, "lung"), structures.add(volume, "heart")
    first.node.SetAttribute(structures.LABEL, label)
    for structure in (first, second):
        structures.add_point(structure, [0, 0, 0])
    for _again in range(2):
        _points, labels, names = structures.points_in(volume, structures.of_volume(volume))
        assert (labels.tolist(), names) == ([2, 3], {2: "heart", 3: "lung"})
    assert structures.add(volume, "spleen").label == 4


def test_a_copy_of_a_structure_is_a_structure_of_its_own(coralbay: Any, make_volume: Any) -> None:
    """Slicer's other modules copy the attributes of a node, too."""
    import slicer
    from CoralBaySlicerCore.scene import structures

    volume = make_volume()
    original = structures.add(volume, "lung")
    structures.add_point(original, [0, 0, 0])
    copy = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "lung copy")
    copy.Copy(original.node)
    copy.SetName("lung copy")
    _points, labels, names = structures.points_in(volume, structures.of_volume(volume))
    assert (labels.tolist(), names) == ([1, 2], {1: "lung", 2: "lung copy"})
    largest = structures.of_volume(volume)[1].node
    largest.SetAttribute(structures.LABEL, "65535")
    copy.SetAttribute(structures.LABEL, "65535")
    original.node.SetAttribute(structures.LABEL, "65535")
    assert [structure.label for structure in structures.of_volume(volume)] == [1, 65535, 0]


def test_geometry_that_cannot_be_used_is_told(coralbay: Any, make_volume: Any) -> None:
    import slicer
    import vtk
    from CoralBaySlicerCore.scene import query_markups, volumes

    from CoralBayLib.core.errors import QueryError, VolumeError

    volume = make_volume()
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    for size in ([0, 1, 1], [np.nan, 1, 1], [np.inf, 1, 1]):
        roi.SetSize(size)
        with pytest.raises(QueryError):
            query_markups.points_in_roi(roi, volume)
    for value in (0.0, np.nan, np.inf):
        matrix = vtk.vtkMatrix4x4()
        matrix.SetElement(0, 0, value)
        volume.SetIJKToRASMatrix(matrix)
        with pytest.raises(VolumeError):
            volumes.read(volume)
