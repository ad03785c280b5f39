"""One host for all tests of the module that run in a process: starting it costs seconds."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

import host


@pytest.fixture(scope="session")
def app() -> Iterator[Any]:
    """The running application."""
    yield host.start()
    host.close()


@pytest.fixture(autouse=True)
def clean(app: Any) -> Iterator[None]:
    """The host as it was started before each test, and no unhandled exception after it."""
    host.reset()
    yield
    host.process_events()
    failures, host.unhandled[:] = "\n".join(host.unhandled), []
    assert not failures, failures


@pytest.fixture(scope="session")
def example_path() -> Path:
    """The example module's file."""
    return Path(host.__file__).parent / "example" / "HostExample.py"


@pytest.fixture
def example(app: Any, example_path: Path) -> Iterator[Any]:
    """The example module, selected."""
    yield host.load_module(example_path)
    host.unload_module("HostExample")


@pytest.fixture
def make_volume(app: Any) -> Any:
    """Makes a volume with a bright box, 64 x 56 x 48 voxels, with the given direction matrix."""

    def make(ijk_to_ras: np.ndarray | None = None, name: str = "CT") -> Any:
        import slicer

        if ijk_to_ras is None:
            ijk_to_ras = np.array([[-2.0, 0, 0, 64], [0, -2, 0, 56], [0, 0, 2.5, -60], [0, 0, 0, 1]])
        voxels = np.full((48, 56, 64), -200, np.int16)
        voxels[12:36, 14:42, 16:48] = 300
        volume = slicer.util.addVolumeFromArray(voxels, ijkToRAS=ijk_to_ras, name=name)
        volume.CreateDefaultDisplayNodes()
        volume.GetDisplayNode().SetAutoWindowLevel(False)
        volume.GetDisplayNode().SetWindowLevelMinMax(-200, 1000)
        return volume

    return make


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    # All results are in and printed.
    host.leave(_status)


_status = 0


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    global _status
    _status = int(exitstatus)


from Testing.module.coralbay_fixtures import *  # noqa: E402, F403
