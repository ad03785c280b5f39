"""Step 5's probe: saved, applied to tables and to a scan, and explained by a saliency map."""

from pathlib import Path
from typing import Any

import host
import numpy as np
import pytest
from host import mouse

from Testing.module.panels.test_scans_panel import learn, ready, study, table

pytestmark = pytest.mark.slow

__all__ = ["ready", "study"]


def load_scan(coralbay: Any, driver: Any, path: Path) -> Any:
    import slicer

    node = slicer.util.loadVolume(str(path))
    coralbay.panel.parameters.volume = node
    driver.settle()
    return node


def test_a_probe_is_saved_and_applied_to_new_scans(ready: Any, driver: Any, coralbay: Any) -> None:
    import slicer

    learn(ready, driver)
    file = ready.folder / "finding.safetensors"
    host.dialogs.answer(str(file))
    mouse.press(ready.ui.saveScanProbeButton)
    assert file.is_file()
    ready.panel.probe.probe = None
    host.dialogs.answer(str(file))
    mouse.press(ready.ui.loadScanProbeButton)
    driver.settle()
    assert "Predicts 'finding': none, ball." in ready.ui.scanProbeLabel.text
    new = slicer.util.loadTable(str(write(ready.folder / "new.csv", "scan\n1.nrrd\n2.nrrd\n\nnone.nrrd\n")))
    ready.parameters.scansTable = new
    driver.settle()
    host.process_events(0.05)
    mouse.press(ready.ui.applyTableButton)
    driver.settle()
    assert host.dialogs.texts("error") == []
    predictions = table("finding: predicted")
    probability = [float(text or "nan") for text in predictions["probability of ball"]]
    assert probability[0] > 0.5 > probability[1]
    assert np.isnan(probability[-1])
    assert "Scans predicted: 2." in ready.ui.metricsLabel.text
    assert [ready.ui.scansReport.item(row, 0).text() for row in range(ready.ui.scansReport.rowCount)][-1] == "none.nrrd"
    load_scan(coralbay, driver, ready.folder / "1.nrrd")
    host.process_events(0.05)
    mouse.press(ready.ui.applyScanButton)
    driver.settle()
    assert ready.ui.predictionLabel.text.startswith("1: none ")
    assert float(ready.ui.predictionLabel.text.partition("ball ")[2]) == pytest.approx(probability[0], abs=0.006)
    host.dialogs.answer(str(ready.folder / "study.csv"))
    mouse.press(ready.ui.loadScanProbeButton)
    driver.settle()
    assert "could not be loaded" in host.dialogs.texts("error")[0]
    assert ready.panel.probe.probe is not None


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize("number", [1, 3], ids=["straight", "oblique"])
def test_the_saliency_map_is_that_of_the_library(ready: Any, driver: Any, coralbay: Any, number: int) -> None:
    import slicer

    from CoralBayLib.imaging.grid import Grid
    from CoralBayLib.scan_probes import saliency_map
    from Testing.module.panels.test_similar_panel import matrix_of

    learn(ready, driver)
    node = load_scan(coralbay, driver, ready.folder / f"{number}.nrrd")
    ready.ui.saliencyClassSelector.currentIndex = ready.ui.saliencyClassSelector.findText("ball")
    host.process_events(0.05)
    mouse.press(ready.ui.saliencyButton)
    driver.settle()
    assert host.dialogs.texts("error") == []
    overlays = coralbay.logic.overlays
    assert overlays.shown == "saliency" and ready.ui.saliencyButton.checked and ready.ui.saliencyDisplayForm.visible
    shown = overlays.node("saliency")
    percents = slicer.util.arrayFromVolume(shown)
    assert percents.max() == 100
    grid = Grid(percents.shape, slicer.util.arrayFromVTKMatrix(matrix_of(shown)))
    # The map has the values of the library's, at the same positions.
    probe, pyramid = ready.panel.probe.probe, coralbay.logic.features.cached(node)
    expected = saliency_map(pyramid, probe)
    sign = 1 if probe.classes_[1] == "ball" else -1
    inside = pyramid.body.array > 0
    raw = sign * expected.array
    assert np.abs(percents[inside] - np.clip(100 * raw / raw[inside].max(), 0, 100)[inside]).max() < 1
    assert not percents[~inside].any()
    assert grid.same_as(expected.grid)
    # The balls contribute more than the region between them.
    middle, (k, j, i) = grid.center_ras, np.indices(grid.shape)
    away = grid.to_ras(np.stack([i, j, k], -1).reshape(-1, 3)).reshape(*grid.shape, 3) - middle
    balls = np.minimum(*(np.linalg.norm(away - [side, 0, 0], axis=-1) for side in (16, -16)))
    assert raw[balls < 6].mean() > raw[(balls > 14) & (np.linalg.norm(away, axis=-1) < 25)].mean()
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    assert composite.GetForegroundVolumeID() == shown.GetID()
    # The other class has another map.
    ready.ui.saliencyClassSelector.currentIndex = ready.ui.saliencyClassSelector.findText("none")
    driver.settle()
    against = slicer.util.arrayFromVolume(overlays.node("saliency"))
    assert against[percents > 50].max(initial=0) == 0
    coralbay.panel.parameters.volume = load_scan(coralbay, driver, ready.folder / "2.nrrd")
    driver.settle()
    assert overlays.shown is None and not ready.ui.saliencyButton.checked


def test_a_probe_of_another_encoder_is_refused(ready: Any, driver: Any, coralbay: Any) -> None:
    learn(ready, driver)
    load_scan(coralbay, driver, ready.folder / "1.nrrd")
    ready.panel.probe.probe.signature = "other"
    host.process_events(0.05)
    for button in (ready.ui.applyScanButton, ready.ui.saliencyButton, ready.ui.applyTableButton):
        mouse.press(button)
        driver.settle()
        assert "another encoder, weights or setting" in host.dialogs.texts("error")[-1]
    assert len(host.dialogs.texts("error")) == 3


def test_an_attentive_probe_is_trained_saved_and_shows_where_it_looks(
    ready: Any, driver: Any, coralbay: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from CoralBayLib.scan_probes.probes import attention

    monkeypatch.setattr(attention, "MAX_STEPS", 20)
    ready.parameters.attentiveProbe = True
    learn(ready, driver)
    assert host.dialogs.texts("error") == []
    probe = ready.panel.probe.probe
    assert probe.kind == "attentive"
    file = ready.folder / "attentive.safetensors"
    host.dialogs.answer(str(file))
    mouse.press(ready.ui.saveScanProbeButton)
    host.dialogs.answer(str(file))
    mouse.press(ready.ui.loadScanProbeButton)
    driver.settle()
    assert ready.panel.probe.probe is not probe and ready.panel.probe.probe.kind == "attentive"
    load_scan(coralbay, driver, ready.folder / "1.nrrd")
    host.process_events(0.05)
    mouse.press(ready.ui.applyScanButton)
    driver.settle()
    assert ready.ui.predictionLabel.text.startswith("1: none ")
    selector = ready.ui.saliencyClassSelector
    assert [selector.itemText(n) for n in range(selector.count)] == ["none", "ball", "Attention: where the probe looks"]
    selector.setCurrentIndex(2)
    mouse.press(ready.ui.saliencyButton)
    driver.settle()
    assert ready.panel.probe.shown and host.dialogs.texts("error") == []
    assert legend_title(coralbay) == "Attention (% of maximum)"
    selector.setCurrentIndex(1)
    driver.settle()
    assert legend_title(coralbay) == "Saliency (% of maximum)"


def legend_title(coralbay: Any) -> str:
    import slicer

    node = coralbay.logic.overlays.node("saliency")
    return slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(node).GetTitleText()
