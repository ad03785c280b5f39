"""What Slicer refuses, the host refuses; what Slicer lacks, the shims lack."""

from pathlib import Path
from typing import Any

import pytest
from host.qt import headers
from host.qt.pythonqt import SHIMS, MissingInHostError, shim


def test_slicer_lacks_what_the_wheel_spills(app: Any) -> None:
    import slicer

    for name in ("getNode", "arrayFromVolume", "loadVolume", "info", "sys"):
        assert not hasattr(slicer, name)
    assert callable(slicer.util.getNode)


def test_a_property_is_an_attribute(app: Any) -> None:
    import qt

    button = qt.QPushButton("Apply")
    assert (button.text, button.enabled, button.checked) == ("Apply", True, False)
    button.text, button.toolTip, button.name = "Cancel", "Stop it.", "cancelButton"
    assert (button.text, button.toolTip, button.objectName) == ("Cancel", "Stop it.", "cancelButton")
    button.enabled = None
    assert button.enabled is False
    button.setText("Stop")
    assert button.text == "Stop"
    with pytest.raises(TypeError):
        button.text()


def test_new_attributes_on_cpp_objects_are_refused(app: Any) -> None:
    import ctk
    import qt
    import slicer

    for widget in (qt.QPushButton(), ctk.ctkSliderWidget(), slicer.qMRMLNodeComboBox(), qt.QTimer(), qt.QAction()):
        with pytest.raises(AttributeError, match="does not exist"):
            widget.color = "red"
        with pytest.raises(AttributeError):
            widget.objectNamed  # noqa: B018
    with pytest.raises(AttributeError, match="overwritten"):
        qt.QPushButton().click = print


def test_a_python_subclass_takes_attributes(app: Any) -> None:
    import qt

    class Panel(qt.QWidget):
        def __init__(self) -> None:
            super().__init__()
            self.logic = 1

    panel = Panel()
    panel.other = 2
    assert (panel.logic, panel.other, panel.enabled) == (1, 2, True)


def test_signals_are_connected_by_their_exact_signature(app: Any) -> None:
    import ctk
    import qt
    import slicer

    heard: list[Any] = []
    button = qt.QPushButton()
    assert button.connect("clicked(bool)", heard.append)
    assert button.connect("clicked()", lambda: heard.append("clicked"))
    button.click()
    assert heard == [False, "clicked"]
    assert button.disconnect("clicked(bool)", heard.append)
    button.click()
    assert heard == [False, "clicked", "clicked"]
    for widget, wrong in (
        (button, "clicked(int)"),
        (button, "clicked"),
        (qt.QComboBox(), "currentIndexChanged(QString, int)"),
        (ctk.ctkSliderWidget(), "valueChanged(int)"),
        (ctk.ctkRangeWidget(), "valueChanged(double)"),
        (slicer.qMRMLNodeComboBox(), "currentNodeChanged()"),
        (slicer.qMRMLNodeComboBox(), "nodeChanged(vtkMRMLNode*)"),
    ):
        with pytest.raises(ValueError, match="does not exist"):
            widget.connect(wrong, heard.append)
    with pytest.raises(TypeError):
        button.connect("clicked()", None)


def test_overloaded_signals(app: Any, make_volume: Any) -> None:
    import slicer

    combo = slicer.qMRMLNodeComboBox()
    combo.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    combo.setMRMLScene(slicer.mrmlScene)
    heard: list[Any] = []
    combo.connect("currentNodeChanged(vtkMRMLNode*)", heard.append)
    combo.connect("currentNodeChanged(bool)", heard.append)
    combo.connect("currentNodeIDChanged(QString)", heard.append)
    volume = make_volume()
    combo.setCurrentNode(volume)
    assert heard == [volume, True, volume.GetID()]


def test_a_method_that_is_no_slot_in_slicer_is_not_there(app: Any) -> None:
    import ctk

    # ctkSliderWidget::setRange is public C++, but PythonQt does not show it.
    with pytest.raises(AttributeError):
        ctk.ctkSliderWidget().setRange(0, 1)


def test_what_the_host_leaves_out_says_so(app: Any) -> None:
    import ctk
    import slicer

    with pytest.raises(MissingInHostError):
        ctk.ctkSliderWidget().invertedControls  # noqa: B018
    with pytest.raises(MissingInHostError):
        slicer.qMRMLNodeComboBox().sortFilterProxyModel()


def test_no_shim_has_a_member_that_its_header_lacks(app: Any) -> None:
    assert len(SHIMS) > 40
    for name, cls in SHIMS.items():
        assert "Header: " in cls.__doc__, name
        assert headers.lineage(name)[0] == name
    with pytest.raises(TypeError, match="has no setRange"):
        shim(type("ctkSliderWidget", (SHIMS["ctkSliderWidget"],), {"setRange": lambda self: None}))


UI = """<ui version="4.0"><class>F</class><widget class="QWidget" name="F"><layout class="QVBoxLayout" name="l"><item>
<widget class="{kind}" name="w"><property name="{name}"><{tag}>{value}</{tag}></property></widget>
</item></layout></widget>
<connections><connection><sender>{sender}</sender><signal>{signal}</signal><receiver>F</receiver><slot>{slot}</slot>
</connection></connections></ui>"""

GOOD = {
    "kind": "ctkSliderWidget",
    "name": "maximum",
    "tag": "double",
    "value": "5",
    "sender": "w",
    "signal": "valueChanged(double)",
    "slot": "update()",
}


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "ctkNoSuchWidget"},
        {"name": "maximumValue"},
        {"sender": "nobody"},
        {"signal": "valueChanged(float)"},
        {"slot": "refresh()"},
    ],
)
def test_a_wrong_ui_file_raises(app: Any, tmp_path: Path, change: dict[str, str]) -> None:
    import slicer

    path = tmp_path / "form.ui"
    path.write_text(UI.format(**GOOD))
    form = slicer.util.loadUI(str(path))
    assert slicer.util.childWidgetVariables(form).w.maximum == 5
    assert form.w is slicer.util.findChild(form, "w")
    path.write_text(UI.format(**{**GOOD, **change}))
    with pytest.raises((RuntimeError, ValueError, AttributeError)):
        slicer.util.loadUI(str(path))


def test_qt_lacks_what_only_pyside_has(app: Any) -> None:
    import qt

    for name in ("Signal", "Slot", "QtCore", "QNoSuchThing"):
        with pytest.raises(AttributeError):
            getattr(qt, name)
