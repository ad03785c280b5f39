"""Where weights are looked for, in which order, and what is said when there are none."""

from __future__ import annotations

import socket
import threading

import pytest

from CoralBayLib.core.errors import Remedy, WeightsError
from CoralBayLib.encoders.weights import DownloadRequest, WeightsSource, find_weights, sha256_of
from Testing.lib.encoders.local_hub import CONTENT, SHA256, SOURCE, put_in_cache


@pytest.fixture
def no_network(monkeypatch):
    """Whoever touches the network fails the test, even if the error is caught."""
    touched = []

    def refuse(*args, **kwargs):
        touched.append(args)
        raise OSError("the network was touched")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    yield
    assert not touched


def put_file(folder, name=SOURCE.filename):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(CONTENT)
    return folder / name


def test_the_order_is_path_environment_cache(tmp_path, cache, monkeypatch, no_network):
    given, named = put_file(tmp_path / "given"), put_file(tmp_path / "named")
    cached = put_in_cache(cache)
    assert find_weights(SOURCE).path == cached
    monkeypatch.setenv("CORALBAY_WEIGHTS", str(named))
    assert find_weights(SOURCE).path == named
    assert find_weights(SOURCE, given).path == given


def test_a_folder_stands_for_the_file_in_it(tmp_path, monkeypatch, no_network):
    file = put_file(tmp_path / "folder")
    assert find_weights(SOURCE, file.parent).path == file
    monkeypatch.setenv("CORALBAY_WEIGHTS", str(file.parent))
    found = find_weights(SOURCE)
    assert found.path == file
    assert str(tmp_path) not in found.origin


def test_a_named_file_that_is_missing_is_not_replaced_by_another(tmp_path, cache, monkeypatch, no_network):
    put_in_cache(cache)
    with pytest.raises(WeightsError, match=r"none\.safetensors' cannot be used: there is no such file") as caught:
        find_weights(SOURCE, tmp_path / "none.safetensors")
    assert caught.value.remedy is Remedy.CHOOSE_WEIGHTS_FILE
    monkeypatch.setenv("CORALBAY_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match=r"CORALBAY_WEIGHTS names .*holds no model\.safetensors"):
        find_weights(SOURCE)


def test_weights_that_nobody_may_download_come_with_advice(no_network):
    source = WeightsSource("fm-ct", "", "model.pth", "", "FMCT_WEIGHTS", "by agreement", "Write to the authors.")
    with pytest.raises(WeightsError, match=r"Write to the authors\. .*FMCT_WEIGHTS: not set.*'coralbay-mini'") as caught:
        find_weights(source, consent=lambda request: pytest.fail("asked"))
    assert caught.value.remedy is Remedy.GET_WEIGHTS


def test_a_file_in_a_folder_of_the_repository_is_found_by_its_own_name_too(tmp_path, no_network):
    source = WeightsSource("voxelfm", "", "vitb_3d/checkpoints/99999.pth", "", "VOXELFM_WEIGHTS", "Apache-2.0")
    flat = put_file(tmp_path / "flat", "99999.pth")
    assert find_weights(source, flat.parent).path == flat
    deep = put_file(tmp_path / "deep" / "vitb_3d" / "checkpoints", "99999.pth")
    assert find_weights(source, tmp_path / "deep").path == deep


def test_another_revision_in_the_cache_does_not_count(cache, no_network):
    put_in_cache(cache, revision="b" * 40)
    with pytest.raises(WeightsError, match="cache: does not hold the file"):
        find_weights(SOURCE)


def test_a_damaged_copy_in_the_cache_is_not_used(cache, no_network):
    put_in_cache(cache, content=b"damaged")
    with pytest.raises(WeightsError, match="cache: holds a damaged copy"):
        find_weights(SOURCE)


@pytest.mark.parametrize("consent", [None, False, lambda request: False])
def test_without_consent_the_network_is_not_touched(consent, no_network):
    with pytest.raises(WeightsError) as error:
        find_weights(SOURCE, consent=consent)
    message = str(error.value)
    for part in (
        "CORALBAY_WEIGHTS: not set",
        "no consent",
        f"https://huggingface.co/some/model/resolve/{'a' * 40}/model.safetensors",
        "'coralbay-mini'",
    ):
        assert part in message
    assert "weights=" in error.value.remedy.value


def test_offline_mode_is_honoured_and_nobody_asked(monkeypatch, no_network):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE is set"):
        find_weights(SOURCE, consent=lambda request: pytest.fail("asked"))


def test_with_consent_the_file_is_downloaded_and_verified(hub, tmp_path):
    asked: list[DownloadRequest] = []
    found = find_weights(SOURCE, consent=lambda request: not asked.append(request))
    assert found.path.read_bytes() == CONTENT
    assert sha256_of(found.path) == SHA256
    assert tmp_path / "cache" / "weights" / "coralbay" in found.path.parents
    assert asked[0].licence == "MIT"
    assert asked[0].source == f"{hub.address}/some/model/resolve/{'a' * 40}/model.safetensors"
    requests = len(hub.asked)
    assert find_weights(SOURCE).path == found.path
    assert len(hub.asked) == requests


def test_a_damaged_copy_is_replaced(hub, cache):
    put_in_cache(cache, content=b"damaged")
    assert find_weights(SOURCE, consent=True).path.read_bytes() == CONTENT


def test_a_file_that_is_not_the_announced_one_is_deleted(hub, tmp_path):
    hub.announced = "0" * 64
    with pytest.raises(WeightsError, match=f"SHA-256 {SHA256}, expected {'0' * 64}"):
        find_weights(SOURCE, consent=True)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() == CONTENT]


def test_a_hub_that_announces_no_sha256_is_not_trusted(hub):
    hub.announced = "abc"
    with pytest.raises(WeightsError, match="did not announce a SHA-256"):
        find_weights(SOURCE, consent=True)


def test_another_commit_is_not_accepted(hub):
    hub.commit = "b" * 40
    with pytest.raises(WeightsError, match=f"answered with revision {'b' * 40}"):
        find_weights(SOURCE, consent=True)


def test_a_hub_that_never_answers_costs_the_time_limit(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(WeightsError, match=r"127\.0\.0\.1:\d+: no usable answer .*(imeout|timed out)"):
            find_weights(SOURCE, consent=True, timeout_s=1)


def test_a_name_lookup_that_hangs_costs_the_time_limit(monkeypatch):
    free = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: free.wait(30) and [])
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    try:
        with pytest.raises(WeightsError, match="no answer within 1 s"):
            find_weights(SOURCE, consent=True, timeout_s=1)
    finally:
        free.set()


def test_a_hub_that_refuses_the_connection_is_told(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    with pytest.raises(WeightsError, match="no usable answer"):
        find_weights(SOURCE, consent=True, timeout_s=5)
