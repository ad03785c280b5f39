"""The module's life: load, enter, exit, reload, scene closed, saved and restored, also in the middle of work."""

import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import host
import pytest
from host import mouse

from Testing.module.coralbay_fixtures import MODULE
from Testing.module.steps import click_all


@pytest.mark.slow
def test_loading_the_module_imports_nothing_heavy() -> None:
    source = f"""
import sys
sys.path[:0] = [{str(Path(host.__file__).parents[1])!r}]
import host
host.start()
import slicer
host.load_module({str(MODULE)!r})
heavy = {{"torch", "monai", "sklearn", "scipy", "safetensors", "huggingface_hub"}} & set(sys.modules)
print("heavy:", sorted(heavy))
host.leave()
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120)
    assert "heavy: []" in done.stdout, done.stdout + done.stderr


def test_metadata_and_icon(coralbay: Any) -> None:
    import qt
    import slicer

    module = slicer.modules.coralbayslicer
    assert module.title == "CoralBay"
    assert "Segmentation" in module.categories
    assert "not a medical device" in module.helpText
    pages = re.findall(r'<a href="https://github\.com/coralbay/SlicerCoralBay/blob/main/([^"]+)">', module.helpText)
    assert pages == ["docs/tutorial.md", "docs/user-guide.md"]
    assert all((MODULE.parents[1] / page).is_file() for page in pages)
    from CoralBaySlicerCore.setup import encoder_cards

    assert len(encoder_cards.shipped()) == 8
    for card in encoder_cards.shipped():
        assert card.title in module.helpText
        assert f"{card.title} (" in module.acknowledgementText
        assert card.weights_licence in module.acknowledgementText
    icon = qt.QPixmap(str(MODULE.parent / "Resources" / "Icons" / "CoralBaySlicer.png"))
    assert (icon.width(), icon.height()) == (128, 128)
    assert "Not a medical device" in coralbay.panel.ui.noticeLabel.text


def test_every_control_has_a_tooltip(coralbay: Any) -> None:
    import ctk
    import qt
    import slicer

    controls = (
        qt.QPushButton,
        qt.QCheckBox,
        qt.QComboBox,
        qt.QSpinBox,
        qt.QDoubleSpinBox,
        qt.QTableWidget,
        qt.QListWidget,
        qt.QPlainTextEdit,
        qt.QProgressBar,
        ctk.ctkSliderWidget,
        ctk.ctkPathLineEdit,
        slicer.qMRMLNodeComboBox,
        slicer.qMRMLSegmentSelectorWidget,
    )
    bare = [
        name
        for part in (coralbay.panel, *coralbay.panel.panels)
        for name, widget in vars(part.ui).items()
        if isinstance(widget, controls) and not widget.toolTip
    ]
    assert bare == []


def test_every_row_has_a_title(coralbay: Any, driver: Any, scan: Any) -> None:
    """A field that says nothing of itself stands beside a label, and both are shown or neither."""
    import qt

    coralbay.panel.scan.ui.volumeSelector.setCurrentNode(scan()[0])
    for kind, encoder in (("point", "astra"), ("segment", "coralbay"), ("roi", "pooling")):
        coralbay.panel.parameters.queryKind = kind
        coralbay.panel.parameters.encoder = encoder
        for part in coralbay.panel.panels:
            driver.open(part)
        driver.settle()
        for form in (form for part in coralbay.panel.panels for form in part.root.findChildren(qt.QFormLayout)):
            for row in range(form.rowCount()):
                spanning = form.itemAt(row, qt.QFormLayout.SpanningRole)
                if spanning is not None:
                    whole = spanning.widget()
                    # Rows of a form within the form are looked at by themselves.
                    assert whole.findChildren(qt.QFormLayout) or whole.text or not whole.visible, whole.objectName
                    continue
                label, field = (
                    form.itemAt(row, role).widget() for role in (qt.QFormLayout.LabelRole, qt.QFormLayout.FieldRole)
                )
                assert label.text.endswith(":"), field.objectName
                assert label.visible == field.visible, field.objectName


def test_every_string_of_the_code_is_translated(coralbay: Any) -> None:
    """Whatever reads like words goes through `_`, as a plain text that translators can be given."""
    import ast

    # Names; the library's codes; messages for the log; and a developer's own mistake, before Slicer's translations can be
    # reached.
    untranslated = {
        "CoralBaySlicer.py": "contributors",
        "parameters.py": "(",
        "worker.py": "%s",
        "bootstrap.py": "not found",
        "library_section.py": "left out",
        "weights.py": "hub cache",
        "watch.py": "",  # texts of Slicer's log
    }
    found, computed = [], []
    for path in sorted(MODULE.parent.rglob("*.py")):
        tree, passed = ast.parse(path.read_text(encoding="utf-8")), set()
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                passed |= {id(each.value) for each in node.body if isinstance(each, ast.Expr)}
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("_", "translate"):
                passed |= {id(each) for each in node.args}
                computed += [f"{path.name}:{node.lineno}" for each in node.args if not isinstance(each, ast.Constant)]
            method = node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else ""
            if path.parent.name == "selftest" and method.startswith("assert"):
                # What a failed self-test says is for developers.
                passed |= {id(each) for each in ast.walk(node)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or id(node) in passed:
                continue
            words = " " in node.value.strip() and any(letter.isalpha() for letter in node.value)
            if words and untranslated.get(path.name, "\0") not in node.value:
                found.append(f"{path.name}:{node.lineno}: {node.value}")
    assert found == []
    assert computed == []


def test_exit_gives_back_keys_mouse_and_views(coralbay: Any, driver: Any, scan: Any) -> None:
    import slicer

    node, place = scan()
    other, _place = scan(name="fusion", seed=1)
    slicer.util.setSliceViewerLayers(background=node, foreground=other, foregroundOpacity=0.3, fit=True)
    driver.embed(node)
    mouse.press(coralbay.panel.segment.ui.addStructureButton)
    click_all(coralbay.panel.segment, driver, place)
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    assert composite.GetForegroundVolumeID() != other.GetID()
    coralbay.panel.segment.ui.placeButton.click()
    slicer.util.selectModule("SegmentEditor")
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    assert interaction.GetCurrentInteractionMode() == interaction.ViewTransform
    assert composite.GetForegroundVolumeID() == other.GetID()
    assert composite.GetForegroundOpacity() == pytest.approx(0.3)
    points = len(coralbay.panel.segment.few_shot.structures[0].world_points())
    mouse.key("Z")
    assert len(coralbay.panel.segment.few_shot.structures[0].world_points()) == points
    slicer.util.selectModule("CoralBaySlicer")
    driver.settle()
    # The preview is there again.
    assert composite.GetForegroundVolumeID() not in (None, other.GetID())


def test_reload_ends_the_worker_and_starts_afresh(coralbay: Any, driver: Any, scan: Any) -> None:
    import slicer

    node, _place = scan()
    driver.embed(node)
    core = sys.modules["CoralBaySlicerCore.work.logic"]
    threads = [thread for thread in threading.enumerate() if thread.name == "CoralBay"]
    assert threads
    coralbay.onReload()
    renewed = slicer.modules.CoralBaySlicerWidget
    assert renewed is not coralbay
    assert sys.modules["CoralBaySlicerCore.work.logic"] is not core
    host.wait_for(lambda: not any(thread.is_alive() for thread in threads), 10)
    # Slicer calls `setup` of the new panel but not `enter`, since its place was entered long ago.
    assert renewed.panel.parameters.volume is node
    assert renewed.panel.scan.ui.volumeSelector.currentNode() is node
    mouse.key("1")
    assert renewed.panel.segment.ui.placeButton.checked
    renewed.panel.segment.ui.thresholdSlider.value = 35
    assert renewed.logic.getParameterNode().threshold == 35


def test_leaving_slicer_while_an_overlay_is_shown(coralbay: Any, driver: Any, scan: Any) -> None:
    """Slicer unloads its modules before the panel that is shown; `cleanup` must end all the same."""
    import slicer

    node, place = scan()
    driver.embed(node)
    mouse.press(coralbay.panel.segment.ui.addStructureButton)
    click_all(coralbay.panel.segment, driver, place)
    assert coralbay.logic.overlays.shown == "probability"
    before = slicer.modules.volumerendering
    host.quit_application()
    assert coralbay.logic.overlays.shown is None
    assert coralbay.logic.worker._closed and coralbay.logic.reader._closed
    assert not any(each.Observations for each in (coralbay.panel, coralbay.logic, coralbay.panel.segment.few_shot))
    assert slicer.modules.volumerendering is before
    host.load_module(MODULE)


def test_cleanup_goes_on_after_an_error(coralbay: Any, driver: Any, monkeypatch: Any) -> None:
    import slicer

    def fail() -> None:
        raise RuntimeError("the view is gone")

    monkeypatch.setattr(coralbay.panel.similar, "exit", fail)
    host.quit_application()
    assert coralbay.logic.worker._closed
    assert not coralbay.panel.Observations and not coralbay.logic.Observations
    assert "the view is gone" in host.unhandled.pop()
    # The base class does not come to it after an error.
    slicer.app.moduleManager().disconnect("moduleAboutToBeUnloaded(QString)", coralbay._onModuleAboutToBeUnloaded)
    host.load_module(MODULE)


def test_the_legend_is_in_the_red_view_in_every_session(coralbay: Any, driver: Any, scan: Any) -> None:
    import slicer

    node, place = scan()
    driver.embed(node)
    mouse.press(coralbay.panel.segment.ui.addStructureButton)
    click_all(coralbay.panel.segment, driver, place)
    for _again in range(4):
        coralbay.logic.overlays.refresh()
        shown = coralbay.logic.overlays.node("probability")
        legend = slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(shown)
        assert legend.GetViewNodeIDs() == ("vtkMRMLSliceNodeRed",)


def test_closing_the_scene_in_the_middle_of_work_is_safe(coralbay: Any, driver: Any, scan: Any) -> None:
    import slicer

    node, place = scan()
    driver.embed(node)
    panel = coralbay.panel.segment
    mouse.press(panel.ui.addStructureButton)
    click_all(panel, driver, place)
    other, _place = scan(name="other", seed=2)
    coralbay.panel.parameters.volume = other
    host.process_events(0.01)
    coralbay.panel.scan.compute()
    task = coralbay.panel.activity.task
    slicer.mrmlScene.Clear()
    driver.settle()
    assert task.done
    assert coralbay.panel.parameters.volume is None
    assert panel.few_shot.structures == []
    assert panel.ui.structureTable.rowCount == 0
    assert not coralbay.panel.ui.activityFrame.visible
    assert host.dialogs.texts("error") == []
    # And all of it works again.
    coralbay.panel.parameters.encoder = "pooling"
    node, place = scan()
    driver.embed(node)
    mouse.press(panel.ui.addStructureButton)
    click_all(panel, driver, place)
    assert panel.few_shot.preview is not None


def test_removing_the_volume_in_the_middle_of_work_is_safe(coralbay: Any, driver: Any, scan: Any) -> None:
    import slicer

    node, _place = scan()
    coralbay.panel.scan.ui.volumeSelector.setCurrentNode(node)
    driver.settle()
    mouse.press(coralbay.panel.scan.ui.computeButton)
    slicer.mrmlScene.RemoveNode(node)
    driver.settle()
    assert coralbay.panel.parameters.volume is None
    assert all("removed or changed" in text for text in host.dialogs.texts("error"))


def test_unloading_in_the_middle_of_work_is_safe(app: Any, pooling_encoder: str, scan: Any, tmp_path: Path) -> None:
    widget = host.load_module(MODULE)
    widget.panel.parameters.encoder = pooling_encoder
    node, _place = scan()
    widget.panel.scan.ui.volumeSelector.setCurrentNode(node)
    task = widget.logic.embedTask(node)
    host.unload_module("CoralBaySlicer")
    assert task.done
    host.wait_for(lambda: not any(t.name == "CoralBay" for t in threading.enumerate()), 10)


def test_a_saved_scene_reopens_as_it_was(coralbay: Any, driver: Any, scan: Any, tmp_path: Path) -> None:
    import slicer

    node, place = scan()
    driver.embed(node)
    panel = coralbay.panel
    mouse.press(panel.segment.ui.addStructureButton)
    panel.segment.few_shot.structures[0].node.SetName("Liver")
    click_all(panel.segment, driver, place)
    panel.segment.ui.thresholdSlider.value = 35
    panel.segment.ui.overlaySelector.currentIndex = 1
    panel.similar.ui.countSpin.value = 7
    mouse.press(panel.segment.ui.applyButton)
    driver.settle()
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear()
    driver.settle()
    assert panel.parameters.threshold == 50
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    driver.settle()
    parameters = panel.parameters
    assert parameters.volume.GetName() == "CT"
    assert parameters.encoder == "pooling"
    assert panel.segment.ui.thresholdSlider.value == 35
    assert parameters.overlay == "uncertainty"
    assert panel.segment.ui.overlaySelector.currentIndex == 1
    assert panel.similar.ui.countSpin.value == 7
    assert parameters.output.GetSegmentation().GetNthSegment(0).GetName() == "Liver"
    names = [(each.name, len(each.world_points())) for each in panel.segment.few_shot.structures]
    assert names == [("Liver", 2), ("Background", 3)]
    # The embeddings come from the store, and the preview with them.
    assert coralbay.logic.features.cached(parameters.volume) is not None
    assert panel.segment.few_shot.preview is not None
    assert not [n for n in slicer.util.getNodesByClass("vtkMRMLVolumeNode") if n.GetName() == "CoralBay: Probability (%)"]
