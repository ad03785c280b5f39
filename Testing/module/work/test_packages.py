"""Python packages: what is missing, what the user is asked, and what is installed how."""

import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import host
import pytest

from Testing.module.coralbay_fixtures import MODULE

pytestmark = pytest.mark.slow


def test_the_user_is_asked_before_packages_are_installed(
    coralbay: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from CoralBaySlicerCore.setup import packages

    from CoralBayLib.core.errors import CoralBayError

    lacking = ["torch>=2.3", "monai>=99"]
    monkeypatch.setattr(packages, "missing", lambda: list(lacking))
    host.dialogs.answer(False)
    with pytest.raises(CoralBayError, match="Nothing was changed"):
        packages.ensure()
    question = host.dialogs.texts("confirm")[0]
    assert "GB" in question
    assert "pytorch.org" in question
    assert "monai>=99, from pypi.org" in question
    assert host.dialogs.pip == []
    with pytest.raises(CoralBayError, match="extension 'PyTorch'"):
        packages.ensure()
    # What the PyTorch extension brings, as far as it is used.
    (tmp_path / "PyTorchUtils.py").write_text(
        "calls = []\n"
        "class PyTorchUtilsLogic:\n"
        "    def installTorch(self, askConfirmation, torchVersionRequirement):\n"
        "        calls.append((askConfirmation, torchVersionRequirement))\n"
        "        return 'torch'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(packages, "missing", lambda: [] if host.dialogs.pip else list(lacking))
    packages.ensure()
    assert sys.modules["PyTorchUtils"].calls == [(False, ">=2.3")]
    ((_name, requirements, options),) = host.dialogs.pip
    if isinstance(requirements, list):  # through slicer.packaging
        assert requirements == ["monai>=99"]
        assert "numpy" in options["skip_packages"]
    else:
        assert requirements.startswith("monai>=99 torch==")
        assert "numpy==" in requirements


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11")
def test_requirements_are_those_of_the_library(coralbay: Any) -> None:
    import tomllib
    from CoralBaySlicerCore.setup import packages

    wanted = set(tomllib.loads((MODULE.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"])
    brought = {each for each in wanted if each.split(">")[0] in packages._KEEP}
    assert set(packages.requirements()) == wanted - brought
    assert f"torch{packages.TORCH_VERSION}" in wanted
    assert packages.missing() == []
    assert not packages._is_met("monai<1.0")
    assert not packages._is_met("no-such-package>=1")


def test_a_click_reads_no_versions_once_all_packages_are_present(coralbay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from CoralBaySlicerCore.setup import packages

    asked: list[str] = []
    real = packages._installed_version
    monkeypatch.setattr(packages, "_installed_version", lambda name: asked.append(name) or real(name))
    monkeypatch.setattr(packages, "_met", set())
    assert packages.missing() == []
    assert len(asked) == 1 + len(packages.requirements())
    asked.clear()
    assert packages.missing() == []
    assert packages.missing("no-such-package>=1") == ["no-such-package>=1"]
    assert asked == ["no-such-package"]
    # An installation may replace packages.
    with packages._installing():
        pass
    assert packages.missing() == []
    assert len(asked) > len(packages.requirements())


@pytest.mark.parametrize(
    ("found", "requirement", "expected"),
    [
        ("2.13.0+cpu", "torch>=2.3", True),
        ("2.9", "torch>=2.13", False),
        ("0.50.0", "lancedb>=0.40,<0.50", False),
        ("0.49.9", "lancedb>=0.40,<0.50", True),
        ("2.14.0.dev20261101", "torch>=2.3", True),
        (None, "torch>=2.3", False),
    ],
)
def test_versions_are_compared_as_pip_does(
    coralbay: Any, monkeypatch: pytest.MonkeyPatch, found: str | None, requirement: str, expected: bool
) -> None:
    from CoralBaySlicerCore.setup import packages

    monkeypatch.setattr(packages, "_installed_version", lambda _name: found)
    assert packages._is_met(requirement) is expected


def test_nothing_is_installed_while_slicer_runs_tests(coralbay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import slicer
    from CoralBaySlicerCore.setup import packages

    from CoralBayLib.core.errors import CoralBayError

    monkeypatch.setattr(packages, "missing", lambda: ["monai>=99"])
    monkeypatch.setattr(type(slicer.app), "testingEnabled", lambda _self: True)
    # Slicer's dialogs answer themselves then.
    host.dialogs.answer(True)
    with pytest.raises(CoralBayError, match="while Slicer runs tests"):
        packages.ensure()
    assert host.dialogs.pip == []


@pytest.mark.parametrize(("system", "machine"), [("darwin", "x86_64"), ("darwin", "arm64"), ("linux", "x86_64")])
def test_an_intel_mac_is_told_that_there_is_no_pytorch(
    coralbay: Any, monkeypatch: pytest.MonkeyPatch, system: str, machine: str
) -> None:
    from CoralBaySlicerCore.setup import packages

    from CoralBayLib.core.errors import CoralBayError

    monkeypatch.setattr(packages.sys, "platform", system)
    monkeypatch.setattr(packages.platform, "machine", lambda: machine)
    monkeypatch.setattr(packages, "missing", lambda *_: ["torch>=2.3", "monai>=1.4,<1.7"])
    host.dialogs.answer(False)
    told = "Intel processor.*2.3 or later" if (system, machine) == ("darwin", "x86_64") else "Nothing was changed"
    with pytest.raises(CoralBayError, match=told):
        packages.ensure()
    asked = host.dialogs.texts("confirm")
    assert len(asked) == (0 if "Intel" in told else 1)


def test_dependencies_that_pip_left_out_are_named_and_installed_next_time(
    coralbay: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slicer installs the dependencies of a package one by one, and goes on without those that fail."""
    from CoralBaySlicerCore.setup import packages

    from CoralBayLib.core.errors import CoralBayError

    needs = {
        "first": ["second>=2", "torch>=2", "extra-only; extra == 'more'", "elsewhere; sys_platform == 'amiga'"],
        "second": ["third"],
    }
    installed = {"torch": "2.13.0"}
    monkeypatch.setattr(packages, "_installed_version", installed.get)
    monkeypatch.setattr(packages.metadata, "requires", lambda name: needs.get(name, []))
    monkeypatch.setattr(packages, "requirements", lambda: ("first>=1",))
    monkeypatch.setattr(packages, "_met", set())
    monkeypatch.setattr(packages, "_failed", set())
    asked: list[list[str]] = []

    def install(wanted: list[str]) -> None:
        asked.append(wanted)
        installed.update({"first": "1.0", "second": "2.0"} if len(asked) == 1 else {"third": "3.0"})

    monkeypatch.setattr(packages, "_install", install)
    with pytest.raises(CoralBayError, match="Still missing: third"):
        packages.ensure()
    packages.ensure()
    assert asked == [["first>=1"], ["third"]]
    assert packages.missing() == []


def test_all_that_the_packages_need_is_here(coralbay: Any) -> None:
    from CoralBaySlicerCore.setup import packages

    assert packages._left_out(list(packages.requirements())) == []
    assert metadata.requires("monai")
