"""All structures of a preview at once, in the label layer of the slice views."""

from typing import Any

import host
import numpy as np
import pytest
from host import mouse

from Testing.module.steps import click_all, color_at, show_at

pytestmark = pytest.mark.slow


@pytest.fixture
def two(ready: Any, driver: Any) -> Any:
    """The panel with a preview of two structures, the second selected; the centres of both."""
    _node, place, panel = ready
    click_all(panel, driver, place)
    mouse.press(panel.ui.addStructureButton)
    for offset in ([-32, 0, 0], [-29, 3, 0]):
        mouse.click_view("Red", place + offset)
    mouse.key("Esc")
    driver.settle()
    return panel, place, place - [32, 0, 0]


def layer_of(view: str = "Red") -> tuple[Any, Any, Any]:
    """The labelmap in a view, and the view's composite and slice nodes."""
    import slicer

    widget = slicer.app.layoutManager().sliceWidget(view)
    composite = widget.mrmlSliceCompositeNode()
    return slicer.mrmlScene.GetNodeByID(composite.GetLabelVolumeID() or ""), composite, widget.mrmlSliceNode()


def test_every_structure_is_shown_in_its_color(two: Any, driver: Any) -> None:
    import slicer

    panel, first, second = two
    panel.ui.overlaySelector.currentIndex = 2
    panel.ui.outlinesCheck.click()
    driver.settle()
    labelmap, composite, view = layer_of()
    assert not view.GetUseLabelOutline()
    assert composite.GetLabelOpacity() == pytest.approx(0.5)
    percents = panel.few_shot.preview.percent
    assert np.array_equal(slicer.util.arrayFromVolume(labelmap), panel.few_shot.preview.labels)
    assert set(np.unique(panel.few_shot.preview.labels)) == {0, 1, 2}
    both = (percents[1] >= 50) & (percents[2] >= 50) & (percents[1] != percents[2])
    likelier = np.where(percents[2] > percents[1], 2, 1)
    assert np.array_equal(panel.few_shot.preview.labels[both], likelier[both])
    show_at(first)
    orange, blue = color_at("Red", first + [2, -2, 0]), color_at("Red", second + [2, -2, 0])
    assert orange[0] > orange[2] + 40
    assert blue[2] > blue[0] + 30
    structure = panel.few_shot.structures[0].node.GetDisplayNode()
    structure.SetSelectedColor(0.0, 1.0, 0.0)
    panel.refresh()
    assert color_at("Red", first + [2, -2, 0])[1] > orange[1] + 40


def test_the_layer_follows_the_threshold_and_the_next_prompt(two: Any, driver: Any) -> None:
    import slicer

    panel, first, _second = two
    before = (slicer.util.arrayFromVolume(layer_of()[0]) > 0).sum()
    panel.ui.thresholdSlider.value = 90
    driver.settle()
    labels = slicer.util.arrayFromVolume(layer_of()[0])
    percents = panel.few_shot.preview.percent
    assert np.array_equal(labels > 0, (percents[1] >= 90) | (percents[2] >= 90))
    assert (labels > 0).sum() < before
    # A click that agrees with the answer would change nothing.
    answer = panel.few_shot.preview.labelmap
    outside = next(first + [0, 0, z] for z in range(6, 40, 2) if answer.nearest_values([first + [0, 0, z]])[0] == 0)
    panel.few_shot.structures[0].node.AddControlPointWorld(*outside)
    driver.settle()
    assert panel.few_shot._shown_options.threshold == pytest.approx(0.9)
    assert not np.array_equal(labels, panel.few_shot.preview.labels)
    assert np.array_equal(slicer.util.arrayFromVolume(layer_of()[0]), panel.few_shot.preview.labels)


@pytest.mark.parametrize(("threshold", "connected"), [(50, True), (83, True), (20, True), (50, False)])
def test_the_preview_shows_what_apply_writes(two: Any, driver: Any, coralbay: Any, threshold: int, connected: bool) -> None:
    import CoralBayLib as cb

    panel, _first, _second = two
    panel.ui.thresholdSlider.value = threshold
    if not connected:
        panel.ui.connectedCheck.click()
    driver.settle()
    preview, pyramid = panel.few_shot.preview, coralbay.logic.features.cached(panel.volume)
    options = cb.Options(threshold / 100, connected)
    assert panel.few_shot._shown_options == options
    # A new one: nothing that the preview keeps may matter.
    applied = cb.Segmenter(pyramid).fit(panel.few_shot.prompts()).labelmap(pyramid.grid, options).array
    assert {0, 1, 2} <= set(np.unique(applied))
    assert np.array_equal(preview.labels, applied)


def test_apply_uses_the_fit_of_the_preview(two: Any, driver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from CoralBayLib.fewshot.probe import Probe

    panel, _first, _second = two
    fitted = panel.few_shot.segmenter.probe_
    monkeypatch.setattr(Probe, "fit", lambda *_: pytest.fail("fitted again"))
    mouse.press(panel.ui.applyButton)
    driver.settle()
    assert panel.parameters.output is not None
    assert panel.logic.probe is fitted


def test_the_users_labelmap_is_restored(two: Any, driver: Any, coralbay: Any) -> None:
    import slicer

    panel, first, _second = two
    panel.ui.showAllCheck.click()
    driver.settle()
    assert layer_of()[0] is None
    own = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "own")
    slicer.util.updateVolumeFromArray(own, np.ones((4, 4, 4), np.uint8))
    own.CreateDefaultDisplayNodes()
    slicer.util.setSliceViewerLayers(label=own, labelOpacity=0.3)
    panel.ui.showAllCheck.click()
    driver.settle()
    shown, composite, view = layer_of()
    assert shown is not own
    assert view.GetUseLabelOutline()
    # Another map than the preview's wants the views for itself.
    coralbay.panel.feature_maps.show_colors()
    driver.settle()
    assert layer_of()[0] is own
    coralbay.panel.feature_maps.hide_colors()
    driver.settle()
    assert layer_of()[0] is shown
    slicer.util.selectModule("SegmentEditor")
    assert layer_of()[0] is own
    assert composite.GetLabelOpacity() == pytest.approx(0.3)
    assert not view.GetUseLabelOutline()
    slicer.util.selectModule("CoralBaySlicer")
    driver.settle()
    assert layer_of()[0] is shown
    # What the user puts there while the preview is shown stays, in that view.
    composite.SetLabelVolumeID(own.GetID())
    panel.few_shot.structures[0].node.AddControlPointWorld(*first)
    driver.settle()
    assert layer_of()[0] is own
    assert layer_of("Green")[0] is shown
    mouse.press(panel.ui.clearButton)
    driver.settle()
    assert panel.few_shot.preview is None
    assert layer_of("Green")[0] is own


def test_closing_the_scene_removes_the_label_layer(two: Any, driver: Any) -> None:
    import slicer

    slicer.mrmlScene.Clear()
    driver.settle()
    assert layer_of()[0] is None
    assert host.dialogs.texts("error") == []


def test_segments_are_shown_in_3d_when_ticked(two: Any, driver: Any, coralbay: Any) -> None:
    import slicer
    from host import pictures
    from host.responsiveness import EventLoopMonitor

    panel, first, _second = two
    mouse.press(panel.ui.applyButton)
    driver.settle()
    output = coralbay.panel.parameters.output
    inner, name = output.GetSegmentation(), slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
    for structure in panel.few_shot.structures:
        structure.node.GetDisplayNode().SetVisibility3D(False)
    before = pictures.pixels("1")
    assert not inner.ContainsRepresentation(name)
    with EventLoopMonitor() as monitor:
        panel.ui.show3DCheck.click()
        driver.settle()
    print(f"\nevent loop blocked for at most {1000 * monitor.longest_s:.0f} ms")
    assert monitor.longest_s < 1
    assert (pictures.pixels("1") != before).any(axis=2).sum() > 500
    # Where the voxels are, to within one; and closed.
    surface = inner.GetNthSegment(0).GetRepresentation(name)
    voxels = slicer.util.arrayFromSegmentBinaryLabelmap(output, inner.GetNthSegmentID(0), coralbay.panel.parameters.volume)
    from Testing.module.steps import points_of

    inside = points_of(coralbay.panel.parameters.volume)[voxels > 0]
    bounds = np.reshape(surface.GetBounds(), (3, 2))
    assert np.abs(bounds[:, 0] - inside.min(axis=0)).max() < 2.5
    assert np.abs(bounds[:, 1] - inside.max(axis=0)).max() < 2.5
    assert volume_of(surface) == pytest.approx((voxels > 0).sum() * 2 * 2 * 2.5, rel=0.15)
    # Applied anew, the surfaces are those of the new segments.
    panel.few_shot.structures[0].node.AddControlPointWorld(*(first + [0, 0, 16]))
    panel.ui.thresholdSlider.value = 20
    driver.settle()
    mouse.press(panel.ui.applyButton)
    driver.settle()
    assert volume_of(inner.GetNthSegment(0).GetRepresentation(name)) > volume_of(surface)
    mouse.press(panel.ui.undoApplyButton)
    driver.settle()
    assert volume_of(inner.GetNthSegment(0).GetRepresentation(name)) == pytest.approx(volume_of(surface))
    panel.ui.show3DCheck.click()
    driver.settle()
    assert not inner.ContainsRepresentation(name)


def volume_of(surface: Any) -> float:
    """Cubic millimetres inside a closed surface; negative when it is turned inside out."""
    import vtk

    triangles = vtk.vtkTriangleFilter()
    triangles.SetInputData(surface)
    mass = vtk.vtkMassProperties()
    mass.SetInputConnection(triangles.GetOutputPort())
    edges = vtk.vtkFeatureEdges()
    edges.SetInputData(surface)
    edges.FeatureEdgesOff()
    edges.NonManifoldEdgesOff()
    edges.ManifoldEdgesOff()
    edges.Update()
    assert edges.GetOutput().GetNumberOfCells() == 0
    return mass.GetVolume()
