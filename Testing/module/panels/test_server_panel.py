"""Step 1: a server among the devices: its test, the question before the first scan, features from there, cancellation."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import host
import pytest
import requests
from host import mouse

from Testing.lib.serving.harness import TOKEN, Server, server

pytestmark = pytest.mark.slow
pytest.importorskip("uvicorn", reason="the developer's package ray[serve] is not installed")
trustme = pytest.importorskip("trustme", reason="the developer's package trustme is not installed")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Any]:
    """A server with the encoder of the tests, and a token."""
    from CoralBayLib.serving.settings import digest_of
    from Testing.lib.conftest import PoolingEncoder
    from Testing.lib.serving.threaded import threaded_server

    encoder = PoolingEncoder((2, 4, 8), (3.0, 3.0, 3.0))
    with threaded_server(tmp_path / "served", encoder, token_digest=digest_of(TOKEN)) as it:
        yield it


def add_server(coralbay: Any, driver: Any, url: str, token: str = TOKEN, certificates: str = "") -> Any:
    """Add a server as a user does; returns the widgets of step 1."""
    ui = coralbay.panel.scan.ui
    driver.open(coralbay.panel.scan)
    ui.deviceSelector.setCurrentIndex(ui.deviceSelector.findText("Add server..."))
    driver.settle()
    assert ui.serverBox.visible
    ui.serverAddress.setText(url)
    ui.serverToken.setText(token)
    ui.serverCertificates.setCurrentPath(certificates)
    mouse.press(ui.testServerButton)
    driver.settle()
    return ui


def test_a_server_is_tested_asked_for_used_and_removed(coralbay: Any, driver: Any, scan: Any, served: Any) -> None:
    from CoralBaySlicerCore.setup import servers, settings

    node, _place = scan()
    ui = add_server(coralbay, driver, served.url)
    assert "Connected: CPU, encoders pooling." in ui.serverLabel.text
    assert "You will be asked" in ui.serverLabel.text
    assert settings.device() == f"server:{served.url}"
    ui.volumeSelector.setCurrentNode(node)
    driver.settle()
    assert served.replica.begun == [], "nothing is sent before the question"

    host.dialogs.answer(False)
    mouse.press(ui.computeButton)
    driver.settle()
    assert served.url in host.dialogs.texts()[-1]
    assert served.replica.begun == [] and coralbay.logic.features.cached(node) is None

    host.dialogs.answer(True)
    mouse.press(ui.computeButton)
    driver.settle()
    assert coralbay.logic.features.cached(node).key == served.replica.begun[0]
    assert "You have agreed" in ui.serverLabel.text and served.url in ui.deviceLabel.text

    asked = len(host.dialogs.texts())
    other, _place = scan(name="other", seed=1)
    driver.embed(other)
    assert len(served.replica.begun) == 2 and len(host.dialogs.texts()) == asked, "the answer is remembered"

    driver.open(coralbay.panel.scan)
    mouse.press(ui.forgetServerButton)
    driver.settle()
    assert servers.remembered() == [] and settings.device() == "auto" and not ui.serverBox.visible


def test_features_of_a_server_are_those_of_this_computer(coralbay: Any, driver: Any, scan: Any, served: Any) -> None:
    from CoralBaySlicerCore.setup import settings

    node, _place = scan()
    driver.embed(node)
    add_server(coralbay, driver, served.url)
    assert coralbay.logic.features.cached(node) is not None, "another device does not change the features"
    settings.set_device("auto")


def test_a_wrong_token_is_said_and_the_server_is_not_remembered(coralbay: Any, driver: Any, served: Any) -> None:
    from CoralBaySlicerCore.setup import servers

    add_server(coralbay, driver, served.url, "another-token-than-that")
    assert "wants another token" in host.dialogs.texts()[-1]
    assert "Enter the server's token" in host.dialogs.texts()[-1]
    assert servers.remembered() == []


def test_cancel_within_a_second(coralbay: Any, driver: Any, scan: Any, served: Any) -> None:
    from CoralBaySlicerCore.setup import settings

    node, _place = scan()
    ui = add_server(coralbay, driver, served.url)
    ui.volumeSelector.setCurrentNode(node)
    driver.settle()
    served.replica.gate.clear()
    host.dialogs.answer(True)
    mouse.press(ui.computeButton)
    host.wait_for(lambda: len(served.replica.begun) == 1, 60)
    begin = time.monotonic()
    mouse.press(coralbay.panel.ui.cancelButton)
    host.wait_for(lambda: not coralbay.logic.worker.busy, 60)
    print(f"cancelled after {time.monotonic() - begin:.2f} s")
    assert coralbay.logic.features.cached(node) is None
    host.wait_for(lambda: served.replica.ended == served.replica.begun, 60)
    settings.set_device("auto")


def _counts(served: Server, authority: Path) -> str:
    """What the server counts."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return requests.get(f"{served.url}/metrics", headers=headers, verify=str(authority), timeout=60).text


def test_a_server_process_with_an_authority_of_the_hospital_and_cancel(
    coralbay: Any, driver: Any, scan: Any, tmp_path: Path
) -> None:
    """Real processes of `coralbay serve` behind TLS, driven as a user does."""
    from CoralBaySlicerCore.setup import servers, settings

    pytest.importorskip("ray.serve", reason="the developer's package ray[serve] is not installed")
    authority, folder, gate = trustme.CA(), tmp_path / "server", tmp_path / "gate"
    folder.mkdir()
    gate.touch()
    certificate, own = authority.issue_cert("127.0.0.1"), folder / "authority.pem"
    authority.cert_pem.write_to_path(own)
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "certificate.pem")
    (folder / "token").write_text(TOKEN)
    options = ["--token-file", "token", "--certificate", "certificate.pem", "--private-key", "key.pem"]
    node, _place = scan()
    with server(folder, *options, CORALBAY_TEST_WAIT_S="600", CORALBAY_TEST_GATE=str(gate)) as served:
        add_server(coralbay, driver, served.url)
        assert "cannot be trusted" in host.dialogs.texts()[-1] and servers.remembered() == []
        ui = add_server(coralbay, driver, served.url, certificates=str(own))
        assert "Connected: " in ui.serverLabel.text and servers.remembered()[0].certificates == str(own)

        ui.volumeSelector.setCurrentNode(node)
        driver.settle()
        host.dialogs.answer(True)
        mouse.press(ui.computeButton)
        host.wait_for(lambda: 'coralbay_jobs{state="running"} 1.0' in _counts(served, own), 120)
        begin = time.monotonic()
        mouse.press(coralbay.panel.ui.cancelButton)
        host.wait_for(lambda: not coralbay.logic.worker.busy, 60)
        seconds = time.monotonic() - begin
        print(f"cancelled after {seconds:.2f} s")
        assert seconds < 30, "the computation would take 600 s"
        assert coralbay.logic.features.cached(node) is None and list(served.cache.glob("*.safetensors")) == []
        host.wait_for(lambda: "coralbay_cancelled_total 1.0" in _counts(served, own), 60)
        host.wait_for(lambda: 'coralbay_jobs{state="running"} 0.0' in _counts(served, own), 60)

        gate.unlink()
        mouse.press(ui.computeButton)
        driver.settle(300)
        pyramid = coralbay.logic.features.cached(node)
        assert pyramid is not None, host.dialogs.texts()
        assert (served.cache / f"{pyramid.key}.safetensors").is_file()
    settings.set_device("auto")
