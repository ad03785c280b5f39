"""The effect keeps to what Masking says: editable area, intensity range, overwriting of other segments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import host
import numpy as np
import pytest
from host import mouse

from .session import EffectSession
from .test_effect import ASIDE, ids_of, oblique, painted, turned


@pytest.fixture(params=["axial", "oblique", "transformed"])
def session(request: pytest.FixtureRequest, coralbay: Any, scan: Callable[..., Any]) -> EffectSession:
    """The effect on three geometries, both balls and some background painted."""
    from CoralBaySlicerCore.scene import segments

    volume, center = scan(oblique() if request.param == "oblique" else None)
    segmentation = segments.new(volume, "Painted")
    if request.param == "transformed":
        node = turned("both")
        for each in (volume, segmentation):
            each.SetAndObserveTransformNodeID(node.GetID())
    session = EffectSession(volume, center, segmentation)
    painted(session)
    return session


def previewed_then_applied(session: EffectSession) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Initialize and Apply; returns the previewed and the written voxels by segment."""
    effect = session.activate()
    mouse.press(effect.previewButton)
    session.settle()
    assert not host.dialogs.texts()
    ids = list(effect.getPreviewNode().GetSegmentation().GetSegmentIDs())
    shown = {each: session.previewed(each) for each in ids}
    mouse.press(effect.applyButton)
    return shown, {each: session.voxels(each) for each in ids}


def test_nothing_is_written_outside_of_a_segment(session: EffectSession) -> None:
    first, second, _background = ids_of(session)
    half = session.paint("area", session.center + (6, 0, 0), 8)
    session.segmentation.GetDisplayNode().SetSegmentVisibility(half, False)
    area, before = session.voxels(half), {each: session.voxels(each) for each in (first, second)}
    session.node.SetOverwriteMode(session.node.OverwriteNone)
    session.node.SetMaskMode(session.segmentation.EditAllowedInsideSingleSegment)
    session.node.SetMaskSegmentID(half)
    shown, written = previewed_then_applied(session)
    for each in (first, second):
        assert (shown[each] == written[each]).all()
        assert not (written[each] & ~area & ~before[each]).any()
    assert (written[first] & ~before[first]).any()
    assert (session.voxels(half) == area).all()


@pytest.mark.parametrize("hidden", [False, True])
def test_other_segments_are_locked_by_the_editable_area(session: EffectSession, hidden: bool) -> None:
    first, _second, _background = ids_of(session)
    locked = session.paint("locked", session.center + (9, 0, 0), 4)
    session.segmentation.GetDisplayNode().SetSegmentVisibility(locked, not hidden)
    session.node.SetMaskMode(session.segmentation.EditAllowedOutsideAllSegments)
    effect = session.activate()
    effect.options.segmentsSelector.currentIndex = effect.options.segmentsSelector.findData("selected")
    session.node.SetSelectedSegmentID(first)
    kept = session.voxels(locked)
    shown, written = previewed_then_applied(session)
    assert list(shown) == [first]
    assert (shown[first] == written[first]).all()
    assert not (written[first] & kept).any()
    assert (session.voxels(locked) == kept).all()


def test_outside_all_segments_locks_those_that_are_not_completed(session: EffectSession) -> None:
    first, second, _background = ids_of(session)
    hidden = session.paint("hidden", session.center + (9, 0, 0), 4)
    session.segmentation.GetDisplayNode().SetSegmentVisibility(hidden, False)
    session.node.SetMaskMode(session.segmentation.EditAllowedOutsideAllSegments)
    session.node.SetSelectedSegmentID(second)
    kept, before = session.voxels(hidden), session.voxels(first)
    shown, written = previewed_then_applied(session)
    for each in (first, second):
        assert (shown[each] == written[each]).all()
        assert not (written[each] & kept).any()
    assert written[first].sum() > before.sum()
    assert not (written[first] & written[second]).any()
    assert (session.voxels(hidden) == kept).all()
    assert session.node.GetSelectedSegmentID() == second


def test_hidden_segments_are_overwritten_only_where_masking_says_so(session: EffectSession) -> None:
    first, _second, _background = ids_of(session)
    hidden = session.paint("hidden", session.center + (6, 0, 0), 4)
    session.segmentation.GetDisplayNode().SetSegmentVisibility(hidden, False)
    kept = session.voxels(hidden)
    session.node.SetOverwriteMode(session.node.OverwriteVisibleSegments)
    _shown, written = previewed_then_applied(session)
    assert (written[first] & kept).any()
    assert (session.voxels(hidden) == kept).all()
    session.editor.undo()
    session.node.SetOverwriteMode(session.node.OverwriteAllSegments)
    _shown, written = previewed_then_applied(session)
    assert not (session.voxels(hidden) & written[first]).any()


def test_the_intensity_range_is_kept_to(session: EffectSession) -> None:
    import slicer

    first, second, _background = ids_of(session)
    before = {each: session.voxels(each) for each in (first, second)}
    session.node.SetSourceVolumeIntensityMask(True)
    session.node.SetSourceVolumeIntensityMaskRange(300, 2000)
    hu = slicer.util.arrayFromVolume(session.volume)
    shown, written = previewed_then_applied(session)
    for each in (first, second):
        assert (shown[each] == written[each]).all()
        assert not (written[each] & (hu < 300) & ~before[each]).any()
        assert (written[each] & (hu >= 300) & ~before[each]).any()


def test_painted_voxels_keep_their_segments(session: EffectSession) -> None:
    # Painted into the wrong ball: a person's own voxels are not taken away.
    first, second, _background = ids_of(session)
    session.node.SetOverwriteMode(session.node.OverwriteNone)
    session.paint("first", session.center - ASIDE + (0, 0, 6), 2)
    before = session.voxels(first)
    shown, _written = previewed_then_applied(session)
    assert (shown[first] & before == before).all()
    assert not (shown[second] & before & ~session.voxels(second)).any()
