"""The shape of the code: which room may import which, and no circle of imports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def test_imports_keep_the_contracts():
    """The contracts are those of pyproject.toml; imports inside functions and for type checking count."""
    pytest.importorskip("importlinter", reason="the developer's package import-linter is not installed")
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "CoralBaySlicer")}
    command = [sys.executable, "-c", code, "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr
