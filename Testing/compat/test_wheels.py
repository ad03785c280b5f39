"""All that the module installs has wheels for Slicer's Python, by the metadata of the package index."""

from __future__ import annotations

import sys

import pytest
from packaging.requirements import Requirement

from . import wheels

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11"),
]

BROUGHT = ("hf-xet", "pyyaml", "pyarrow", "pandas")
"""Compiled packages that the pins bring with them: two with huggingface_hub, one with lancedb, one with lifelines."""


def without_wheel(system: str, python: tuple[int, int]) -> list[str]:
    """The requirements for which pip would not take a wheel."""
    supported = wheels.tags(python, wheels.platforms()[system])
    wanted = [*wheels.pins(), *map(Requirement, BROUGHT)]
    try:
        return [str(each) for each in wanted if not wheels.chosen(each, python, supported)[1]]
    except wheels.IndexUnreachableError as error:
        pytest.skip(f"the package index cannot be asked: {error}")


@pytest.mark.parametrize("system", ["Windows", "Linux", "macOS arm64"])
@pytest.mark.parametrize("python", sorted(set(wheels.PYTHONS.values())))
def test_every_pin_has_a_wheel(system: str, python: tuple[int, int]) -> None:
    assert without_wheel(system, python) == []


@pytest.mark.parametrize("python", sorted(set(wheels.PYTHONS.values())))
def test_on_intel_macs_pytorch_and_lancedb_are_missing(python: tuple[int, int]) -> None:
    """As README.md, docs/troubleshooting.md and `setup/packages.py` say. If this fails, these words are to be changed."""
    assert [Requirement(each).name for each in without_wheel("macOS x86_64", python)] == ["torch", "lancedb"]
    supported = wheels.tags(python, wheels.platforms()["macOS x86_64"])
    newest, has_wheel = wheels.chosen(Requirement("torch"), python, supported)
    assert str(newest).startswith("2.2.") and has_wheel


def test_a_release_without_a_wheel_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [
        "some-1.0-cp312-cp312-win_amd64.whl",
        "some-1.0.tar.gz",
        "some-1.1.tar.gz",
        "some-1.2-cp313-cp313-win_amd64.whl",
        "some-2.0-py3-none-any.whl",
        "some-1.3rc1-py3-none-any.whl",
        "some-not-a-version.tar.gz",
    ]
    files = [{"filename": each} for each in names]
    files += [{"filename": "some-1.4-py3-none-any.whl", "yanked": "broken"}]
    files += [{"filename": "some-1.5-py3-none-any.whl", "requires-python": ">=3.13"}]
    monkeypatch.setattr(wheels, "files_of", lambda _name: files)
    supported = wheels.tags((3, 12), ["win_amd64"])
    found = [wheels.chosen(Requirement(each), (3, 12), supported) for each in ("some<2", "some<1.1", "some", "some>=3")]
    assert [(str(version), has_wheel) for version, has_wheel in found] == [
        ("1.1", False),
        ("1.0", True),
        ("2.0", True),
        ("None", False),
    ]


def test_an_index_that_does_not_answer_is_a_reason_to_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "file:///no/such/index")
    wheels.files_of.cache_clear()
    with pytest.raises(wheels.IndexUnreachableError, match="not an address of the web"):
        wheels.files_of("some")
