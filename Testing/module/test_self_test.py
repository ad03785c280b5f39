"""The self test finds the faults that were once seen in Slicer: each is put back, and the test must fail."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

pytestmark = pytest.mark.slow


def run_self_test(name: str) -> None:
    """Run one test of the self test, as it runs them all."""
    from CoralBaySlicerCore.selftest import CoralBaySlicerTest

    test = CoralBaySlicerTest()
    test.setUp()
    getattr(test, name)()


@pytest.fixture
def walk(coralbay: Any) -> Callable[[], None]:
    """Runs the self test's walk through the panel."""

    return partial(run_self_test, "test_panels")


def test_a_legend_in_any_view(walk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from CoralBaySlicerCore.scene.views import slices

    monkeypatch.setattr(slices, "_MAIN_VIEWS", ())
    with pytest.raises(AssertionError, match="not in Red"):
        walk()


def test_a_button_that_stays_pressed(walk: Any, coralbay: Any) -> None:
    coralbay.panel.segment.few_shot.removeObservers(coralbay.panel.segment._on_mode)
    with pytest.raises(AssertionError, match="stays pressed"):
        walk()


def test_a_brush_that_esc_does_not_put_down(walk: Any, coralbay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coralbay.panel.segment._painting, "stop", lambda: None)
    with pytest.raises(AssertionError, match="put the brush down"):
        walk()


def test_a_step_that_stays_open(walk: Any, coralbay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coralbay.panel.scan, "_fold", lambda ready: None)
    with pytest.raises(AssertionError, match="not collapsed"):
        walk()


def test_progress_elsewhere(walk: Any, coralbay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coralbay.panel.activity, "_place", lambda slot: None)
    with pytest.raises(AssertionError, match="Progress is not shown in step 1"):
        walk()


def test_a_panel_that_grows(walk: Any, coralbay: Any) -> None:
    import qt

    # As it was: the panel asks for what its widest row needs.
    policy = qt.QSizePolicy
    coralbay.panel.root.setSizePolicy(policy.Preferred, policy.Preferred)
    coralbay.panel.feature_maps.ui.clustersButton.setMinimumWidth(500)
    with pytest.raises(AssertionError, match="wider"):
        walk()


def test_apply_out_of_sight(walk: Any, coralbay: Any) -> None:
    coralbay.panel.segment.ui.structureTable.setMinimumHeight(450)
    coralbay.panel.segment.ui.structureTable.setMaximumHeight(450)
    with pytest.raises(AssertionError, match="out of sight"):
        walk()


def test_points_that_are_small(walk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from CoralBaySlicerCore.scene import structures

    monkeypatch.setattr(structures, "_GLYPH_SCALE", 3)
    with pytest.raises(AssertionError, match="Points are small"):
        walk()


def test_new_views_without_the_scan(walk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from CoralBaySlicerCore.scene.views import slices

    monkeypatch.setattr(slices, "fill_empty_views", lambda volume: None)
    with pytest.raises(AssertionError, match="does not show the scan"):
        walk()


def test_an_editor_that_holds_the_closed_scene(walk: Any, coralbay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import host

    monkeypatch.setattr(coralbay.panel.segment._painting, "forget", lambda: None)
    with pytest.raises(AssertionError, match="log names a fault"):
        walk()
    host.unhandled.clear()


@pytest.fixture
def effect_walk(coralbay: Any) -> Callable[[], None]:
    """Runs the self test's walk through the effect of the Segment Editor."""

    return partial(run_self_test, "test_effect")


def test_the_effect_passes(effect_walk: Any) -> None:
    effect_walk()


def test_an_effect_that_is_not_registered(effect_walk: Any) -> None:
    import slicer

    registered = slicer.qSlicerSegmentEditorEffectFactory.instance()._effects
    kept = registered[:]
    registered.clear()
    with pytest.raises(AssertionError, match="does not have the effect"):
        effect_walk()
    registered.extend(kept)


def test_a_preview_that_is_not_what_apply_writes(effect_walk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import slicer

    write = slicer.qSlicerSegmentEditorAbstractEffect.modifySelectedSegmentByLabelmap

    def add(self: Any, image: Any, mode: int, bypass_masking: bool = False) -> None:
        empty = slicer.vtkOrientedImageData()
        empty.DeepCopy(image)
        empty.GetPointData().GetScalars().Fill(0)
        write(self, empty, mode, bypass_masking)

    monkeypatch.setattr(slicer.qSlicerSegmentEditorAbstractEffect, "modifySelectedSegmentByLabelmap", add)
    with pytest.raises(AssertionError, match="something else than the preview"):
        effect_walk()


def test_an_effect_without_undo(effect_walk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import slicer

    monkeypatch.setattr(slicer.qSlicerSegmentEditorAbstractEffect, "saveStateForUndo", lambda self: None)
    with pytest.raises(AssertionError, match="Undo does not take Apply back"):
        effect_walk()


def test_a_dead_panel_after_reload(coralbay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from CoralBaySlicerCore.selftest import CoralBaySlicerTest
    from host.modules import qSlicerScriptedLoadableModuleWidget as ModuleWidget

    monkeypatch.setattr(ModuleWidget, "isEntered", False)
    with pytest.raises(AssertionError, match="not connected"):
        CoralBaySlicerTest().test_reload()
