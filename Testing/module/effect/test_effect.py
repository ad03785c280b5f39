"""The effect CoralBay of the Segment Editor: preview, update, apply, undo."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import host
import numpy as np
import pytest
from host import mouse

from .session import EffectSession, dice

ASIDE = np.array([32.0, 0, 0])
"""From the first ball of the phantom to the second one."""


def oblique() -> np.ndarray:
    """IJK-to-RAS of a scan that is turned around two axes, with thick slices."""
    import vtk

    turn = vtk.vtkTransform()
    turn.RotateZ(25)
    turn.RotateX(15)
    import slicer

    matrix = slicer.util.arrayFromVTKMatrix(turn.GetMatrix()) @ np.diag([-2.0, -2.0, 2.5, 1.0])
    matrix[:3, 3] = (60, 30, -40)
    return matrix


def turned(name: str) -> Any:
    """A linear transform node."""
    import slicer
    import vtk

    transform = vtk.vtkTransform()
    transform.Translate(15, -10, 20)
    transform.RotateY(20)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", name)
    node.SetMatrixTransformToParent(transform.GetMatrix())
    return node


def painted(session: EffectSession) -> tuple[str, str]:
    """Paint both balls in part, and some background; returns the IDs of the balls."""
    first = session.paint("first", session.center)
    second = session.paint("second", session.center - ASIDE)
    session.paint("Background", session.center - ASIDE / 2 + (0, 20, 0), 6)
    return first, second


@pytest.fixture(params=["axial", "oblique", "transformed", "only the scan transformed", "finer segmentation"])
def session(request: pytest.FixtureRequest, coralbay: Any, scan: Callable[..., Any]) -> EffectSession:
    """The effect on scans and segmentations of different geometry."""
    from CoralBaySlicerCore.scene import segments

    volume, center = scan(oblique() if request.param == "oblique" else None)
    segmentation = None
    if request.param == "transformed":
        volume.SetAndObserveTransformNodeID(turned("both").GetID())
    elif request.param == "only the scan transformed":
        segmentation = segments.new(volume, "Painted")
        volume.SetAndObserveTransformNodeID(turned("scan").GetID())
    elif request.param == "finer segmentation":
        import slicer

        finer = slicer.util.addVolumeFromArray(
            np.zeros((50, 96, 96), np.uint8),
            ijkToRAS=np.array([[-1.0, 0, 0, 48], [0, -1, 0, 48], [0, 0, 2, -50], [0, 0, 0, 1]]),
        )
        segmentation = segments.new(finer, "Painted")
        slicer.mrmlScene.RemoveNode(finer)
    return EffectSession(volume, center, segmentation)


def test_completes_segments_on_every_geometry(session: EffectSession) -> None:
    ids = painted(session)
    effect = session.activate()
    before = {each: session.voxels(each) for each in ids}
    mouse.press(effect.previewButton)
    session.settle()
    assert not host.dialogs.texts()
    assert effect.previewButton.text == "Update"
    expected = [session.ball(session.center, 9), session.ball(session.center - ASIDE, 9)]
    for segment_id, ball in zip(ids, expected, strict=True):
        assert dice(session.previewed(segment_id), ball) > 0.85
        # Nothing is written before Apply.
        assert (session.voxels(segment_id) == before[segment_id]).all()
    shown = {each: session.previewed(each) for each in ids}
    mouse.press(effect.applyButton)
    for segment_id in ids:
        assert (session.voxels(segment_id) == shown[segment_id]).all()
        assert (session.voxels(segment_id) >= before[segment_id]).all()
    assert effect.getPreviewNode() is None
    assert not effect.applyButton.enabled


@pytest.fixture
def plain(coralbay: Any, scan: Callable[..., Any]) -> EffectSession:
    """The effect on an axial scan, both balls and some background painted."""
    session = EffectSession(*scan())
    painted(session)
    return session


def ids_of(session: EffectSession) -> list[str]:
    return list(session.segmentation.GetSegmentation().GetSegmentIDs())


def test_undo_and_redo_are_those_of_the_segment_editor(plain: EffectSession) -> None:
    first = ids_of(plain)[0]
    effect, before = plain.activate(), plain.voxels(first)
    mouse.press(effect.previewButton)
    plain.settle()
    mouse.press(effect.applyButton)
    written = plain.voxels(first)
    assert written.sum() > before.sum()
    plain.editor.undo()
    assert (plain.voxels(first) == before).all()
    plain.editor.redo()
    assert (plain.voxels(first) == written).all()


def test_painting_with_another_effect_updates_the_preview(plain: EffectSession) -> None:
    effect = plain.activate()
    mouse.press(effect.previewButton)
    plain.settle()
    before = effect.completion.result
    plain.editor.setActiveEffectByName("Paint")
    third = plain.paint("third", plain.center + (-16, 30, 0), 5)
    plain.settle()
    assert effect.completion.result is not before
    assert plain.previewed(third).any()
    plain.segmentation.GetSegmentation().RemoveSegment(third)
    plain.settle()
    assert effect.getPreviewNode().GetSegmentation().GetSegment(third) is None


def test_without_auto_update_the_preview_waits_for_the_button(plain: EffectSession) -> None:
    effect = plain.activate()
    mouse.press(effect.previewButton)
    plain.settle()
    mouse.press(effect.autoUpdateCheckBox)
    before = effect.completion.result
    plain.paint("first", plain.center + (6, 0, 0), 3)
    plain.settle()
    assert effect.completion.result is before
    mouse.press(effect.previewButton)
    plain.settle()
    assert effect.completion.result is not before


def test_the_same_examples_are_not_computed_twice(plain: EffectSession) -> None:
    effect = plain.activate()
    mouse.press(effect.previewButton)
    plain.settle()
    result = effect.completion.result
    mouse.press(effect.previewButton)
    plain.settle()
    assert effect.completion.result is result


def test_another_threshold_fits_no_new_probe(plain: EffectSession) -> None:
    effect, first = plain.activate(), ids_of(plain)[0]
    mouse.press(effect.previewButton)
    plain.settle()
    segmenter, size = effect.completion.result.segmenter, plain.previewed(first).sum()
    effect.options.thresholdSlider.value = 95
    plain.settle()
    assert effect.completion.result.segmenter is segmenter
    assert plain.previewed(first).sum() < size
    assert effect.scriptedEffect.integerParameter("ThresholdPercent") == 95


def test_cancel_discards_the_preview(plain: EffectSession) -> None:
    effect, first = plain.activate(), ids_of(plain)[0]
    before = plain.voxels(first)
    mouse.press(effect.previewButton)
    plain.settle()
    mouse.press(effect.cancelButton)
    assert effect.getPreviewNode() is None
    assert effect.completion.result is None
    assert (plain.voxels(first) == before).all()
    assert plain.segmentation.GetDisplayNode().GetOpacity() == 1.0
    assert not effect.cancelButton.enabled


def test_only_the_selected_segment_is_completed_against_the_others(plain: EffectSession) -> None:
    first, second, _background = ids_of(plain)
    effect = plain.activate()
    effect.options.segmentsSelector.currentIndex = effect.options.segmentsSelector.findData("selected")
    plain.node.SetSelectedSegmentID(first)
    before = plain.voxels(second)
    mouse.press(effect.previewButton)
    plain.settle()
    assert list(effect.getPreviewNode().GetSegmentation().GetSegmentIDs()) == [first]
    assert dice(plain.previewed(first), plain.ball(plain.center, 9)) > 0.85
    mouse.press(effect.applyButton)
    assert (plain.voxels(second) == before).all()
    assert plain.node.GetSelectedSegmentID() == first


def test_a_hidden_segment_is_no_example_and_is_kept(plain: EffectSession) -> None:
    first, second, _background = ids_of(plain)
    plain.segmentation.GetDisplayNode().SetSegmentVisibility(second, False)
    before = plain.voxels(second)
    effect = plain.activate()
    mouse.press(effect.previewButton)
    plain.settle()
    assert list(effect.getPreviewNode().GetSegmentation().GetSegmentIDs()) == [first]
    mouse.press(effect.applyButton)
    assert (plain.voxels(second) == before).all()


def test_nothing_painted_is_said_in_words(coralbay: Any, scan: Callable[..., Any]) -> None:
    session = EffectSession(*scan())
    session.segmentation.GetSegmentation().AddEmptySegment("", "first")
    effect = session.activate()
    mouse.press(effect.previewButton)
    session.settle()
    (text,) = host.dialogs.texts("error")
    assert "Paint a part of at least one visible segment" in text
    assert effect.getPreviewNode() is None
    assert effect.options.messageLabel.visible


def test_one_segment_alone_gives_a_hint(coralbay: Any, scan: Callable[..., Any]) -> None:
    session = EffectSession(*scan())
    session.paint("first", session.center)
    effect = session.activate()
    mouse.press(effect.previewButton)
    session.settle()
    assert "Background" in effect.options.messageLabel.text
    session.paint("Background", session.center - ASIDE / 2 + (0, 20, 0), 6)
    session.settle()
    assert effect.options.messageLabel.text == ""
