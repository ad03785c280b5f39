"""A scan, an encoder and prompts for the tests of commands."""

from __future__ import annotations

import numpy as np
import pytest

import CoralBayLib as cb
from CoralBayLib.cli import main
from CoralBayLib.encoders import EncoderCard, registry
from Testing.lib.conftest import PoolingEncoder

CENTRE = np.array([24.0, -30.0, 45.0])


@pytest.fixture
def ct(tmp_path, make_grid, make_phantom):
    path = tmp_path / "ct.nrrd"
    cb.write_volume(make_phantom(make_grid("oblique"), [(CENTRE, 7.0, 300.0)]), path)
    return path


@pytest.fixture
def pooling_by_name(monkeypatch):
    """The test encoder under the name 'pooling', and no weights of any other."""

    def load(weights=None, device="cpu", consent=None, *, setting=None):
        return PoolingEncoder(strides=(2, 4, 8))

    pooling = registry.EncoderEntry(EncoderCard("pooling", "Pooling", "for tests"), load)
    monkeypatch.setitem(registry._registry, "pooling", pooling)


@pytest.fixture
def prompts(tmp_path):
    points = np.concatenate([CENTRE + 3 * np.eye(3), CENTRE - 3 * np.eye(3), [[12, -30, 70], [-8, -30, 45], [12, -55, 45]]])
    path = tmp_path / "prompts.json"
    cb.Prompts(points, [1] * 6 + [0] * 3, {1: "bright spot"}).save(path)
    return path


@pytest.fixture
def run(capsys):
    """Runs a command; returns its status, stdout and stderr."""

    def command(*arguments):
        status = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return command
