"""A scripted module's life on the host: load, select, click, reload, save, close."""

import sys
from pathlib import Path
from typing import Any

import host
import pytest
from host import mouse

pytestmark = pytest.mark.slow


def test_load_puts_the_module_where_slicer_has_it(example: Any) -> None:
    import slicer

    assert slicer.modules.hostexample.title == "Host example"
    assert slicer.modules.HostExampleWidget is example
    assert slicer.moduleNames.HostExample == "HostExample"
    assert slicer.util.getModuleWidget("HostExample") is example
    assert slicer.util.getModuleLogic("HostExample") is example.logic
    assert example.events[:2] == ["setup", "enter"]


def test_enter_and_exit_follow_the_selection(example: Any) -> None:
    import slicer

    slicer.util.selectModule("SegmentEditor")
    slicer.util.selectModule("HostExample")
    assert example.events == ["setup", "enter", "exit", "enter"]
    assert slicer.util.selectedModule() == "HostExample"


def test_reload_cleans_up_and_runs_the_new_source(example: Any) -> None:
    import slicer

    example.onReload()
    assert example.events[-1] == "cleanup"
    renewed = slicer.modules.HostExampleWidget
    assert renewed is not example
    assert type(renewed) is not type(example)
    assert renewed.ui.applyButton.text == "Apply"


def test_unload_cleans_up(app: Any, example_path: Path) -> None:
    import slicer

    widget = host.load_module(example_path)
    host.unload_module("HostExample")
    assert widget.events[-2:] == ["exit", "cleanup"]
    assert not hasattr(slicer.modules, "HostExampleWidget")
    assert "HostExample" not in sys.modules


def test_modules_that_are_no_dependency_are_gone_at_the_end(app: Any, example_path: Path, monkeypatch: Any) -> None:
    import slicer

    widget = host.load_module(example_path)
    slicer.modules.hostexample.dependencies = ["Markups"]
    there, cleanup = [], widget.cleanup

    def look() -> None:
        there.extend(name for name in ("Markups", "Plots") if app.moduleLogic(name) is not None)
        cleanup()

    monkeypatch.setattr(widget, "cleanup", look)
    host.quit_application()
    assert there == ["Markups"]
    assert not hasattr(slicer.modules, "hostexample")
    assert slicer.modules.plots.logic() is not None and app.moduleLogic("Plots") is not None


def test_a_dependency_that_is_not_there_is_refused(app: Any, tmp_path: Path) -> None:
    source = """
from slicer.ScriptedLoadableModule import ScriptedLoadableModule


class Dependent(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "Dependent"
        parent.dependencies = ["Markups", "NoSuchModule"]
"""
    (tmp_path / "Dependent.py").write_text(source)
    with pytest.raises(RuntimeError, match="NoSuchModule"):
        host.load_module(tmp_path / "Dependent.py", show=False)
    host.unload_module("Dependent")


def test_clicking_a_button_calls_the_slot(example: Any, make_volume: Any) -> None:
    example.ui.inputSelector.setCurrentNode(make_volume())
    mouse.press(example.ui.applyButton)
    assert example.parameters.segmentation.GetSegmentation().GetNumberOfSegments() == 1


def test_a_shortcut_reaches_the_panel(example: Any, make_volume: Any) -> None:
    example.ui.inputSelector.setCurrentNode(make_volume())
    mouse.key("Ctrl+G")
    assert example.parameters.segmentation is not None


def test_an_error_is_shown_and_the_exception_is_seen(example: Any) -> None:
    mouse.press(example.ui.applyButton)
    assert host.dialogs.texts("error") == ["Could not apply.\n\nChoose a volume first."]
    assert "ValueError" in host.unhandled.pop()


def test_scripted_answers(app: Any) -> None:
    import qt
    import slicer

    host.dialogs.answer(False, "/data/weights.safetensors")
    assert not slicer.util.confirmOkCancelDisplay("Install?")
    assert qt.QFileDialog.getOpenFileName(None, "Weights") == "/data/weights.safetensors"
    assert slicer.util.confirmYesNoDisplay("Sure?")
    assert host.dialogs.texts() == ["Install?", "Weights", "Sure?"]
    with pytest.raises(AssertionError, match="no answer"):
        qt.QFileDialog.getExistingDirectory(None, "Folder")


def test_pip_is_recorded_not_run(app: Any) -> None:
    import slicer

    slicer.util.pip_install("monai>=1.4")
    assert host.dialogs.pip == [("pip_install", "monai>=1.4", {})]


def test_the_modules_own_self_test_runs(example: Any) -> None:
    import slicer

    slicer.selfTests["HostExample"]()
    assert sys.modules["HostExample"].HostExampleTest.ran == 1


@pytest.mark.parametrize("suffix", [".mrb", ".mrml"])
def test_a_saved_scene_reopens_as_it_was(example: Any, make_volume: Any, tmp_path: Path, suffix: str) -> None:
    import slicer
    from HostExample import Mode

    volume = make_volume(name="scan")
    if suffix == ".mrml":
        assert slicer.util.saveNode(volume, str(tmp_path / "scan.nrrd"))
    example.parameters.inputVolume = volume
    example.parameters.threshold = 123.5
    example.parameters.mode = Mode.BELOW
    example.parameters.names = ["liver", "spleen"]
    example.parameters.scores = {"liver": 0.5}
    example.parameters.weights = Path("/a/b")
    if suffix == ".mrb":
        example.onApply()
    assert slicer.util.saveScene(str(tmp_path / f"scene{suffix}"))
    slicer.mrmlScene.Clear()
    assert example.ui.thresholdSlider.value == 100
    assert example.parameters.inputVolume is None
    slicer.util.loadScene(str(tmp_path / f"scene{suffix}"))
    example.connectParameterNode()
    assert example.parameters.inputVolume.GetName() == "scan"
    assert example.ui.inputSelector.currentNode() is example.parameters.inputVolume
    assert example.ui.thresholdSlider.value == 123.5
    assert example.parameters.mode is Mode.BELOW
    assert example.parameters.names == ["liver", "spleen"]
    assert example.parameters.scores == {"liver": 0.5}
    assert example.parameters.weights == Path("/a/b")
    if suffix == ".mrb":
        assert example.parameters.segmentation.GetSegmentation().GetSegment("result") is not None


def test_closing_the_scene_resets_the_panel(example: Any, make_volume: Any) -> None:
    import slicer

    example.parameters.inputVolume = make_volume()
    example.parameters.count = 7
    slicer.mrmlScene.Clear()
    assert example.ui.countBox.value == 3
    assert example.ui.inputSelector.currentNode() is None
