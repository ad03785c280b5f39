"""The script that the workflow runs inside Slicer, here on the stand-in application."""

import importlib.util
import unittest
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(coralbay: Any, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    import slicer

    spec = importlib.util.spec_from_file_location("run_self_test", ROOT / "Testing" / "in_slicer" / "run_self_test.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(slicer.util, "exit", lambda status: statuses.append(status))
    statuses: list[int] = []
    module.statuses = statuses
    return module


class Passing(unittest.TestCase):
    __test__ = False  # not for pytest to collect

    def test_it(self) -> None:
        pass


class Failing(unittest.TestCase):
    __test__ = False  # not for pytest to collect

    def test_it(self) -> None:
        self.fail("the liver is not where it should be")


def replace_test(monkeypatch: pytest.MonkeyPatch, test: type) -> None:
    import CoralBaySlicer

    monkeypatch.setattr(CoralBaySlicer, "CoralBaySlicerTest", test)


def test_a_test_that_passes_ends_slicer_with_0(script: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    replace_test(monkeypatch, Passing)
    script.main(["--result", str(tmp_path / "result.txt")])
    assert script.statuses == [0]
    first, *rest = (tmp_path / "result.txt").read_text(encoding="utf-8").splitlines()
    assert first == "passed"
    assert any("test_it" in line for line in rest)


def test_an_overlay_is_shown_when_slicer_ends(script: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is hidden while other modules are gone already; with --testing, an error then is the exit status of Slicer."""
    import host
    import slicer

    replace_test(monkeypatch, Passing)
    script.main(["--result", str(tmp_path / "result.txt")])
    overlays = slicer.modules.CoralBaySlicerWidget.logic.overlays
    assert overlays.shown == "probability"
    host.quit_application()
    assert overlays.shown is None and host.unhandled == []
    host.load_module(ROOT / "CoralBaySlicer" / "CoralBaySlicer.py")


def test_a_test_that_fails_ends_slicer_with_1(script: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    replace_test(monkeypatch, Failing)
    script.main(["--result", str(tmp_path / "result.txt")])
    assert script.statuses == [1]
    text = (tmp_path / "result.txt").read_text(encoding="utf-8")
    assert text.startswith("failed\n")
    assert "the liver is not where it should be" in text


def test_packages_that_are_missing_are_a_failure(script: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from CoralBaySlicerCore.setup import packages

    monkeypatch.setattr(packages, "missing", lambda *_extras: ["torch>=2.3"])
    replace_test(monkeypatch, Passing)
    script.main(["--result", str(tmp_path / "result.txt")])
    assert script.statuses == [1]
    assert "torch>=2.3" in (tmp_path / "result.txt").read_text(encoding="utf-8")


def test_without_packages_only_the_panel_is_opened(script: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    replace_test(monkeypatch, Failing)
    script.main(["--result", str(tmp_path / "result.txt"), "--without-packages"])
    assert script.statuses == [0]
