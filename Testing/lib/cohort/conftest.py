"""A cohort of eight phantoms."""

from __future__ import annotations

import pytest

import CoralBayLib as cb

from .stand_in import STRUCTURES, StandIn, write_scans


@pytest.fixture
def scans(tmp_path):
    return write_scans(tmp_path / "scans")


@pytest.fixture
def learner():
    return StandIn()


@pytest.fixture
def cohort(tmp_path, scans, learner):
    made = cb.Cohort.create(tmp_path / "cohort", STRUCTURES, "Spots")
    added, left_out = made.add([scans])
    assert len(added) == 8 and not left_out
    return cb.Cohort.open(tmp_path / "cohort", learner=learner)
