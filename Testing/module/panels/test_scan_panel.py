"""Step 1: embeddings computed, stored, cancelled and refused; the event loop stays free."""

import time
import warnings
from typing import Any

import host
import pytest
from host import mouse
from host.responsiveness import EventLoopMonitor

pytestmark = pytest.mark.slow


STEP_S = 0.05
"""How long each of the slow encoder's 60 steps takes."""


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the quick encoder take a few seconds, in small steps as a network's layers."""
    from Testing.lib.conftest import PoolingEncoder

    quick = PoolingEncoder.forward_features

    def forward(self: Any, x: Any, names: Any) -> Any:
        for _ in range(60):
            time.sleep(STEP_S)
            for pool in self.network.pools:
                pool(x)
        return quick(self, x, names)

    monkeypatch.setattr(PoolingEncoder, "forward_features", forward)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the quick encoder raise what it is given."""
    from Testing.lib.conftest import PoolingEncoder

    def fail_with(error: Exception) -> None:
        def forward(self: Any, x: Any, names: Any) -> Any:
            raise error

        monkeypatch.setattr(PoolingEncoder, "forward_features", forward)

    return fail_with


def nodes_in_scene() -> set[str]:
    import slicer

    return {slicer.mrmlScene.GetNthNode(i).GetID() for i in range(slicer.mrmlScene.GetNumberOfNodes())}


def choose(coralbay: Any, driver: Any, node: Any) -> Any:
    coralbay.panel.scan.ui.volumeSelector.setCurrentNode(node)
    driver.settle()
    return coralbay.panel.scan.ui


def test_embeddings_are_computed_and_found_again(coralbay: Any, driver: Any, scan: Any) -> None:
    node, _place = scan()
    ui = coralbay.panel.scan.ui
    assert not ui.computeButton.enabled
    choose(coralbay, driver, node)
    assert "not computed yet" in ui.statusLabel.text
    mouse.press(ui.computeButton)
    driver.settle()
    assert "ready" in ui.statusLabel.text
    assert not ui.computeButton.enabled
    assert "CPU" in ui.deviceLabel.text
    # The same voxels under another node, as after loading the scan another day.
    again, _place = scan(name="again")
    choose(coralbay, driver, again)
    assert "ready" in ui.statusLabel.text
    assert coralbay.logic.features.cached(again) is not None


def test_changed_voxels_need_new_embeddings(coralbay: Any, driver: Any, scan: Any) -> None:
    import slicer

    node, _place = scan()
    driver.embed(node)
    slicer.util.arrayFromVolume(node)[10:14, 10:14, 10:14] = 100
    slicer.util.arrayFromVolumeModified(node)
    coralbay.panel.refresh()
    driver.settle()
    assert "not computed yet" in coralbay.panel.scan.ui.statusLabel.text
    assert coralbay.panel.scan.ui.computeButton.enabled


def test_moving_the_volume_keeps_its_embeddings(coralbay: Any, driver: Any, scan: Any) -> None:
    import slicer

    node, _place = scan()
    driver.embed(node)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    node.SetAndObserveTransformNodeID(transform.GetID())
    assert coralbay.logic.features.cached(node) is not None


@pytest.mark.usefixtures("slow")
def test_progress_time_left_and_cancel(coralbay: Any, driver: Any, scan: Any) -> None:
    node, _place = scan()
    ui = choose(coralbay, driver, node)
    top = coralbay.panel.ui
    before = nodes_in_scene()
    with EventLoopMonitor() as monitor:
        mouse.press(ui.computeButton)
        assert top.activityFrame.visible
        assert not ui.computeButton.enabled
        host.wait_for(lambda: top.progressBar.value >= 10)
        host.wait_for(lambda: "left" in top.activityLabel.text)
        started = time.monotonic()
        mouse.press(top.cancelButton)
        driver.settle(5)
        took = time.monotonic() - started
    print(f"\nevent loop blocked for at most {1000 * monitor.longest_s:.0f} ms; cancelled within {1000 * took:.0f} ms")
    assert monitor.longest_s < 1
    assert took < 1
    assert not top.activityFrame.visible
    assert ui.computeButton.enabled
    assert coralbay.logic.features.cached(node) is None
    assert nodes_in_scene() == before
    assert host.dialogs.texts("error") == []


def test_the_event_loop_stays_free_while_the_network_runs(coralbay: Any, driver: Any, scan: Any, checkpoint: Any) -> None:
    """With the real architecture, and the imports that come with the first use."""
    from CoralBaySlicerCore.setup import settings

    node, _place = scan()
    settings.set_weights_file("coralbay", str(checkpoint))
    coralbay.panel.parameters.encoder = "coralbay"
    coralbay.panel.parameters.setting = "whole"
    ui = choose(coralbay, driver, node)
    with EventLoopMonitor() as monitor:
        mouse.press(ui.computeButton)
        driver.settle(120)
    print(f"\nevent loop blocked for at most {1000 * monitor.longest_s:.0f} ms over {monitor.ticks} ticks")
    assert monitor.longest_s < 1
    assert "ready" in ui.statusLabel.text


@pytest.mark.parametrize("kind", ["memory", "unexpected", "words"])
def test_a_failure_is_said_in_words_and_changes_nothing(coralbay: Any, driver: Any, scan: Any, failing: Any, kind: str) -> None:
    from CoralBayLib.core.errors import MemoryLimitError

    errors = {
        "memory": (MemoryError(), "not enough memory"),
        "unexpected": (RuntimeError("shapes differ"), "An unexpected error occurred"),
        "words": (MemoryLimitError("Crop the volume."), "Crop the volume."),
    }
    error, words = errors[kind]
    failing(error)
    node, _place = scan()
    ui = choose(coralbay, driver, node)
    before = nodes_in_scene()
    mouse.press(ui.computeButton)
    driver.settle()
    (text,) = host.dialogs.texts("error")
    assert words in text
    assert "Traceback" not in text
    assert nodes_in_scene() == before
    assert ui.computeButton.enabled


def test_a_volume_that_is_no_ct_is_refused(coralbay: Any, driver: Any, scan: Any) -> None:
    import slicer

    node, _place = scan()
    slicer.util.updateVolumeFromArray(node, (slicer.util.arrayFromVolume(node) > 0).astype("uint8"))
    ui = choose(coralbay, driver, node)
    mouse.press(ui.computeButton)
    driver.settle()
    assert "not Hounsfield units" in host.dialogs.texts("error")[0]


def test_without_a_network_one_click_goes_on_with_the_encoder_that_comes_along(coralbay: Any, driver: Any, scan: Any) -> None:
    """A first user: nothing was chosen but the scan."""
    import slicer

    slicer.mrmlScene.Clear()
    node, _place = scan()
    ui = choose(coralbay, driver, node)
    assert coralbay.panel.parameters.encoder == "coralbay"
    host.dialogs.answer(False)
    mouse.press(ui.computeButton)
    driver.settle()
    (question,) = [each for each in host.dialogs.shown if each.kind == "confirm"]
    assert "Continue with CoralBay-mini, which is included in CoralBay and needs no download?" in question.text
    assert "No weights for 'coralbay'" in question.details
    assert coralbay.panel.parameters.encoder == "coralbay"
    host.dialogs.answer(True)
    mouse.press(ui.computeButton)
    driver.settle()
    assert host.dialogs.texts("error") == []
    assert ui.encoderSelector.currentText == "CoralBay-mini"
    assert "ready" in ui.statusLabel.text
    assert coralbay.logic.features.cached(node).identity["encoder"] == "coralbay-mini"


def test_a_search_goes_on_with_the_encoder_that_comes_along(coralbay: Any, driver: Any, scan: Any) -> None:
    from CoralBaySlicerCore.scene import query_markups

    node, place = scan()
    coralbay.panel.parameters.encoder = "coralbay"
    choose(coralbay, driver, node)
    query_markups.make(node).AddControlPointWorld(*place)
    host.dialogs.answer(True)
    coralbay.panel.similar.search()
    driver.settle()
    assert coralbay.panel.parameters.encoder == "coralbay-mini"
    assert coralbay.panel.similar.regions
    assert host.dialogs.texts("error") == []


def test_a_download_is_asked_about_on_the_main_thread(
    coralbay: Any, driver: Any, scan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    from CoralBaySlicerCore.setup import packages

    from CoralBayLib.encoders import EncoderCard, get_entry, registry
    from CoralBayLib.encoders.weights import DownloadRequest

    threads = []
    asked = packages.ask_download
    monkeypatch.setattr(packages, "ask_download", lambda request: threads.append(threading.current_thread()) or asked(request))

    def load(weights=None, device="cpu", consent=None, *, setting=None) -> Any:
        from CoralBayLib.core.errors import WeightsError

        if consent is None or not consent(DownloadRequest("weights of X", "300 MB", "https://example.org", "MIT")):
            raise WeightsError("No weights.")
        return get_entry("pooling").load()

    asking = registry.EncoderEntry(EncoderCard("asking", "", ""), load)
    monkeypatch.setitem(registry._registry, "asking", asking)
    coralbay.panel.parameters.encoder = "asking"
    node, _place = scan()
    ui = choose(coralbay, driver, node)
    # Looking into the store asks nothing.
    assert host.dialogs.texts() == []
    host.dialogs.answer(False, False)
    mouse.press(ui.computeButton)
    driver.settle()
    assert "300 MB" in host.dialogs.texts("confirm")[0]
    assert "https://example.org" in host.dialogs.texts("confirm")[0]
    assert "Continue with CoralBay-mini" in host.dialogs.texts("confirm")[1]
    assert threads == [threading.main_thread()]
    host.dialogs.answer(True)
    mouse.press(ui.computeButton)
    driver.settle()
    assert "ready" in ui.statusLabel.text


def test_choices_of_this_computer_are_kept_in_the_settings(coralbay: Any, driver: Any, scan: Any, tmp_path: Any) -> None:
    from CoralBaySlicerCore.setup import settings

    ui = coralbay.panel.scan.ui
    ui.encoderSelector.currentIndex = ui.encoderSelector.findData("astra")
    driver.settle()
    assert coralbay.panel.parameters.encoder == "astra"
    assert not ui.settingSelector.visible
    assert not ui.settingSelectorLabel.visible
    ui.weightsPath.currentPath = str(tmp_path)
    ui.deviceSelector.currentIndex = ui.deviceSelector.findData("cpu")
    ui.encoderSelector.currentIndex = ui.encoderSelector.findData("coralbay")
    driver.settle()
    assert ui.weightsPath.currentPath == ""
    ui.settingSelector.currentIndex = ui.settingSelector.findData("whole")
    assert coralbay.panel.parameters.setting == "whole"
    assert settings.weights_file("astra") == str(tmp_path)
    assert settings.device() == "cpu"
    assert coralbay.logic.encoder_config().setting == "whole"


def test_the_encoder_menu_shows_titles_and_the_card_of_the_chosen_one(coralbay: Any, driver: Any) -> None:
    ui = coralbay.panel.scan.ui
    titles = [ui.encoderSelector.itemText(i) for i in range(ui.encoderSelector.count)]
    assert {"CoralBay", "Astra ResNet-152"} <= set(titles)
    ui.encoderSelector.currentIndex = titles.index("Astra ResNet-152")
    driver.settle()
    assert "pretrained on CT scans and their reports" in ui.encoderLabel.text
    assert "License of the weights: MIT" in ui.encoderLabel.text
    assert "Please cite: Image backbone of Astra_CTRG" in ui.encoderSelector.toolTip
    tip = ui.encoderSelector.itemData(titles.index("CT-FM"), 3)
    for fact in ("1 x 1 x 1 mm; -1024 to 2048 HU", "78 million", "Apache-2.0", "arXiv 2501.09001", "https://huggingface.co"):
        assert fact in tip
    assert "Paper:" not in ui.encoderSelector.itemData(titles.index("CoralBay-mini"), 3)
    # One of which there is no card.
    coralbay.panel.parameters.encoder = "pooling"
    driver.settle()
    assert not ui.encoderLabel.visible
    assert not ui.encoderLabelLabel.visible


def test_stored_embeddings_can_be_deleted(coralbay: Any, driver: Any, scan: Any, tmp_path: Any) -> None:
    node, _place = scan()
    driver.embed(node)
    driver.open(coralbay.panel.scan)
    assert len(list((tmp_path / "cache" / "embeddings").glob("*.safetensors"))) == 1
    mouse.press(coralbay.panel.scan.ui.clearStoreButton)
    driver.settle()
    assert not list((tmp_path / "cache" / "embeddings").glob("*.safetensors"))
    assert host.dialogs.texts("info") == ["The stored features were deleted (scans: 1)."]


def test_a_damaged_entry_is_computed_again(coralbay: Any, driver: Any, scan: Any, tmp_path: Any) -> None:
    node, _place = scan()
    driver.embed(node)
    (entry,) = (tmp_path / "cache" / "embeddings").glob("*.safetensors")
    entry.write_bytes(entry.read_bytes()[:-200])
    again, _place = scan(name="again")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        driver.embed(again)
    assert coralbay.logic.features.cached(again) is not None
