"""What the command line says can be done about an error."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from CoralBayLib.cli.remedies import remedy_text
from CoralBayLib.core import requirements
from CoralBayLib.core.devices import describe
from CoralBayLib.core.errors import CoralBayError
from CoralBayLib.library.ray_workers import RayWorkers
from CoralBayLib.library.storage.lance import import_lancedb
from CoralBayLib.scan_probes import model

PYPROJECT = Path(__file__).resolve().parents[3] / "pyproject.toml"


@pytest.mark.parametrize(
    ("package", "use"),
    [
        ("lancedb", import_lancedb),
        ("ray", lambda: RayWorkers(object)),
        ("lifelines", lambda: model._cox(np.zeros((2, 1)), None, 1.0)),
    ],
)
def test_a_missing_package_is_named_with_the_versions_that_fit(monkeypatch, package, use):
    """They are those that `pip install '.[...]'` installs."""
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(CoralBayError) as caught:
        use()
    requirement = caught.value.details["package"]
    assert requirement.startswith(f"{package}>=")
    assert f'["{requirement}"]' in PYPROJECT.read_text(encoding="utf-8")
    assert f"pip install '{requirement}'" in remedy_text(caught.value, {"json"})


@pytest.mark.parametrize("name", [name for name in vars(requirements) if name.isupper()])
def test_requirements_of_features_are_the_extras(name):
    """pip installs what errors and the module ask for."""
    assert f'= ["{getattr(requirements, name)}"' in PYPROJECT.read_text(encoding="utf-8")


@pytest.mark.parametrize(("count", "words"), [(1, "CPU, 1 thread ("), (2, "CPU, 2 threads (")])
def test_one_thread_is_one_thread(monkeypatch, count, words):
    torch = pytest.importorskip("torch", reason="devices are torch's")
    monkeypatch.setattr(torch, "get_num_threads", lambda: count)
    assert describe(torch.device("cpu")).startswith(words)
