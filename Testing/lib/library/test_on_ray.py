"""On a cluster the library becomes the same as without, and a lost worker's scans are done by another."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

import CoralBayLib as cb
from CoralBayLib.errors import Cancelled, EncoderError, LibraryError
from CoralBayLib.library import Library
from Testing.lib.conftest import PoolingEncoder

from .test_crashes import contents, whole

pytest.importorskip("lancedb", reason="a library of scans needs LanceDB")
ray = pytest.importorskip("ray", reason="the optional package Ray is not installed")

from CoralBayLib.library.on_ray import OnRay  # noqa: E402 - after it is known that it can be used


class Dying(PoolingEncoder):
    """Takes its process down while there are marks left to use up; a mark of no end is a folder."""

    def __init__(self, marks: str) -> None:
        super().__init__(strides=(4, 8), spacing_mm=(2.5, 2.5, 2.5))
        self.marks = Path(marks)

    def forward_features(self, x, names):
        for mark in self.marks.iterdir():
            if mark.is_dir() and x.shape[-1] > 40:  # the one larger scan
                os._exit(1)
            if mark.is_file():
                mark.unlink()
                os._exit(1)
        return super().forward_features(x, names)


class OtherWeights(Dying):
    weights_sha256 = "1" * 64


@pytest.fixture(scope="module")
def cluster():
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[3])
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


@pytest.fixture
def marks(tmp_path):
    (tmp_path / "marks").mkdir()
    return tmp_path / "marks"


@pytest.fixture
def workers(cluster, marks):
    return OnRay(partial(Dying, str(marks)))


def test_the_same_as_in_one_process(library, scans, encoder, workers, marks, tmp_path):
    (marks / "once").write_text("")
    (scans / "broken.nrrd").write_text("nonsense")
    states = [outcome.state for outcome in library.add(scans, encoder, workers=workers)]
    assert not list(marks.iterdir())
    assert sorted(states) == ["added"] * 3 + ["left out"]
    straight = Library(tmp_path / "straight")
    straight.add(scans, encoder)
    assert contents(library) == contents(straight)
    assert library.folder.basis_path("pooling").read_bytes() == straight.folder.basis_path("pooling").read_bytes()
    assert {o.state for o in library.add(scans, encoder, workers=workers)} == {"known", "left out"}


def test_a_scan_that_takes_every_worker_down_is_left_out(library, scans, encoder, workers, marks, make_grid, make_phantom):
    (marks / "for ever").mkdir()
    cb.write_volume(make_phantom(make_grid(extent_mm=130.0), radius_mm=60.0), scans / "d.nrrd")
    outcomes = {Path(outcome.path).name: outcome for outcome in library.add(scans, encoder, workers=workers)}
    assert outcomes["d.nrrd"].state == "left out"
    assert "4 times" in outcomes["d.nrrd"].detail
    assert whole(library, 3)


def test_other_weights_on_the_cluster_are_refused(library, scans, encoder, cluster, marks):
    with pytest.raises(EncoderError, match="weights"):
        library.add(scans / "a.nrrd", encoder)
        library.add(scans, encoder, workers=OnRay(partial(OtherWeights, str(marks))))
    assert whole(library, 1)


def test_cancel(library, scans, encoder, workers):
    cancel = cb.CancelToken()

    def progress(fraction, message):
        if message.startswith("Scan 1"):
            cancel.cancel()

    with pytest.raises(Cancelled):
        library.add(scans, encoder, progress, cancel, workers=workers)
    assert library.scans() == []


def test_no_cluster_at_the_address():
    if ray.is_initialized():
        ray.shutdown()
    with pytest.raises(LibraryError, match="Check its address"):
        OnRay(PoolingEncoder, "127.0.0.1:1")
