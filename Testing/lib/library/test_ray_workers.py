"""On a cluster the library becomes the same as without, and a lost worker's scans are done by another."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

import CoralBayLib as cb
from CoralBayLib.core.errors import Cancelled, EncoderError, LibraryError
from CoralBayLib.library import Library
from Testing.lib.conftest import PoolingEncoder

from .test_crashes import contents, whole

pytestmark = pytest.mark.slow

pytest.importorskip("lancedb", reason="a library of scans needs LanceDB")
ray = pytest.importorskip("ray", reason="the optional package Ray is not installed")

from CoralBayLib.library import ray_workers  # noqa: E402 - after it is known that it can be used
from CoralBayLib.library.ray_workers import RayWorkers  # noqa: E402


class Dying(PoolingEncoder):
    """Has its process killed while it embeds, as marks in a folder say.

    Args:
        marks: a folder; each file in it kills one process at the second scan or later that any process embeds; a folder
            in it kills all that embed the one larger scan.
    """

    def __init__(self, marks: str) -> None:
        super().__init__(strides=(4, 8), spacing_mm=(2.5, 2.5, 2.5))
        self.marks = Path(marks)

    def forward_features(self, x, names):
        begun = self.marks.with_name("begun")
        begun.mkdir(exist_ok=True)
        for mark in self.marks.iterdir():
            if mark.is_dir() and x.shape[-1] > 40:
                os.kill(os.getpid(), signal.SIGKILL)
            if mark.is_file() and any(begun.iterdir()):
                # Of two processes at this place only one can remove it.
                with suppress(FileNotFoundError):
                    mark.unlink()
                    os.kill(os.getpid(), signal.SIGKILL)
        (begun / uuid4().hex).write_text("")
        return super().forward_features(x, names)


class OtherWeights(Dying):
    weights_sha256 = "1" * 64


def running(processes, timeout):
    """Those that still run after so many seconds. A process that has ended stays listed where nobody waits for it."""

    def runs(process):
        with suppress(psutil.NoSuchProcess):
            return process.status() != psutil.STATUS_ZOMBIE
        return False

    end = time.monotonic() + timeout
    while (left := [each for each in processes if runs(each)]) and time.monotonic() < end:
        time.sleep(0.1)
    return left


@pytest.fixture(scope="module")
def cluster():
    """Two workers on this machine, patient with a busy one; no process of theirs is left behind."""
    # Sockets lie in it, whose paths may not be long.
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp" if Path("/tmp").is_dir() else None)
    others = set(psutil.Process().children(recursive=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_register_timeout_seconds", "300")
        # Ray kills workers when other programs have taken the memory.
        patch.setenv("RAY_memory_monitor_refresh_ms", "0")
        try:
            ray.init(
                address="local",
                num_cpus=2,
                include_dashboard=False,
                log_to_driver=False,
                object_store_memory=80 << 20,
                _node_ip_address="127.0.0.1",
                _temp_dir=folder,
            )
            yield
        finally:
            # Workers are children of theirs.
            started = set(psutil.Process().children(recursive=True)) - others
            ray.shutdown()
            left = running(started, timeout=120)
            for process in left:
                process.kill()
            shutil.rmtree(folder, ignore_errors=True)
    assert not left, "processes of the cluster outlived it"


@pytest.fixture
def marks(tmp_path):
    (tmp_path / "marks").mkdir()
    return tmp_path / "marks"


@pytest.fixture
def workers(cluster, marks, monkeypatch):
    # A worker that is lost costs seconds, since another has to start.
    monkeypatch.setattr(ray_workers, "RETRIES", 1)
    return RayWorkers(partial(Dying, str(marks)))


def test_no_cluster_at_the_address():
    """The first of these tests, since Ray does not look at an address while it has a cluster."""
    assert not ray.is_initialized()
    with pytest.raises(LibraryError, match="Check its address"):
        RayWorkers(PoolingEncoder, "127.0.0.1:1")


def test_the_same_as_in_one_process(library, scans, encoder, workers, marks, tmp_path):
    (marks / "once").write_text("")
    (scans / "broken.nrrd").write_text("nonsense")
    states = [outcome.state for outcome in library.add(scans, encoder, workers=workers)]
    assert not list(marks.iterdir()), "no worker was killed"
    assert sorted(states) == ["added"] * 3 + ["left out"]
    straight = Library(tmp_path / "straight")
    straight.add(scans, encoder)
    assert contents(library) == contents(straight)
    name = "pooling.basis.safetensors"
    assert library.storage.read_file(name) == straight.storage.read_file(name) is not None
    assert {o.state for o in library.add(scans, encoder, workers=workers)} == {"known", "left out"}


def test_a_scan_that_takes_every_worker_down_is_left_out(library, scans, encoder, workers, marks, make_grid, make_phantom):
    (marks / "for ever").mkdir()
    cb.write_volume(make_phantom(make_grid(extent_mm=130.0), radius_mm=60.0), scans / "d.nrrd")
    outcomes = {Path(outcome.path).name: outcome for outcome in library.add(scans, encoder, workers=workers)}
    assert outcomes["d.nrrd"].state == "left out"
    assert "2 times" in outcomes["d.nrrd"].detail
    assert whole(library, 3)


def test_other_weights_on_the_cluster_are_refused(library, scans, encoder, cluster, marks):
    with pytest.raises(EncoderError, match="weights"):
        library.add(scans / "a.nrrd", encoder)
        library.add(scans, encoder, workers=RayWorkers(partial(OtherWeights, str(marks))))
    assert whole(library, 1)


def test_cancel(library, scans, encoder, workers):
    cancel = cb.CancelToken()

    def progress(fraction, message):
        if message.startswith("Scan 1"):
            cancel.cancel()

    with pytest.raises(Cancelled):
        library.add(scans, encoder, progress, cancel, workers=workers)
    assert library.scans() == []
