"""The parameter node and its widgets, the same with Slicer's own files and with the stand-ins."""

from pathlib import Path
from typing import Any

import pytest
from host import mouse


def test_defaults(example: Any) -> None:
    from HostExample import Mode

    parameters = example.parameters
    assert parameters.inputVolume is None
    assert parameters.segmentation is None
    assert parameters.threshold == 100
    assert parameters.count == 3
    assert (parameters.window.minimum, parameters.window.maximum) == (-160, 240)
    assert parameters.invert is False
    assert parameters.mode is Mode.ABOVE
    assert parameters.device == "cpu"
    assert parameters.weights == Path()
    assert parameters.names == []
    assert parameters.scores == {}


def test_from_parameters_to_widgets(example: Any, make_volume: Any) -> None:
    from HostExample import FloatRange, Mode

    volume = make_volume()
    parameters, ui = example.parameters, example.ui
    parameters.inputVolume = volume
    parameters.threshold = 42.5
    parameters.window = FloatRange(-50, 60)
    parameters.invert = True
    parameters.mode = Mode.BELOW
    parameters.device = "cuda"
    parameters.count = 9
    parameters.weights = Path("/weights.safetensors")
    assert ui.inputSelector.currentNode() is volume
    assert ui.thresholdSlider.value == 42.5
    assert (ui.windowRange.minimumValue, ui.windowRange.maximumValue) == (-50, 60)
    assert ui.invertBox.checked
    assert ui.modeBox.currentText == "BELOW"
    assert ui.deviceBox.currentText == "cuda"
    assert ui.countBox.value == 9
    assert ui.weightsEdit.currentPath == "/weights.safetensors"


def test_from_widgets_to_parameters(example: Any, make_volume: Any) -> None:
    from HostExample import Mode

    volume = make_volume()
    parameters, ui = example.parameters, example.ui
    ui.inputSelector.setCurrentNode(volume)
    ui.thresholdSlider.value = -10.5
    ui.windowRange.setValues(-20, 30)
    mouse.press(ui.invertBox)
    ui.modeBox.currentIndex = 1
    ui.deviceBox.currentText = "cuda"
    ui.countBox.value = 4
    ui.weightsEdit.currentPath = "/x"
    assert parameters.inputVolume is volume
    assert parameters.threshold == -10.5
    assert (parameters.window.minimum, parameters.window.maximum) == (-20, 30)
    assert parameters.invert is True
    assert parameters.mode is Mode.BELOW
    assert parameters.device == "cuda"
    assert parameters.count == 4
    assert parameters.weights == Path("/x")


def test_annotations_set_the_widgets_limits(example: Any) -> None:
    assert (example.ui.thresholdSlider.minimum, example.ui.thresholdSlider.maximum) == (-1000, 3000)
    assert (example.ui.countBox.minimum, example.ui.countBox.maximum) == (0, 10)
    assert (example.ui.windowRange.minimum, example.ui.windowRange.maximum) == (-1000, 1000)


@pytest.mark.parametrize(
    ("name", "value"),
    [("threshold", 5000), ("threshold", "much"), ("count", 2.5), ("device", "tpu"), ("invert", 1), ("invert", None)],
)
def test_a_bad_value_raises_and_changes_nothing(example: Any, name: str, value: Any) -> None:
    before = getattr(example.parameters, name)
    with pytest.raises((TypeError, ValueError)):
        setattr(example.parameters, name, value)
    assert getattr(example.parameters, name) == before


def test_lists_and_dicts_write_through(example: Any) -> None:
    from HostExample import HostExampleParameterNode

    example.parameters.names.append("kidney")
    example.parameters.scores["kidney"] = 0.25
    same = HostExampleParameterNode(example.parameters.parameterNode)
    assert same.names == ["kidney"]
    assert same.scores == {"kidney": 0.25}
    del same.names[0]
    assert example.parameters.names == []


def test_disconnected_widgets_are_left_alone(example: Any) -> None:
    example.disconnectParameterNode()
    example.ui.countBox.value = 8
    assert example.parameters.count == 3
    example.parameters.count = 5
    assert example.ui.countBox.value == 8


def test_an_observer_hears_of_a_change_once(example: Any) -> None:
    import vtk

    heard = []
    tag = example.parameters.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: heard.append(1))
    example.parameters.names = ["a", "b", "c"]
    example.parameters.RemoveObserver(tag)
    assert len(heard) == 1


def test_a_removed_node_leaves_the_parameter_empty(example: Any, make_volume: Any) -> None:
    import slicer

    volume = make_volume()
    example.parameters.inputVolume = volume
    slicer.mrmlScene.RemoveNode(volume)
    assert example.ui.inputSelector.currentNode() is None
    assert example.parameters.inputVolume is None


def test_a_widget_that_slicer_cannot_connect_raises(app: Any) -> None:
    import qt
    from slicer.parameterNodeWrapper import parameterNodeWrapper

    @parameterNodeWrapper
    class Parameters:
        flag: bool

    import slicer

    parameters = Parameters(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode"))
    with pytest.raises(RuntimeError, match="Unable to create GUI connector"):
        parameters.connectParametersToGui({"flag": qt.QLineEdit()})
