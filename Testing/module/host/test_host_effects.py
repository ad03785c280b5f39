"""Scripted effects on the host: registered, cloned, activated and cleaned up as in Slicer, on Slicer's own logic."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import host
import numpy as np
import pytest

_SOURCE = """
import qt
import slicer
from SegmentEditorEffects import *

events = []


class SegmentEditorEffect(AbstractScriptedSegmentEditorAutoCompleteEffect):
    def __init__(self, scriptedEffect):
        AbstractScriptedSegmentEditorAutoCompleteEffect.__init__(self, scriptedEffect)
        scriptedEffect.name = "Probe"
        scriptedEffect.title = "Probing"
        events.append("init")

    def clone(self):
        import qSlicerSegmentationsEditorEffectsPythonQt as effects

        cloned = effects.qSlicerSegmentEditorScriptedEffect(None)
        cloned.setPythonSource(__file__.replace("\\\\", "/"))
        return cloned

    def icon(self):
        return qt.QIcon()

    def helpText(self):
        return "Probes."

    def setMRMLDefaults(self):
        AbstractScriptedSegmentEditorAutoCompleteEffect.setMRMLDefaults(self)
        self.scriptedEffect.setParameterDefault("Size", 2.5)

    def setupOptionsFrame(self):
        AbstractScriptedSegmentEditorAutoCompleteEffect.setupOptionsFrame(self)
        events.append("options")

    def activate(self):
        events.append("activate")

    def deactivate(self):
        events.append("deactivate")

    def updateGUIFromMRML(self):
        AbstractScriptedSegmentEditorAutoCompleteEffect.updateGUIFromMRML(self)
        events.append("gui")

    def cleanup(self):
        AbstractScriptedSegmentEditorAutoCompleteEffect.cleanup(self)
        events.append("cleanup")
"""


@pytest.fixture
def probe(app: Any, tmp_path: Path) -> Iterator[Any]:
    """A registered effect; the events that its source records."""
    import qSlicerSegmentationsEditorEffectsPythonQt as effects
    from host.lifecycle import _forget_effects

    folder = tmp_path / "SegmentEditorProbeLib"
    folder.mkdir()
    source = folder / "SegmentEditorEffect.py"
    source.write_text(_SOURCE, encoding="utf-8")
    effect = effects.qSlicerSegmentEditorScriptedEffect(None)
    assert effect.setPythonSource(str(source))
    effect.self().register()
    yield sys.modules["SegmentEditorProbeLib"].events
    _forget_effects(folder)
    del sys.modules["SegmentEditorProbeLib"]


@pytest.fixture
def editor(probe: Any, make_volume: Any) -> Any:
    """The Segment Editor with a volume and two segments."""
    import slicer

    volume = make_volume()
    slicer.util.setSliceViewerLayers(background=volume)
    slicer.util.selectModule("SegmentEditor")
    widget = slicer.util.getModuleWidget("SegmentEditor").editor
    node = widget.segmentationNode()
    widget.setSourceVolumeNode(volume)
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for name in ("one", "two"):
        node.GetSegmentation().AddEmptySegment(name, name)
    return widget


def box(volume: Any, start: int, stop: int) -> Any:
    """A cube of voxels as an image on the geometry of a volume."""
    from CoralBaySlicerCore.scene import segments
    from CoralBaySlicerCore.scene.volumes import ijk_to_ras

    from CoralBayLib.imaging.cropping import CroppedMask

    mask = CroppedMask((start,) * 3, np.ones((stop - start,) * 3, np.uint8))
    return segments.oriented_image(mask, ijk_to_ras(volume))


def count(editor: Any, segment_id: str) -> int:
    """The voxels of a segment."""
    import slicer

    return int(
        slicer.util.arrayFromSegmentBinaryLabelmap(editor.segmentationNode(), segment_id, editor.sourceVolumeNode()).sum()
    )


def test_an_effect_is_cloned_for_each_editor_and_cleaned_up(editor: Any, probe: list[str]) -> None:
    import slicer

    assert "Probe" in editor.availableEffectNames()
    assert probe.count("options") == 1
    other = slicer.qMRMLSegmentEditorWidget()
    assert other.effectByName("Probe") is not editor.effectByName("Probe")
    assert probe.count("options") == 2
    other.deleteLater()
    host.process_events()
    assert probe[-1] == "cleanup"


def test_activation_and_updates_of_the_active_effect_only(editor: Any, probe: list[str]) -> None:
    effect = editor.effectByName("Probe")
    probe.clear()
    effect.setParameter("Size", 3.0)
    assert probe == []
    editor.setActiveEffectByName("Probe")
    assert probe == ["gui", "activate"]
    assert editor.activeEffect() is effect
    assert effect.optionsFrame().isVisible()
    effect.setParameter("Size", 4.0)
    effect.setParameter("Size", 4.0)
    assert probe == ["gui", "activate", "gui"]
    editor.setActiveEffectByName("Paint")
    assert probe[-1] == "deactivate"
    assert not effect.optionsFrame().isVisible()


def test_parameters_are_text_in_the_scene_as_qt_writes_it(editor: Any) -> None:
    effect, node = editor.effectByName("Probe"), editor.mrmlSegmentEditorNode()
    assert node.GetAttribute("Probe.Size") == "2.5"
    effect.setParameter("Size", 1 / 3)
    assert node.GetAttribute("Probe.Size") == "0.333333"
    assert effect.doubleParameter("Size") == 0.333333
    effect.setCommonParameter("Shared", 7)
    assert effect.integerParameter("Shared") == 7
    with pytest.raises(RuntimeError, match="cannot be found"):
        effect.parameter("Unknown")
    for value in (True, None, [1]):
        with pytest.raises(TypeError):
            effect.setParameter("Size", value)


def test_members_that_slicer_lacks_are_refused(editor: Any) -> None:
    effect = editor.effectByName("Probe")
    with pytest.raises(AttributeError):
        effect.segmentationNode()
    with pytest.raises(AttributeError):
        effect.threshold = 3
    # What Slicer does not show to Python.
    with pytest.raises(AttributeError):
        effect.setupOptionsFrame()


def test_a_source_that_would_replace_a_module_is_refused(app: Any, tmp_path: Path) -> None:
    import qSlicerSegmentationsEditorEffectsPythonQt as effects

    (tmp_path / "json").mkdir()
    source = tmp_path / "json" / "SegmentEditorEffect.py"
    source.write_text(_SOURCE, encoding="utf-8")
    effect = effects.qSlicerSegmentEditorScriptedEffect(None)
    with pytest.raises(RuntimeError, match="replace the module json"):
        effect.setPythonSource(str(source))
    with pytest.raises(ValueError, match="forward slashes"):
        effect.setPythonSource("C:\\effects\\SegmentEditorEffect.py")


def test_writing_masking_and_undo_are_slicers(coralbay: Any, editor: Any) -> None:
    effect, node, volume = editor.effectByName("Probe"), editor.mrmlSegmentEditorNode(), editor.sourceVolumeNode()
    editor.setActiveEffectByName("Probe")
    set_, add, remove = effect.ModificationModeSet, effect.ModificationModeAdd, effect.ModificationModeRemove
    node.SetSelectedSegmentID("one")
    effect.saveStateForUndo()
    effect.modifySelectedSegmentByLabelmap(box(volume, 10, 20), set_)
    assert count(editor, "one") == 1000
    effect.modifySegmentByLabelmap(editor.segmentationNode(), "two", box(volume, 15, 25), add)
    # Overwritten, as is the default.
    assert (count(editor, "one"), count(editor, "two")) == (875, 1000)
    effect.modifySelectedSegmentByLabelmap(box(volume, 10, 12), remove)
    assert count(editor, "one") == 867
    node.SetMaskMode(editor.segmentationNode().EditAllowedOutsideAllSegments)
    effect.modifySelectedSegmentByLabelmap(box(volume, 14, 24), add)
    assert count(editor, "two") == 1000
    editor.undo()
    assert (count(editor, "one"), count(editor, "two")) == (0, 0)


def test_the_editor_comes_back_after_the_application_has_quit(editor: Any) -> None:
    import slicer

    editor.setActiveEffectByName("Probe")
    host.quit_application()
    slicer.util.selectModule("SegmentEditor")
    assert slicer.util.getModuleWidget("SegmentEditor").editor is not editor
