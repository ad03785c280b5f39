"""Life of the effect: registration, first use, cancelling, saved scenes, closing, cleaning up."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import host
import pytest
from host import mouse

from Testing.module.coralbay_fixtures import MODULE

from .session import EffectSession
from .test_effect import ids_of, painted


@pytest.fixture
def plain(coralbay: Any, scan: Callable[..., Any]) -> EffectSession:
    """The effect on an axial scan, both balls and some background painted."""
    session = EffectSession(*scan())
    painted(session)
    return session


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Lets the encoder take its time; returns a function that lets it go on."""
    from Testing.lib.conftest import PoolingEncoder

    released: list[bool] = []
    forward = PoolingEncoder.forward_features

    def wait(self: Any, x: Any, names: Any) -> Any:
        while not released:
            time.sleep(0.01)
        return forward(self, x, names)

    monkeypatch.setattr(PoolingEncoder, "forward_features", wait)
    return lambda: released.append(True)


def test_the_effect_is_offered_and_explains_itself(plain: EffectSession) -> None:
    effect = plain.activate()
    assert "CoralBay" in plain.editor.availableEffectNames()
    assert effect.scriptedEffect.title == "CoralBay"
    assert "Initialize" in effect.scriptedEffect.helpText()
    assert not effect.icon().isNull()
    assert effect.options.encoderLabel.text == "pooling"
    assert effect.clone().name == "CoralBay"


def test_the_options_fit_into_slicers_panel(plain: EffectSession) -> None:
    effect = plain.activate()
    effect.completion.message = "A long message that says what to do about an error. " * 5
    effect._show_state()
    host.process_events()
    # Slicer's panel is 414 pixels wide, with margins and a scroll bar.
    assert effect.scriptedEffect.optionsFrame().minimumSizeHint().width() < 380


def test_registering_the_effect_imports_no_torch() -> None:
    code = (
        "import sys; sys.path.insert(0, 'Testing'); import host; host.start();"
        f"host.load_module({str(MODULE)!r}, show=False); import slicer; slicer.util.selectModule('SegmentEditor');"
        "editor = slicer.util.getModuleWidget('SegmentEditor').editor; assert 'CoralBay' in editor.availableEffectNames();"
        "editor.setActiveEffectByName('CoralBay'); print('torch' in sys.modules, host.unhandled); host.leave()"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=MODULE.parents[1], capture_output=True, text=True, timeout=120)
    assert out.stdout.strip().endswith("False []"), out.stdout + out.stderr


def test_features_are_computed_at_first_use_with_progress(plain: EffectSession, slow: Callable[[], None]) -> None:
    effect = plain.activate()
    mouse.press(effect.previewButton)
    # The click has returned, while the encoder still works.
    assert effect.completion.is_running
    assert effect.options.progressBar.visible
    assert effect.options.progressBar.format.startswith("Computing features of CT")
    assert effect.cancelButton.enabled
    # Painted meanwhile, when there is no preview yet that could be updated.
    third = plain.paint("third", plain.center + (-16, 30, 0), 5)
    slow()
    plain.settle()
    assert not effect.options.progressBar.visible
    assert plain.previewed(third).any()
    assert plain.logic.features.cached(plain.volume) is not None


def test_cancel_stops_the_first_computation(plain: EffectSession, slow: Callable[[], None]) -> None:
    effect = plain.activate()
    mouse.press(effect.previewButton)
    mouse.press(effect.cancelButton)
    assert not effect.completion.is_running
    assert not effect.options.progressBar.visible
    slow()
    host.wait_for(lambda: not plain.logic.worker.busy)
    host.process_events(0.05)
    assert effect.getPreviewNode() is None
    assert host.dialogs.texts() == []


def test_missing_weights_are_said_with_the_way_to_them(plain: EffectSession) -> None:
    plain.logic.getParameterNode().encoder = "coralbay"
    effect = plain.activate()
    assert effect.options.encoderLabel.text == "CoralBay"
    mouse.press(effect.previewButton)
    plain.settle()
    # The tests are offline.
    assert "Get weights..." in effect.options.messageLabel.text
    assert "Change..." in effect.options.messageLabel.text
    assert effect.getPreviewNode() is None
    mouse.press(effect.options.encoderButton)
    import slicer

    assert slicer.util.selectedModule() == "CoralBaySlicer"


def test_parameters_and_preview_come_back_with_the_scene(plain: EffectSession, tmp_path: Path) -> None:
    import slicer

    first = ids_of(plain)[0]
    effect = plain.activate()
    effect.options.thresholdSlider.value = 70
    effect.options.connectedCheck.click()
    effect.options.segmentsSelector.currentIndex = 1
    plain.node.SetSelectedSegmentID(first)
    mouse.press(effect.previewButton)
    plain.settle()
    shown = plain.previewed(first)
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear()
    host.process_events()
    assert not effect.completion.is_running
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    host.process_events()
    plain.segmentation, plain.volume = plain.node.GetSegmentationNode(), plain.node.GetSourceVolumeNode()
    effect = plain.activate()
    assert effect.options.options.threshold == 0.7
    assert not effect.options.options.connected
    assert effect.options.selected_only
    assert effect.options.thresholdSlider.value == 70
    assert not effect.options.connectedCheck.checked
    # The preview was saved too, so it can still be applied.
    assert (plain.previewed(first) == shown).all()
    mouse.press(effect.applyButton)
    assert (plain.voxels(first) == shown).all()


def test_a_damaged_parameter_gives_the_default(plain: EffectSession) -> None:
    plain.node.SetAttribute("CoralBay.ThresholdPercent", "soft")
    plain.node.SetAttribute("CoralBay.Segments", "none of them")
    effect = plain.activate()
    assert effect.options.options.threshold == 0.5
    assert not effect.options.selected_only
    assert effect.options.thresholdSlider.value == 50


def test_the_scene_closes_during_the_work(plain: EffectSession, slow: Callable[[], None]) -> None:
    import slicer

    effect = plain.activate()
    mouse.press(effect.previewButton)
    logic = plain.logic
    slicer.mrmlScene.Clear()
    slow()
    host.wait_for(lambda: not logic.worker.busy)
    host.process_events(0.05)
    assert not effect.completion.is_running
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == []
    assert host.dialogs.texts() == []


def test_another_scan_discards_the_result(plain: EffectSession, scan: Callable[..., Any]) -> None:
    effect = plain.activate()
    mouse.press(effect.previewButton)
    plain.settle()
    plain.editor.setSourceVolumeNode(scan(name="other", seed=1)[0])
    assert effect.completion.result is None
    mouse.press(effect.previewButton)
    plain.settle()
    assert effect.completion.result.examples.volume.GetName() == "other"


def test_placing_points_puts_the_effect_away(plain: EffectSession) -> None:
    import slicer

    plain.activate()
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    interaction.SetCurrentInteractionMode(interaction.Place)
    assert plain.editor.activeEffect() is None


def test_cleanup_disconnects_everything(plain: EffectSession) -> None:
    effect = plain.activate()
    mouse.press(effect.previewButton)
    plain.settle()
    segmentation, timer = plain.segmentation, effect.delayedAutoUpdateTimer
    effect.scriptedEffect.cleanup()
    plain.paint("first", plain.center + (6, 0, 0), 3)
    host.process_events(0.3)
    assert not timer.active
    assert effect.observedSegmentation is None
    assert effect.completion.result is None
    effect.options.thresholdSlider.value = 60
    assert effect.scriptedEffect.integerParameter("ThresholdPercent") == 50
    assert segmentation.GetSegmentation().GetNumberOfSegments() == 3


def test_segment_editors_made_after_a_reload_have_the_new_effect(plain: EffectSession, coralbay: Any) -> None:
    """Slicer loads the source of an effect only while Python has no module of its name."""
    import slicer

    plain.activate()
    old = type(plain.effect)
    coralbay.onReload()
    # As the Segment Editor's own Reload does it.
    slicer.util.reloadScriptedModule("SegmentEditor")
    slicer.util.selectModule("SegmentEditor")
    editor = slicer.util.getModuleWidget("SegmentEditor").editor
    renewed = editor.effectByName("CoralBay").self()
    assert type(renewed) is not old
    assert type(renewed.completion) is sys.modules["CoralBaySlicerCore.interactive.completion"].Completion
    editor.setActiveEffectByName("CoralBay")
    host.process_events()
    assert editor.activeEffect().self() is renewed


def test_the_module_reloaded_is_used_by_the_effect(plain: EffectSession, coralbay: Any) -> None:
    effect = plain.activate()
    mouse.press(effect.previewButton)
    plain.settle()
    old = plain.logic
    coralbay.onReload()
    assert plain.logic is not old
    plain.logic.getParameterNode().encoder = "pooling"
    plain.paint("first", plain.center + (6, 0, 0), 3)
    plain.settle()
    assert host.dialogs.texts() == []
    assert plain.logic.features.cached(plain.volume) is effect.completion.result.segmenter.pyramid
