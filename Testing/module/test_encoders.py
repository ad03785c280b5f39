"""Step 1, the encoder: its weights downloaded, found, deleted, imported; encoders from files of the user's own."""

import threading
from pathlib import Path
from typing import Any

import host
import pytest
from host import mouse
from host.responsiveness import EventLoopMonitor

from Testing.module.coralbay_fixtures import MODULE

EXAMPLE = Path(__file__).parents[2] / "Resources" / "Examples" / "my_encoder.py"


@pytest.fixture
def panel(coralbay: Any, driver: Any, scan: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Step 1, opened, with a scan; encoders that a test registers are gone after it."""
    from CoralBayLib.encoders import own, registry

    monkeypatch.setattr(registry, "_registry", dict(registry._registry))
    monkeypatch.setattr(own, "_files", {})
    node, _place = scan()
    panel = coralbay.panel.scan
    panel.ui.volumeSelector.setCurrentNode(node)
    driver.open(panel)
    driver.settle()
    return panel


@pytest.fixture
def hub(panel: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A hub on this machine with the weights of the encoder `remote`, which is registered."""
    from dataclasses import replace

    from huggingface_hub import constants

    from CoralBayLib.encoders import EncoderCard, registered, registry
    from CoralBayLib.encoders.weights import find_weights
    from Testing.lib.encoders.local_hub import SOURCE, LocalHub

    server = LocalHub()
    source = replace(SOURCE, encoder="remote", env="REMOTE_WEIGHTS")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def load(weights: Any = None, device: Any = "cpu", consent: Any = None, *, setting: Any = None) -> Any:
        find_weights(source, weights, consent)
        return registered("pooling").load()

    card = EncoderCard("remote", "Remote", "From a hub.", weights_licence="MIT")
    monkeypatch.setitem(registry._registry, "remote", registry.Registered(card, load, source))
    yield server
    server.close()


def choose(panel: Any, driver: Any, name: str) -> None:
    panel.parameters.encoder = name
    driver.settle()
    panel.refresh()
    driver.settle()


def test_a_download_shows_how_far_it_is_and_is_cancelled_and_goes_on(
    coralbay: Any, panel: Any, driver: Any, hub: Any, tmp_path: Path
) -> None:
    from Testing.lib.encoders.local_hub import CONTENT

    choose(panel, driver, "remote")
    assert panel.ui.weightsLabel.text == "Weights: not on this computer; you will be asked before they are downloaded."
    top = coralbay.panel.ui
    hub.gate = threading.Event()
    host.dialogs.answer(True)
    with EventLoopMonitor() as monitor:
        mouse.press(panel.ui.computeButton)
        host.wait_for(lambda: top.progressBar.value == 50)
        assert top.activityLabel.text.startswith("Downloading the weights of remote: 0.5 MB of 1.0 MB")
        mouse.press(top.cancelButton)
        driver.settle(5)
    print(f"\nevent loop blocked for at most {1000 * monitor.longest_s:.0f} ms")
    assert monitor.longest_s < 1
    assert host.dialogs.texts("error") == []
    (part,) = (tmp_path / "cache" / "weights" / "remote").glob("*.part")
    assert part.stat().st_size == len(CONTENT) // 2
    assert panel.ui.weightsLabel.text == "Weights: 0.5 MB of an unfinished download are here."
    hub.gate.set()
    hub.gate = None
    host.dialogs.answer(True)
    mouse.press(panel.ui.computeButton)
    driver.settle()
    assert "0.5 MB of it are here already" in host.dialogs.texts("confirm")[-1]
    assert "ready" in panel.ui.statusLabel.text
    assert hub.gets()[-1].range == f"bytes={len(CONTENT) // 2}-"
    assert panel.ui.weightsLabel.text == "Weights: on this computer (1.0 MB)."


def test_weights_are_deleted_after_asking(panel: Any, driver: Any, hub: Any, tmp_path: Path) -> None:
    from CoralBayLib.encoders.weights.manage import fetch

    fetch("remote", consent=True)
    choose(panel, driver, "remote")
    file = tmp_path / "cache" / "weights" / "remote" / "model.safetensors"
    host.dialogs.answer(False)
    mouse.press(panel.ui.deleteWeightsButton)
    driver.settle()
    assert file.exists()
    host.dialogs.answer(True)
    mouse.press(panel.ui.deleteWeightsButton)
    driver.settle()
    assert not file.exists()
    assert "Delete the weights of 'remote' from this computer (1.0 MB)?" in host.dialogs.texts("confirm")[-1]
    assert host.dialogs.texts("info") == ["Weights deleted; 1.0 MB freed."]
    assert "not on this computer" in panel.ui.weightsLabel.text
    mouse.press(panel.ui.deleteWeightsButton)
    driver.settle()
    assert "no weights of this encoder that could be deleted" in host.dialogs.texts("info")[-1]


def test_a_bundle_is_imported_and_a_foreign_one_refused(panel: Any, driver: Any, hub: Any, tmp_path: Path) -> None:
    from CoralBayLib.encoders.weights.bundle import export_bundle
    from CoralBayLib.encoders.weights.manage import delete, fetch

    fetch("remote", consent=True)
    export_bundle(tmp_path / "weights.zip", ["remote"])
    delete("remote")
    choose(panel, driver, "remote")
    host.dialogs.answer(str(tmp_path / "weights.zip"))
    mouse.press(panel.ui.importWeightsButton)
    driver.settle()
    assert host.dialogs.texts("info") == ["Weights imported: remote"]
    assert panel.ui.weightsLabel.text == "Weights: on this computer (1.0 MB)."
    (tmp_path / "other.zip").write_bytes(b"something else")
    host.dialogs.answer(str(tmp_path / "other.zip"))
    mouse.press(panel.ui.importWeightsButton)
    driver.settle()
    assert "other.zip is damaged or no bundle of weights" in host.dialogs.texts("error")[0]


def test_other_weights_are_used_from_the_next_computation_on(
    coralbay: Any, panel: Any, driver: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from CoralBayLib.encoders import EncoderCard, registered, registry
    from CoralBayLib.encoders.weights import sha256_of

    def load(weights: Any = None, device: Any = "cpu", consent: Any = None, *, setting: Any = None) -> Any:
        encoder = registered("pooling").load()
        encoder.weights_sha256 = sha256_of(weights)
        return encoder

    monkeypatch.setitem(registry._registry, "filed", registry.Registered(EncoderCard("filed", "", ""), load))
    first, second = tmp_path / "first.pt", tmp_path / "second.pt"
    first.write_bytes(b"first")
    second.write_bytes(b"second")
    panel.parameters.encoder = "filed"
    driver.settle()

    def compute() -> None:
        assert "Not computed" in panel.ui.statusLabel.text
        mouse.press(panel.ui.computeButton)
        driver.settle()
        used = coralbay.logic.features.at_hand(panel.volume).identity["weights"]
        assert used == sha256_of(panel.ui.weightsPath.currentPath)

    for file in (first, second):
        panel.ui.weightsPath.currentPath = str(file)
        driver.settle()
        compute()
    second.write_bytes(b"downloaded again")
    panel.refresh()
    driver.settle()
    compute()
    # Those of the first file are in the store.
    panel.ui.weightsPath.currentPath = str(first)
    driver.settle()
    assert "ready" in panel.ui.statusLabel.text


def test_imported_weights_are_used_from_the_next_computation_on(
    coralbay: Any, panel: Any, driver: Any, hub: Any, tmp_path: Path
) -> None:
    from CoralBayLib.encoders.weights.bundle import export_bundle
    from CoralBayLib.encoders.weights.manage import fetch

    fetch("remote", consent=True)
    export_bundle(tmp_path / "weights.zip", ["remote"])
    choose(panel, driver, "remote")
    mouse.press(panel.ui.computeButton)
    driver.settle()
    session = coralbay.logic.features.session
    before = session._encoder
    host.dialogs.answer(str(tmp_path / "weights.zip"))
    mouse.press(panel.ui.importWeightsButton)
    driver.settle()
    assert session._encoder is not before
    assert "ready" in panel.ui.statusLabel.text


def test_an_encoder_from_a_file_is_asked_about_used_remembered_and_forgotten(
    coralbay: Any, panel: Any, driver: Any, tmp_path: Path
) -> None:
    file = tmp_path / "my_encoder.py"
    file.write_bytes(EXAMPLE.read_bytes())
    ui = panel.ui
    assert not ui.forgetEncoderButton.enabled
    # Chosen, but not agreed to.
    host.dialogs.answer(str(file), False)
    mouse.press(ui.addEncoderButton)
    driver.settle()
    assert ui.encoderSelector.findData("my-encoder") < 0
    host.dialogs.answer(str(file), True)
    mouse.press(ui.addEncoderButton)
    driver.settle()
    assert "An encoder file is a program" in host.dialogs.texts("confirm")[-1]
    assert panel.parameters.encoder == "my-encoder"
    assert ui.encoderSelector.currentText == "Texture at three scales"
    assert "nothing is learnt" in ui.encoderLabel.text
    mouse.press(ui.computeButton)
    driver.settle()
    assert "ready" in ui.statusLabel.text
    assert coralbay.logic.features.at_hand(panel.volume).identity["encoder"] == "my-encoder"
    # Another day.
    host.unload_module("CoralBaySlicer")
    again = host.load_module(MODULE)
    selector = again.panel.scan.ui.encoderSelector
    assert selector.itemText(selector.findData("my-encoder")) == "Texture at three scales"
    again.panel.parameters.encoder = "my-encoder"
    again.panel.scan.ui.advancedBox.collapsed = False
    host.process_events(0.05)
    mouse.press(again.panel.scan.ui.forgetEncoderButton)
    assert selector.findData("my-encoder") < 0
    assert again.panel.parameters.encoder == "coralbay"
    assert file.exists()


def test_an_encoder_whose_file_is_gone_is_named_and_can_be_forgotten(panel: Any, driver: Any, tmp_path: Path) -> None:
    from CoralBayLib.encoders import own, registry

    file = tmp_path / "my_encoder.py"
    file.write_bytes(EXAMPLE.read_bytes())
    host.dialogs.answer(str(file), True)
    mouse.press(panel.ui.addEncoderButton)
    driver.settle()
    # Another day.
    registry.unregister("my-encoder")
    host.unload_module("CoralBaySlicer")
    file.unlink()
    own._files.clear()
    again = host.load_module(MODULE).panel.scan
    again.ui.advancedBox.collapsed = False
    host.wait_for(lambda: not again.logic.worker.busy)
    selector = again.ui.encoderSelector
    assert again.parameters.encoder == "my-encoder"
    assert selector.currentText == "Texture at three scales (file missing)"
    assert str(file) in again.ui.encoderLabel.text
    mouse.press(again.ui.computeButton)
    host.wait_for(lambda: not again.logic.worker.busy)
    assert f"is missing: {file}. Put it back" in host.dialogs.texts("error")[0]
    mouse.press(again.ui.forgetEncoderButton)
    assert selector.findData("my-encoder") < 0
    assert "missing" not in again.ui.encoderLabel.text


def test_a_file_that_has_changed_is_not_run(panel: Any, driver: Any, tmp_path: Path) -> None:
    file, ran = tmp_path / "my_encoder.py", tmp_path / "ran"
    file.write_bytes(EXAMPLE.read_bytes())
    host.dialogs.answer(str(file), True)
    mouse.press(panel.ui.addEncoderButton)
    driver.settle()
    file.write_text(f"open({str(ran)!r}, 'w').close()\n" + EXAMPLE.read_text())
    mouse.press(panel.ui.computeButton)
    driver.settle()
    assert not ran.exists()
    assert host.dialogs.texts("error") == []
    # What had been loaded and stored before is still good; a new session is not given the changed file.
    panel.logic.features.forget()
    panel.logic.features.session._choice = None
    panel.refresh()
    mouse.press(panel.ui.computeButton)
    driver.settle()
    assert not ran.exists()
    assert "has changed since you agreed to run it" in host.dialogs.texts("error")[0]


def test_a_bad_encoder_file_is_told(panel: Any, driver: Any, tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text("1 / 0\n")
    host.dialogs.answer(str(file), True)
    mouse.press(panel.ui.addEncoderButton)
    driver.settle()
    assert "'broken.py' raised ZeroDivisionError in line 1" in host.dialogs.texts("error")[0]
    assert panel.parameters.encoder == "pooling"


def test_encoders_of_installed_packages_join_the_menu(panel: Any, driver: Any) -> None:
    from CoralBayLib.encoders import EncoderCard, register_encoder, registered

    register_encoder(EncoderCard("packaged", "From a package", "Pip brought it."))(lambda **_: registered("pooling").load())
    choose(panel, driver, "astra")
    place = panel.ui.encoderSelector.findData("packaged")
    assert panel.ui.encoderSelector.itemText(place) == "From a package"
