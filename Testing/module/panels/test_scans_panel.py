"""Step 5: scan probes, from a table to metrics and predictions."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import host
import numpy as np
import pytest
from host import mouse

from CoralBayLib.scan_probes import metrics
from Testing.lib.conftest import PoolingEncoder
from Testing.module.panels.test_scan_panel import slow
from Testing.module.steps import AXIAL, oblique

pytestmark = pytest.mark.slow

__all__ = ["slow"]


@pytest.fixture
def study(app: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A CSV of twelve scans, half of them with a bright ball on the right, and of a file that is missing."""
    import slicer
    from CoralBaySlicerCore.selftest import make_phantom

    # Few bootstrap samples, because no test reads the intervals.
    monkeypatch.setattr(metrics, "RESAMPLES", 20)
    rows = ["path,Patient,finding,size,event,days"]
    for number in range(12):
        node, place = make_phantom(oblique() if number == 3 else AXIAL, "phantom", number)
        if number % 2 == 0:
            array = slicer.util.arrayFromVolume(node)
            array[array > 150] = 40
        assert slicer.util.saveNode(node, str(tmp_path / f"{number}.nrrd"))
        slicer.mrmlScene.RemoveNode(node)
        patient = number // 2 * 2 + number % 2 if number > 3 else number % 2
        finding = "ball" if number % 2 else "none"
        rows.append(
            f"{number}.nrrd,P{patient},{finding},{number % 2 * 10 + 5},{number % 2},{30 - number % 2 * 20 + number / 10}"
        )
    rows.append("missing.nrrd,P99,ball,1,1,1")
    (tmp_path / "study.csv").write_text("\n".join(rows))
    return tmp_path


@pytest.fixture
def ready(coralbay: Any, driver: Any, study: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The panel with the table loaded, its columns guessed, and the target chosen."""
    # Its levels are averaged over the scan, as those of a network without a token for the scan.
    real = PoolingEncoder.__init__

    def pooled(self: Any, *arguments: Any, **options: Any) -> None:
        real(self, *arguments, **options)
        from dataclasses import replace

        self.levels = tuple(replace(level, pooled=True) for level in self.levels)

    monkeypatch.setattr(PoolingEncoder, "__init__", pooled)
    panel = coralbay.panel.scans
    driver.open(panel)
    host.dialogs.answer(str(study / "study.csv"))
    mouse.press(panel.ui.loadTableButton)
    driver.settle()
    choose(panel.ui.targetColumnSelector, "finding")
    driver.settle()
    host.process_events(0.05)
    return SimpleNamespace(panel=panel, ui=panel.ui, parameters=coralbay.panel.parameters, folder=study)


def choose(selector: Any, data: str) -> None:
    selector.currentIndex = selector.findData(data)


def learn(ready: Any, driver: Any) -> None:
    mouse.press(ready.ui.fitButton)
    driver.settle(120)
    assert host.dialogs.texts("error") == []
    host.process_events(0.05)


def table(name: str) -> dict[str, list[str]]:
    import slicer

    return cells(slicer.util.getNode(name))


def cells(node: Any) -> dict[str, list[str]]:
    return {
        node.GetColumnName(column): [node.GetCellText(row, column) for row in range(node.GetNumberOfRows())]
        for column in range(node.GetNumberOfColumns())
    }


def test_a_table_becomes_metrics_predictions_and_plots(ready: Any, driver: Any) -> None:
    import slicer

    parameters, ui = ready.parameters, ready.ui
    assert (parameters.scanColumn, parameters.patientColumn) == ("path", "Patient")
    assert not ui.timeColumnSelector.visible and not ui.showScansButton.visible and not ui.saliencyForm.visible
    before = cells(parameters.scansTable)
    learn(ready, driver)
    assert "12 scans of 10 patients" in ui.metricsLabel.text
    assert "AUROC: 1.000" in ui.metricsLabel.text
    # The table of the user is as it was; the predictions stand in a new one, beside its columns.
    assert cells(parameters.scansTable) == before
    predictions = table("finding: predictions")
    assert list(predictions)[:6] == list(before) and predictions["path"] == before["path"]
    probability = np.array([float(text or "nan") for text in predictions["probability of ball"]])
    assert (probability[1:12:2] > probability[0:12:2].max()).all()
    assert np.isnan(probability[12])
    folds: dict[str, set] = {}
    for patient, fold in zip(predictions["Patient"], predictions["tested in fold"], strict=True):
        folds.setdefault(patient, set()).add(fold)
    assert all(len(folds_of_patient) == 1 for folds_of_patient in folds.values()) and folds["P99"] == {"0"}
    metrics_table = table("finding: metrics")
    assert metrics_table["metric"][0] == "AUROC" and float(metrics_table["value"][0]) == 1
    # The missing file is named.
    assert ui.scansReport.visible
    assert ui.scansReport.item(0, 0).text() == "missing.nrrd"
    assert "There is no file or folder" in ui.scansReport.item(0, 1).text()
    charts = slicer.util.getNodesByClass("vtkMRMLPlotChartNode")
    assert [chart.GetTitle() for chart in charts] == ["finding: ROC", "finding: Calibration"]
    series = charts[1].GetNthPlotSeriesNode(0)
    assert series.GetName() == "ball" and series.GetMarkerStyle() == series.MarkerStyleCircle
    values = series.GetTableNode()
    assert values.GetNumberOfRows() > 1 and values.GetColumnName(0) == series.GetXColumnName()
    # Who looks through the scene sees the charts, not their parts.
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    parts = [*slicer.util.getNodesByClass("vtkMRMLPlotSeriesNode"), values]
    assert len(parts) == 5 and not any(hierarchy.GetItemByDataNode(part) for part in parts)
    assert all(hierarchy.GetItemByDataNode(chart) for chart in charts)
    mouse.press(ui.showScansButton)
    assert slicer.app.layoutManager().layout == slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpPlotTableView
    selection = slicer.app.applicationLogic().GetSelectionNode()
    assert selection.GetActivePlotChartID() == charts[0].GetID()
    assert slicer.mrmlScene.GetNodeByID(selection.GetActiveTableID()).GetName() == "finding: metrics"
    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    # Again: further tables, but the plots of before make room.
    learn(ready, driver)
    assert table("finding: predictions_1")["path"] == before["path"]
    assert len(slicer.util.getNodesByClass("vtkMRMLPlotChartNode")) == 2


def test_the_positive_class_is_chosen(ready: Any, driver: Any) -> None:
    import slicer

    ui = ready.ui
    assert ui.positiveSelector.visible and ui.positiveSelector.currentText == "ball"
    choose(ui.positiveSelector, "none")
    driver.settle()
    learn(ready, driver)
    assert ready.panel.probe.probe.classes_ == ["ball", "none"]
    chart = slicer.util.getNodesByClass("vtkMRMLPlotChartNode")[0]
    assert chart.GetNthPlotSeriesNode(0).GetName() == "none"
    choose(ui.positiveSelector, "ball")
    driver.settle()
    learn(ready, driver)
    assert ready.panel.probe.probe.classes_ == ["none", "ball"]
    assert ui.saliencyClassSelector.currentText == "ball"
    # A column of more classes has no positive one.
    choose(ui.targetColumnSelector, "Patient")
    driver.settle()
    assert not ui.positiveSelector.visible and not ui.positiveSelectorLabel.visible
    choose(ui.targetColumnSelector, "event")
    driver.settle()
    assert ui.positiveSelector.visible and ui.positiveSelector.currentText == "1"


def test_a_number_and_survival(ready: Any, driver: Any) -> None:
    pytest.importorskip("lifelines", reason="survival needs lifelines")
    ui = ready.ui
    choose(ui.taskSelector, "regress")
    choose(ui.targetColumnSelector, "size")
    learn(ready, driver)
    assert "MAE" in ui.metricsLabel.text and "R2" in ui.metricsLabel.text
    assert "predicted size" in table("size: predictions")
    choose(ui.taskSelector, "survive")
    driver.settle()
    assert ui.timeColumnSelector.visible and ui.targetColumnSelectorLabel.text == "Event column:"
    assert ready.parameters.timeColumn == "days"
    choose(ui.targetColumnSelector, "event")
    learn(ready, driver)
    assert "concordance" in ui.metricsLabel.text
    assert "log risk" in table("event: predictions")


def test_what_is_not_chosen_is_asked_for(ready: Any, driver: Any) -> None:
    import slicer

    def complaint() -> str:
        mouse.press(ready.ui.fitButton)
        driver.settle()
        return host.dialogs.texts("error")[-1]

    ready.parameters.targetColumn = ""
    assert "Choose the target column" in complaint()
    ready.parameters.targetColumn = "finding"
    node = ready.parameters.scansTable
    for column in range(node.GetNumberOfColumns()):
        if node.GetColumnName(column) == "Patient":
            node.RenameColumn(column, "whose")
    ready.panel.refresh()
    driver.settle()
    assert ready.parameters.patientColumn == ""
    assert "Choose the patient column" in complaint()
    ready.ui.oneScanPerPatientCheck.click()
    driver.settle()
    assert not ready.ui.patientColumnSelector.visible
    ready.parameters.targetColumn = "path"
    assert "Too few patients" in complaint() or "least" in complaint()
    slicer.mrmlScene.RemoveNode(node)
    driver.settle()
    assert not ready.ui.fitButton.enabled


def test_survival_asks_for_what_is_missing(ready: Any, driver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from CoralBaySlicerCore.setup import packages

    real = packages._is_met
    monkeypatch.setattr(packages, "_is_met", lambda each: "lifelines" not in each and real(each))
    monkeypatch.setattr(packages, "_met", set())
    choose(ready.ui.taskSelector, "survive")
    choose(ready.ui.targetColumnSelector, "event")
    driver.settle()
    host.process_events(0.05)
    host.dialogs.answer(False)
    mouse.press(ready.ui.fitButton)
    driver.settle()
    assert "lifelines" in host.dialogs.texts("confirm")[0] and "40 MB" in host.dialogs.texts("confirm")[0]
    assert "Nothing was changed" in host.dialogs.texts("error")[0]
    # What needs no survival does not ask.
    choose(ready.ui.taskSelector, "classify")
    choose(ready.ui.targetColumnSelector, "finding")
    driver.settle()
    host.process_events(0.05)
    host.dialogs.clear()
    learn(ready, driver)
    assert host.dialogs.texts("confirm") == []


@pytest.mark.usefixtures("slow")
def test_progress_and_cancel(ready: Any, driver: Any, coralbay: Any) -> None:
    import slicer

    top = coralbay.panel.ui
    nodes = slicer.mrmlScene.GetNumberOfNodes()
    mouse.press(ready.ui.fitButton)
    host.wait_for(lambda: "Computing features: scan 2 of 13" in top.activityLabel.text, 60)
    mouse.press(top.cancelButton)
    driver.settle()
    assert host.dialogs.texts() == [] or host.dialogs.texts("error") == []
    assert slicer.mrmlScene.GetNumberOfNodes() == nodes
    assert not ready.ui.metricsLabel.visible and ready.panel.probe.probe is None
    assert not top.activityFrame.visible


def test_the_scene_may_be_saved_closed_and_opened(ready: Any, driver: Any, coralbay: Any, tmp_path: Path) -> None:
    import slicer

    learn(ready, driver)
    probe = ready.panel.probe.probe
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear()
    driver.settle()
    assert not ready.ui.metricsLabel.visible and not ready.ui.showScansButton.visible
    assert not ready.ui.fitButton.enabled
    # A probe has nothing to do with the scene.
    assert ready.panel.probe.probe is probe
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    driver.settle()
    parameters = coralbay.panel.parameters
    assert parameters.scansTable is not None
    assert (parameters.scanColumn, parameters.targetColumn) == ("path", "finding")
    assert ready.ui.targetColumnSelector.currentText == "finding"
    assert len(slicer.util.getNodesByClass("vtkMRMLPlotChartNode")) == 2


@pytest.mark.usefixtures("slow")
def test_the_table_is_removed_and_the_module_left_meanwhile(ready: Any, driver: Any, coralbay: Any) -> None:
    import slicer

    mouse.press(ready.ui.fitButton)
    host.wait_for(lambda: "Computing features: scan 1 of 13" in coralbay.panel.ui.activityLabel.text, 60)
    slicer.mrmlScene.RemoveNode(ready.parameters.scansTable)
    slicer.util.selectModule("SegmentEditor")
    driver.settle(180)
    assert "removed during the computation" in host.dialogs.texts("error")[0]
    slicer.util.selectModule("CoralBaySlicer")
    driver.settle()
    # The probe was learnt all the same.
    assert "ball" in ready.ui.scanProbeLabel.text
