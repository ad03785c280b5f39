"""Downloads: resumed where they stopped, cancelled, through proxies and mirrors, and full disks."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest

from CoralBayLib.core.errors import Cancelled, StoreError, WeightsError
from CoralBayLib.core.progress import CancelToken
from CoralBayLib.encoders import EncoderCard, load_encoder, registry
from CoralBayLib.encoders.weights import cache, download, find_weights
from CoralBayLib.encoders.weights import hub as hub_client
from Testing.lib.encoders.conftest import new_session
from Testing.lib.encoders.local_hub import CONTENT, SHA256, SOURCE, LocalHub, path_of

ROOT = Path(__file__).parents[4]
HALF = len(CONTENT) // 2
CHUNK = 2**16
"""What the last piece may lack when the connection breaks, with a hub client before 1.0."""


@pytest.fixture
def part():
    """Where an unfinished download is kept."""
    cache.make_folder("coralbay")
    return cache.partial("coralbay", SHA256)


def start_of(request):
    return int(request.range.removeprefix("bytes=").removesuffix("-"))


def test_a_connection_that_breaks_is_taken_up_again_where_it_broke(hub, part):
    hub.cuts = [300_000, 0, 200_000]
    assert find_weights(SOURCE, consent=True).path.read_bytes() == CONTENT
    first, *others = hub.gets()
    assert first.range is None
    again, fruitless, last = (start_of(request) for request in others)
    assert 0 <= 300_000 - again < CHUNK
    assert fruitless == again
    assert 0 <= again + 200_000 - last < CHUNK
    assert not part.exists()


def test_what_came_is_kept_when_the_hub_stays_away_and_the_next_try_goes_on(hub, part):
    hub.cuts = [300_000] + [0] * 5
    with pytest.raises(
        WeightsError, match=r"the download failed .*0\.3 MB were received and are kept, so try again to continue"
    ):
        find_weights(SOURCE, consent=True)
    came = part.stat().st_size
    assert 0 <= 300_000 - came < CHUNK
    assert part.read_bytes() == CONTENT[:came]
    hub.cuts.clear()
    asked = []
    assert find_weights(SOURCE, consent=lambda request: not asked.append(request)).path.read_bytes() == CONTENT
    assert start_of(hub.gets()[-1]) == came
    assert "0.3 MB are downloaded already" in asked[0].size


def test_cancelling_in_the_middle_is_prompt_and_loses_nothing(hub, part):
    hub.gate = threading.Event()
    cancel = CancelToken()

    def progress(fraction, message):
        if fraction >= 0.5:
            cancel.cancel()

    with pytest.raises(Cancelled):
        find_weights(SOURCE, consent=True, progress=progress, cancel=cancel)
    assert not hub.gate.is_set()
    assert part.read_bytes() == CONTENT[:HALF]
    # What the abandoned connection still brings is not written.
    hub.gate.set()
    hub.gate = None
    assert find_weights(SOURCE, consent=True).path.read_bytes() == CONTENT
    assert start_of(hub.gets()[-1]) == HALF


def test_cancelling_while_the_hub_does_not_answer_is_prompt(monkeypatch):
    import socket

    cancel = CancelToken()
    cancel.cancel()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(Cancelled):
            find_weights(SOURCE, consent=True, cancel=cancel, timeout_s=1000)


def test_progress_tells_bytes_and_total(hub):
    told = []
    hub.gate = threading.Event()

    def progress(fraction, message):
        told.append((fraction, message))
        if fraction >= 0.5:
            hub.gate.set()

    find_weights(SOURCE, consent=True, progress=progress)
    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions)
    assert any(f == 0.5 and m.startswith("Downloading the weights of coralbay: 0.5 MB of 1.0 MB") for f, m in told)
    assert told[-1] == (1.0, "Checking the weights of coralbay")


def test_time_left_follows_from_the_speed_of_this_try():
    assert download.time_left(0, 100, 10) is None
    assert download.time_left(50, 100, 0.5) is None
    assert download.time_left(50, 100, 10) == 20
    assert download.format_progress("Weights", 5 * 10**7, 10**8, 20.4) == "Weights: 50 MB of 100 MB, about 20 s left"
    assert download.format_progress("Weights", 5 * 10**7, 10**8, 300) == "Weights: 50 MB of 100 MB, about 5 min left"
    assert download.format_progress("Weights", 5 * 10**7, None, None) == "Weights: 50 MB"


def test_a_hub_that_ignores_ranges_is_heard_from_the_start(hub, part):
    part.write_bytes(CONTENT[:HALF])
    hub.ranges = False
    assert find_weights(SOURCE, consent=True).path.read_bytes() == CONTENT


@pytest.mark.parametrize("left", [CONTENT, CONTENT + b"more"])
@pytest.mark.parametrize("size", [None, 2 * len(CONTENT)])
def test_a_part_as_long_as_the_file_or_longer_is_begun_anew(hub, part, left, size):
    """Where the announced size does not tell, the hub refuses the range."""
    part.write_bytes(left)
    hub.size = size
    if size is None:
        assert find_weights(SOURCE, consent=True).path.read_bytes() == CONTENT
        assert [request.range for request in hub.gets()] == [f"bytes={len(left)}-", None]
    else:
        with pytest.raises(WeightsError, match="the download failed"):
            find_weights(SOURCE, consent=True)
        assert len(hub.gets()) <= 2 * download._ATTEMPTS
        assert part.read_bytes() in (b"", CONTENT)


def test_another_part_than_the_one_asked_for_is_not_written(hub, part):
    part.write_bytes(CONTENT[:HALF])
    hub.shifted = 5
    assert find_weights(SOURCE, consent=True).path.read_bytes() == CONTENT
    assert [request.range for request in hub.gets()] == [f"bytes={HALF}-", None]


def test_a_wrong_end_of_a_resumed_download_is_dropped_and_the_next_try_starts_clean(hub, part):
    part.write_bytes(b"damaged" * 1000)
    hub.announced = SHA256
    hub.cuts = [HALF, 0, 0, 0, 0, 0]
    with pytest.raises(WeightsError, match="were received and are kept"):
        find_weights(SOURCE, consent=True)
    hub.cuts.clear()
    assert find_weights(SOURCE, consent=True).path.read_bytes() == CONTENT


@pytest.mark.parametrize("left", [b"damaged" * 1000, CONTENT + b"more", bytes(len(CONTENT))])
def test_a_damaged_beginning_does_not_spoil_the_download(hub, part, left):
    part.write_bytes(left)
    assert find_weights(SOURCE, consent=True).path.read_bytes() == CONTENT


def test_more_than_announced_is_not_kept(hub, part):
    hub.size = HALF
    with pytest.raises(WeightsError, match=f"more bytes were received than the announced {HALF}"):
        find_weights(SOURCE, consent=True)
    assert part.stat().st_size == 0


@pytest.mark.parametrize(("status", "tries"), [(403, 1), (404, 1), (503, 5), (429, 5)])
def test_what_may_pass_is_tried_again_and_a_no_is_not(hub, status, tries):
    hub.status = status
    with pytest.raises(WeightsError, match="the download failed"):
        find_weights(SOURCE, consent=True)
    assert len(hub.gets()) == tries


def test_a_full_disk_is_told_before_anything_comes(hub, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 10**6 - 1000, 1000))
    with pytest.raises(WeightsError, match=r"too full: the download needs 1\.0 MB .* 0\.0 MB free.*CORALBAY_CACHE"):
        find_weights(SOURCE, consent=True)
    assert hub.gets() == []


def test_only_what_is_missing_must_fit_on_the_disk(hub, part, monkeypatch):
    part.write_bytes(CONTENT[:HALF])
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**7, 0, HALF))
    assert find_weights(SOURCE, consent=True).path.read_bytes() == CONTENT


def test_a_disk_that_fills_up_is_told_and_what_came_is_kept(hub, part, monkeypatch):
    real = Path.open

    class SmallDisk:
        """A file on a disk with room for half of it."""

        def __init__(self, path, *args, **kwargs):
            self.file = real(path, *args, **kwargs)

        def write(self, data):
            if self.file.tell() + len(data) > HALF:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(data)

        def __getattr__(self, name):
            return getattr(self.file, name)

    monkeypatch.setattr(Path, "open", lambda path, mode="r", **k: (SmallDisk if mode == "ab" else real)(path, mode, **k))
    with pytest.raises(
        WeightsError, match=r"The disk is full.* were received and are kept\. 0\.\d MB more are needed.*CORALBAY_CACHE"
    ):
        find_weights(SOURCE, consent=True)
    assert len(hub.gets()) == 1
    assert 0 < part.stat().st_size <= HALF
    assert part.read_bytes() == CONTENT[: part.stat().st_size]
    monkeypatch.undo()


def test_two_downloads_of_the_same_file_do_not_mix(hub, part):
    with cache.locked("coralbay"):
        with pytest.raises(WeightsError, match="Another CoralBay .* is downloading or changing the weights of 'coralbay'"):
            find_weights(SOURCE, consent=True)
        with pytest.raises(WeightsError, match="Another CoralBay"):
            cache.clear(SOURCE)
    assert hub.gets() == []


@pytest.mark.slow
def test_two_processes_that_download_the_same_file_both_end_with_it(hub, tmp_path):
    """One of them may be told to wait; neither spoils the other's file."""
    code = """if True:
        import sys, time
        from CoralBayLib.encoders.weights import find_weights
        from CoralBayLib.core.errors import WeightsError
        from Testing.lib.encoders.local_hub import CONTENT, SOURCE
        for attempt in range(200):
            try:
                assert find_weights(SOURCE, consent=True).path.read_bytes() == CONTENT
            except WeightsError as error:
                assert "Another CoralBay" in str(error), error
                time.sleep(0.05)
            else:
                break
        else:
            sys.exit("waited in vain")
    """
    begun = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}) for _ in range(3)
    ]
    assert [process.wait(120) for process in begun] == [0, 0, 0]
    assert len([request for request in hub.gets() if path_of(request).endswith(SOURCE.filename)]) == 1
    names = {path.name for path in (tmp_path / "cache" / "weights" / "coralbay").iterdir()}
    assert names - {".lock"} == {"model.safetensors", "weights.json"}


def test_who_comes_second_takes_what_the_first_has_brought(hub, part, monkeypatch):
    """The first ends between the second's look at the folder and its download."""
    ask = hub_client.ask

    def slow(source, timeout_s, cancel=None):
        answer = ask(source, timeout_s, cancel)
        monkeypatch.setattr(hub_client, "ask", ask)
        find_weights(SOURCE, consent=True)
        return answer

    monkeypatch.setattr(hub_client, "ask", slow)
    assert find_weights(SOURCE, consent=True).path.read_bytes() == CONTENT
    assert len(hub.gets()) == 1


def test_a_file_in_our_folder_is_replaced_and_nothing_else_there_is_touched(hub, part):
    place = part.parent
    older = replace(SOURCE, revision="b" * 40, filename="older.safetensors")
    (place / "temporary").write_bytes(b"older")
    cache.install(cache.Record.of(older, place / "temporary"), place / "temporary")
    (place / "mine.txt").write_text("notes of the user's")
    cache.partial("coralbay", "c" * 64).write_bytes(b"of a file that was published before")
    find_weights(SOURCE, consent=True)
    names = {path.name for path in place.iterdir()}
    assert names - {".lock"} == {"model.safetensors", "weights.json", "mine.txt"}
    (place / f"{cache.STAGED}1").write_bytes(b"left by an import that was killed")
    (place / "weights.json").write_text("damaged")
    assert cache.clear(SOURCE) > len(CONTENT)
    assert {path.name for path in place.iterdir()} - {".lock"} == {"mine.txt"}


def test_an_earlier_file_outlives_a_disk_that_is_full_at_the_last_moment(hub, part, monkeypatch):
    earlier = find_weights(SOURCE, consent=True).path
    place = earlier.parent
    (place / "new").write_bytes(b"new")
    record = cache.Record.of(SOURCE, place / "new")

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("write_text", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(Path if name == "write_text" else os, name, full)
            with pytest.raises(StoreError, match="No space left.*MB free"):
                cache.install(record, place / "new")
        assert find_weights(SOURCE).path.read_bytes() == CONTENT


def test_a_folder_that_cannot_be_made_is_told(hub, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CORALBAY_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(WeightsError, match=r"Cannot create the folder .*CORALBAY_CACHE"):
        find_weights(SOURCE, consent=True)


def test_the_token_goes_to_the_hub_and_not_beyond_it(hub, monkeypatch):
    store = LocalHub()
    try:
        hub.token = "secret"
        hub.moved_to = f"{store.address.replace('127.0.0.1', 'localhost')}/signed"
        with pytest.raises(WeightsError, match="401"):
            find_weights(SOURCE, consent=True)
        monkeypatch.setenv("HF_TOKEN", "secret")
        assert find_weights(SOURCE, consent=True).path.read_bytes() == CONTENT
        assert [request.token for request in store.gets()] == [None]
        assert hub.gets()[-1].token == "Bearer secret"
    finally:
        store.close()


def test_a_proxy_is_used(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.example")
    monkeypatch.setenv("HTTP_PROXY", hub.address)
    new_session()
    assert find_weights(SOURCE, consent=True).path.read_bytes() == CONTENT
    assert all(request.path.startswith("http://hub.example/") for request in hub.asked)
    assert path_of(hub.asked[0]) == f"/some/model/resolve/{'a' * 40}/model.safetensors"


def test_a_proxy_for_https_is_used_and_its_failure_told(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example")
    monkeypatch.setenv("HTTPS_PROXY", hub.address)
    new_session()
    with pytest.raises(WeightsError, match=r"https://hub\.example: no usable answer \(ProxyError"):
        find_weights(SOURCE, consent=True)
    assert hub.asked[0].method == "CONNECT"
    assert hub.asked[0].path == "hub.example:443"


def test_loading_an_encoder_fetches_its_weights_with_progress(hub, monkeypatch, pooling):
    given = {}

    def load(weights=None, device="cpu", consent=None, *, setting=None):
        given.update(consent=consent, path=find_weights(SOURCE, weights, consent).path)
        return pooling()

    monkeypatch.setitem(registry._registry, "asking", registry.EncoderEntry(EncoderCard("asking", "", ""), load, SOURCE))
    told = []
    load_encoder("asking", device="cpu", consent=True, progress=lambda fraction, message: told.append(message))
    assert given["path"].read_bytes() == CONTENT
    assert given["consent"] is None
    assert any("MB of 1.0 MB" in message for message in told)
