"""Work that ends after the user has left the module: kept, not shown in another module, shown on return."""

import logging
from collections.abc import Callable
from typing import Any

import host
import pytest
from host import mouse

from Testing.module.panels.test_encoders import EXAMPLE
from Testing.module.steps import click_all

pytestmark = pytest.mark.slow


@pytest.fixture
def marked(coralbay: Any, driver: Any, scan: Any) -> Any:
    """An embedded scan with a preview and a query point; the scan and the place of its ball."""
    from CoralBaySlicerCore.scene import query_markups

    node, place = scan()
    driver.embed(node)
    mouse.press(coralbay.panel.segment.ui.addStructureButton)
    click_all(coralbay.panel.segment, driver, place)
    query_markups.make(node).AddControlPointWorld(*place)
    return node, place


@pytest.fixture
def away(coralbay: Any, driver: Any, caplog: pytest.LogCaptureFixture) -> Callable[[Callable[[], None]], None]:
    """Starts something and is in another module when it ends; nothing is shown there and nothing goes wrong."""
    import slicer

    def views() -> list[tuple]:
        nodes = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
        slices = [
            str(slicer.util.arrayFromVTKMatrix(n.GetSliceToRAS())) for n in slicer.util.getNodesByClass("vtkMRMLSliceNode")
        ]
        return [*((each.GetForegroundVolumeID(), each.GetLabelVolumeID()) for each in nodes), *slices]

    def leave_during(start: Callable[[], None]) -> None:
        start()
        assert coralbay.logic.worker.busy
        slicer.util.selectModule("SegmentEditor")
        assert coralbay.logic.worker.busy
        before = views()
        driver.settle()
        assert views() == before
        assert coralbay.logic.overlays.shown is None
        assert host.dialogs.texts("error") == []
        assert [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR] == []

    return leave_during


def come_back(driver: Any) -> None:
    import slicer

    slicer.util.selectModule("CoralBaySlicer")
    driver.settle()


def test_segments_are_written_with_their_surfaces(coralbay: Any, driver: Any, marked: Any, away: Any) -> None:
    panel = coralbay.panel.segment
    panel.ui.show3DCheck.click()
    away(panel.output.apply)
    come_back(driver)
    from CoralBaySlicerCore.scene import surfaces

    output = coralbay.panel.parameters.output
    assert output.GetSegmentation().GetNthSegment(0).GetName() == "Structure 1"
    assert surfaces.has_surfaces(output)


def test_a_preview_is_shown_on_return(coralbay: Any, driver: Any, marked: Any, away: Any) -> None:
    _node, place = marked
    panel = coralbay.panel.segment
    before = panel.few_shot.preview

    def prompt() -> None:
        panel.few_shot.structures[0].node.AddControlPointWorld(*(place + [0, 0, 5]))
        panel.few_shot.update()

    away(prompt)
    assert panel.few_shot.preview is not before
    come_back(driver)
    assert coralbay.logic.overlays.shown == "probability"


def test_similar_regions_are_shown_on_return_and_again(coralbay: Any, driver: Any, marked: Any, away: Any) -> None:
    import slicer

    panel = coralbay.panel.similar
    away(panel.search)
    assert panel.regions
    for _ in range(2):
        come_back(driver)
        assert coralbay.logic.overlays.shown == "similarity"
        assert panel.ui.showMapCheck.checked
        slicer.util.selectModule("SegmentEditor")
        assert coralbay.logic.overlays.shown is None


def test_colors_and_clusters_are_shown_on_return(coralbay: Any, driver: Any, marked: Any, away: Any) -> None:
    import slicer

    panel = coralbay.panel.feature_maps
    away(panel.show_colors)
    assert panel.basis is not None
    come_back(driver)
    assert coralbay.logic.overlays.shown == "features"
    assert panel.ui.hideColorsButton.enabled
    away(panel.make_clusters)
    come_back(driver)
    shown = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode().GetLabelVolumeID()
    assert slicer.mrmlScene.GetNodeByID(shown).GetName() == "CT clusters"


def test_colors_of_another_scan_are_not_shown(coralbay: Any, driver: Any, marked: Any, away: Any, scan: Any) -> None:
    away(coralbay.panel.feature_maps.show_colors)
    coralbay.logic.getParameterNode().volume = scan(name="other", seed=2)[0]
    come_back(driver)
    assert coralbay.logic.overlays.shown is None


def test_a_scene_that_is_closed_meanwhile_leaves_nothing_to_show(coralbay: Any, driver: Any, marked: Any, away: Any) -> None:
    import slicer

    away(coralbay.panel.similar.search)
    slicer.mrmlScene.Clear()
    come_back(driver)
    assert coralbay.logic.overlays.shown is None
    assert coralbay.panel.similar.regions == []


def test_a_loaded_probe_is_shown_on_return(coralbay: Any, driver: Any, marked: Any, away: Any, tmp_path: Any) -> None:
    panel = coralbay.panel.segment
    coralbay.logic.saveProbe(tmp_path / "probe.safetensors")
    host.dialogs.answer(str(tmp_path / "probe.safetensors"))
    away(panel._transfer.load)
    come_back(driver)
    assert panel.few_shot.given is not None
    assert panel.few_shot.segmenter.probe_ is panel.few_shot.given


def test_an_encoder_that_was_added_is_chosen(coralbay: Any, driver: Any, marked: Any, away: Any, monkeypatch: Any) -> None:
    from CoralBayLib.encoders import plugins, registry

    monkeypatch.setattr(registry, "_registry", dict(registry._registry))
    monkeypatch.setattr(plugins, "_files", {})
    host.dialogs.answer(str(EXAMPLE), True)
    away(coralbay.panel.scan.encoder.add_file)
    come_back(driver)
    assert coralbay.panel.parameters.encoder == "my-encoder"


def test_the_views_of_another_module_are_not_moved(coralbay: Any, driver: Any, marked: Any, away: Any) -> None:
    away(coralbay.panel.segment.suggest_click)
