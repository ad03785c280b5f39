"""A cohort with the real probe, on phantoms and a quick encoder."""

from __future__ import annotations

import json

import pytest

import CoralBayLib as cb
from CoralBayLib.cohort import State
from Testing.lib.conftest import PoolingEncoder

from .stand_in import STRUCTURES, make_scan, write_scans

pytestmark = pytest.mark.slow


def test_the_probe_learns_from_what_is_accepted(tmp_path):
    write_scans(tmp_path / "scans", 4)
    cb.Cohort.create(tmp_path / "cohort", STRUCTURES).add([tmp_path / "scans"])
    cohort = cb.Cohort.open(tmp_path / "cohort", PoolingEncoder((2, 4, 8), (3.0, 3.0, 3.0)), cb.Store())
    for number in range(2):
        # In the second scan the dark spot was not looked for.
        cohort.accept(f"scan{number}", make_scan(number)[1], structures=STRUCTURES[: 2 - number])
    probe = cb.Probe.load(cohort.probe)
    assert sorted(probe.names_.values()) == sorted(STRUCTURES)
    path = cohort.suggest("scan2")
    labelmap, segments = cb.read_segmentation(path)
    assert [segment.name for segment in segments] == STRUCTURES
    assert labelmap.grid.same_as(make_scan(2)[0].grid)
    status = next(scan for scan in cohort.status() if scan.name == "scan2")
    assert status.state is State.SUGGESTED and 0 < status.estimated_dice <= 1
    record = json.loads(path.with_name("scan2.1.json").read_text())
    assert record["patients"] == 2 and set(record["estimated_dice"]) == set(STRUCTURES)
    cohort.accept("scan2", make_scan(2)[1])
    (point,) = cohort.learning_curve()
    assert point.patients == 2
    learned = json.loads(cohort.probe.with_name(cohort.probe.name.replace(".safetensors", ".json")).read_text())["learned"]
    assert [name for name, _ in learned] == ["scan0", "scan1", "scan2"]
