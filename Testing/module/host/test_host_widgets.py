"""The shim widgets follow the scene, and the scene follows them."""

from pathlib import Path
from typing import Any

import host
import pytest
from host import mouse, pictures


@pytest.fixture
def combo(app: Any) -> Any:
    import slicer

    combo = slicer.qMRMLNodeComboBox()
    combo.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    combo.setMRMLScene(slicer.mrmlScene)
    yield combo
    combo.setMRMLScene(None)


def test_the_selector_follows_the_scene(combo: Any, make_volume: Any) -> None:
    import slicer

    assert combo.currentNode() is None
    first, second = make_volume(name="first"), make_volume(name="second")
    assert combo.nodeCount() == 2
    assert combo.currentNode() is None
    combo.setCurrentNode(second)
    assert combo.currentNodeID == second.GetID()
    second.SetName("renamed")
    assert combo._combo.currentText == "renamed"
    slicer.mrmlScene.RemoveNode(second)
    assert combo.nodeCount() == 1
    assert combo.nodeFromIndex(0) is first
    slicer.mrmlScene.Clear()
    assert combo.nodeCount() == 0
    assert combo.currentNode() is None


def test_the_selector_filters(combo: Any, make_volume: Any) -> None:
    import slicer

    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    plain, hidden, marked = make_volume(), make_volume(), make_volume()
    hidden.SetHideFromEditors(True)
    combo.setMRMLScene(None)
    combo.setMRMLScene(slicer.mrmlScene)
    assert combo.nodeCount() == 3
    combo.showChildNodeTypes = False
    assert combo.nodeCount() == 2
    marked.SetAttribute("CoralBay", "1")
    combo.addAttribute("vtkMRMLScalarVolumeNode", "CoralBay", "1")
    assert combo.nodeCount() == 1
    assert combo.nodeFromIndex(0) is marked
    assert plain is not marked


def test_the_selector_offers_none_and_new_nodes(combo: Any) -> None:
    combo.noneEnabled = True
    node = combo.addNode()
    assert combo.currentNode() is node
    combo.setCurrentNode(None)
    assert combo._combo.currentText == "None"


def test_several_nodes_can_be_checked(app: Any, make_volume: Any) -> None:
    import qt
    import slicer

    combo = slicer.qMRMLCheckableNodeComboBox()
    combo.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    combo.setMRMLScene(slicer.mrmlScene)
    heard: list[int] = []
    combo.connect("checkedNodesChanged()", lambda: heard.append(1))
    first, second = make_volume(), make_volume()
    combo.setCheckState(second, qt.Qt.Checked)
    assert combo.checkedNodes() == (second,)
    assert combo.uncheckedNodes() == (first,)
    assert heard == [1]


def test_a_deleted_selector_lets_go_of_the_scene(app: Any, make_volume: Any) -> None:
    import slicer

    parent = slicer.qMRMLWidget()
    combo = slicer.qMRMLNodeComboBox(parent)
    combo.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    combo.setMRMLScene(slicer.mrmlScene)
    parent.deleteLater()
    host.process_events()
    make_volume()
    assert host.unhandled == []


def test_place_widget_and_markups_table(app: Any, make_volume: Any) -> None:
    import slicer

    slicer.util.setSliceViewerLayers(background=make_volume(), fit=True)
    widget = slicer.qSlicerSimpleMarkupsWidget()
    widget.setMRMLScene(slicer.mrmlScene)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Prompts")
    node.CreateDefaultDisplayNodes()
    widget.setCurrentNode(node)
    placer = widget.markupsPlaceWidget()
    heard: list[bool] = []
    placer.connect("activeMarkupsPlaceModeChanged(bool)", heard.append)
    placer.placeMultipleMarkups = slicer.qSlicerMarkupsPlaceWidget.ForcePlaceMultipleMarkups
    widget.show()
    mouse.press(placer.placeButton())
    assert placer.placeModeEnabled
    mouse.click_view("Red", (0, 0, 0))
    mouse.click_view("Red", (10, 0, 0))
    assert widget.tableWidget().rowCount == 2
    mouse.press(placer.placeButton())
    mouse.press(placer.deleteButton())
    assert node.GetNumberOfControlPoints() == 1
    assert heard == [True, False]
    widget.close()


def test_segments_table(app: Any) -> None:
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.CreateDefaultDisplayNodes()
    table = slicer.qMRMLSegmentsTableView()
    table.setMRMLScene(slicer.mrmlScene)
    table.setSegmentationNode(node)
    heard: list[int] = []
    table.connect("selectionChanged(QItemSelection,QItemSelection)", lambda *_: heard.append(1))
    liver = node.GetSegmentation().AddEmptySegment("", "liver")
    node.GetSegmentation().AddEmptySegment("", "spleen")
    assert table.segmentCount == 2
    table.setSelectedSegmentIDs([liver])
    assert table.selectedSegmentIDs() == (liver,)
    assert heard
    node.GetSegmentation().RemoveSegment(liver)
    assert table.segmentCount == 1


def test_segment_selector_and_editor(app: Any, make_volume: Any) -> None:
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    segment = node.GetSegmentation().AddEmptySegment("", "liver")
    selector = slicer.qMRMLSegmentSelectorWidget()
    selector.setMRMLScene(slicer.mrmlScene)
    heard: list[str] = []
    selector.connect("currentSegmentChanged(QString)", heard.append)
    selector.setCurrentNode(node)
    assert (selector.currentNode(), selector.currentSegmentID(), heard) == (node, segment, [segment])
    editor = slicer.qMRMLSegmentEditorWidget()
    editor.setMRMLScene(slicer.mrmlScene)
    editor.setMRMLSegmentEditorNode(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode"))
    editor.setSegmentationNode(node)
    editor.setSourceVolumeNode(make_volume())
    editor.setCurrentSegmentID(segment)
    editor.setActiveEffectByName("Paint")
    assert editor.currentSegmentID() == segment
    assert editor.mrmlSegmentEditorNode().GetActiveEffectName() == "Paint"
    editor.saveStateForUndo()
    node.GetSegmentation().RemoveSegment(segment)
    editor.undo()
    assert node.GetSegmentation().GetSegment(segment) is not None
    editor.redo()
    assert node.GetSegmentation().GetSegment(segment) is None


def test_a_collapsed_section_hides_its_contents(example: Any) -> None:
    button = example.ui.inputsButton
    height = button.height
    mouse.press(button)
    assert button.collapsed
    assert not example.ui.thresholdSlider.isVisible()
    host.process_events(0.05)
    assert button.height < height
    mouse.press(button)
    assert example.ui.thresholdSlider.isVisible()


def test_hierarchy_items_come_and_go_with_their_nodes(make_volume: Any) -> None:
    import slicer

    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    volume = make_volume()
    item = hierarchy.GetItemByDataNode(volume)
    assert hierarchy.GetItemName(item) == "CT"
    slicer.mrmlScene.RemoveNode(volume)
    assert hierarchy.GetNumberOfItems() == 0


def test_color_nodes_that_modules_name_are_there(app: Any) -> None:
    import slicer

    for identifier in ("Grey", "Red", "FileViridis.txt", "FilePlasma.txt", "FileInferno.txt", "FileGenericColors.txt"):
        assert slicer.mrmlScene.GetNodeByID(f"vtkMRMLColorTableNode{identifier}") is not None, identifier


def test_status_messages_and_settings(app: Any) -> None:
    import qt
    import slicer

    assert slicer.util.showStatusMessage("Computing", 1000)
    assert slicer.util.mainWindow().statusBar().currentMessage() == "Computing"
    qt.QSettings().setValue("CoralBay/Device", "cpu")
    assert slicer.util.settingsValue("CoralBay/Device", "") == "cpu"
    assert slicer.app.settings().value("CoralBay/Device") == "cpu"
    assert pictures.view("Red").renderWindow().GetClassName() == "vtkEGLRenderWindow"


def test_files_of_each_kind_are_saved_and_loaded(make_volume: Any, tmp_path: Path) -> None:
    import slicer

    scene = slicer.mrmlScene
    volume = make_volume()
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        (slicer.util.arrayFromVolume(volume) > 0).astype("uint8"),
        segmentation,
        segmentation.GetSegmentation().AddEmptySegment("liver", "liver"),
        volume,
    )
    points = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    points.AddControlPoint(1, 2, 3)
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    for node, name, load in (
        (volume, "a.nrrd", slicer.util.loadVolume),
        (segmentation, "a.seg.nrrd", slicer.util.loadSegmentation),
        (points, "a.mrk.json", slicer.util.loadMarkups),
        (transform, "a.tfm", slicer.util.loadTransform),
    ):
        assert slicer.util.saveNode(node, str(tmp_path / name))
        assert load(str(tmp_path / name)).GetClassName() == node.GetClassName()
    with pytest.raises(RuntimeError, match="Failed to load"):
        slicer.util.loadVolume(str(tmp_path / "missing.nrrd"))


def test_utilities_that_need_qt(app: Any) -> None:
    import slicer

    progress = slicer.util.createProgressDialog(maximum=10, labelText="Embedding")
    progress.value = 5
    assert (progress.value, progress.labelText) == (5, "Embedding")
    progress.close()
    assert Path(slicer.util.tempDirectory()).is_dir()
    with slicer.util.WaitCursor():
        pass
    with slicer.util.MessageDialog("Wait"):
        pass
