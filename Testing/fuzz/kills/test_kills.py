"""A few kills; `make kills` does more of them. What is checked holds at every moment, so no clock matters."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from .harness import Bench, Ended, Kill, _ending_faults
from .inputs import make_inputs
from .verbs import Verb, make_verbs

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kills")
    make_inputs(folder / "inputs", scans=3, bundle_bytes=1 << 20)
    return folder


@pytest.mark.parametrize(
    ("name", "moments"),
    [
        ("segment", {signal.SIGKILL: 0.95, signal.SIGTERM: 0.4}),
        ("library add", {signal.SIGKILL: 0.8, signal.SIGINT: 0.7}),
        ("weights import", {signal.SIGKILL: 0.9}),
    ],
)
def test_kills_leave_nothing_behind(folder: Path, name: str, moments: dict[signal.Signals, float]) -> None:
    work = folder / "work" / "user"
    (verb,) = (verb for verb in make_verbs(folder / "inputs", work) if verb.name == name)
    if name == "library add":
        pytest.importorskip("lancedb", reason="a library of scans needs LanceDB")
    bench = Bench(verb, work, measured=False)
    kills = [bench.kill(number, bench.seconds * share) for number, share in moments.items()]
    assert [fault for kill in kills for fault in kill.faults] == []


def test_what_is_wrong_is_found(tmp_path: Path) -> None:
    """The checks of the harness themselves, on states made by hand."""
    bench = Bench.__new__(Bench)
    bench.verb = Verb("x", (), (), lambda _folder: {}, replaced=("old",))
    bench._before, bench._after = {"old": 1, "kept": 2}, {"old": 3, "kept": 2, "new": 4}
    assert bench._state_faults({"old": 1, "kept": 2}, complete=False) == []
    assert bench._state_faults({"old": 3, "kept": 2, "new": 4}, complete=True) == []
    assert bench._state_faults({"old": 5, "new": 6}, complete=False) == [
        "old, which was finished before, is changed",
        "kept, which was finished before, is lost",
        "new is not what an undisturbed run makes",
    ]
    assert bench._state_faults({"old": 3, "kept": 2}, complete=True) == ["new is missing"]
    line = "coralbay: interrupted; no incomplete file was left behind."
    assert _ending_faults(Ended(130, f"\n{line}\n", 1.0), signal.SIGINT) == []
    assert len(_ending_faults(Ended(-2, "Traceback ...", 1.0), signal.SIGINT)) == 3
    assert len(_ending_faults(Ended(143, f"{line}\nmore", 1.0), signal.SIGTERM)) == 1
    assert Kill("x", signal.SIGINT, 0.0).faults == []
