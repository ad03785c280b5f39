"""What is unlike the others, and what comes next."""

from __future__ import annotations

import numpy as np
import pytest

import CoralBayLib as cb
from CoralBayLib.cohort.choice import choose_next
from CoralBayLib.cohort.status import ScanStatus, State
from CoralBayLib.imaging.patients.measures import measure, unlike_others, unlike_volumes
from Testing.lib.conftest import phantom, phantom_grid


def numbers(**changed):
    base = {"low_hu": -100.0, "median_hu": 40.0, "high_hu": 200.0, "body_percent": 40.0}
    return base | {"right_left_mm": 400.0, "front_back_mm": 300.0, "head_feet_mm": 500.0} | changed


@pytest.mark.parametrize("kind", ["axial", "permuted", "oblique"])
def test_extent_is_along_the_patient_and_hu_are_of_the_body(kind):
    volume = phantom(phantom_grid(kind), radius_mm=30.0)
    found = measure(volume)
    assert found["median_hu"] == pytest.approx(30, abs=2)
    if kind == "permuted":
        assert (found["right_left_mm"], found["front_back_mm"], found["head_feet_mm"]) == (90.0, 90.0, 90.0)
    if kind == "axial":
        half = cb.Volume(volume.array[:22], volume.grid.subgrid((0, 0, 0), 1, (22, *volume.grid.shape[1:])))
        assert measure(half)["head_feet_mm"] == 44.0 and measure(half)["right_left_mm"] == found["right_left_mm"]
    assert measure(cb.Volume(np.full((2, 2, 2), -1000), cb.Grid((2, 2, 2), np.eye(4))))["body_percent"] == 0


def test_a_number_far_from_the_others_is_named():
    measured = {f"s{n}": numbers(median_hu=40.0 + n) for n in range(6)}
    assert all(unlike_others(name, measured) == [] for name in measured)
    measured["odd"] = numbers(median_hu=160.0)
    (flag,) = unlike_others("odd", measured)
    assert "median" in flag and "160 HU" in flag and "about 42 HU" in flag
    assert unlike_others("s0", measured) == []
    # Too few others to say.
    assert unlike_others("odd", {k: measured[k] for k in ("odd", "s0", "s1", "s2")}) == []


def test_a_volume_far_from_the_others_is_named():
    volumes = {f"s{n}": {"liver": 1400.0 + 100 * n} for n in range(5)}
    volumes |= {"small": {"liver": 100.0}, "none": {"liver": 0.0}}
    assert "100 ml" in unlike_volumes("small", volumes)[0]
    assert "nothing was found" in unlike_volumes("none", volumes)[0]
    assert unlike_volumes("s4", volumes) == []


def scan(name, state=State.TO_DO, dice=None, flags=(), path="x"):
    return ScanStatus(name, state, path, dice, flags)


def test_the_first_scan_is_the_most_typical():
    measured = {"a": numbers(median_hu=0.0), "b": numbers(median_hu=50.0), "c": numbers(median_hu=100.0)}
    assert choose_next([scan("a"), scan("b"), scan("c")], measured).name == "b"


def test_then_low_dice_and_novelty_decide():
    measured = {"a": numbers(), "b": numbers(), "c": numbers(median_hu=120.0)}
    done = scan("a", State.ACCEPTED)
    worse = [done, scan("b", State.SUGGESTED, 0.4), scan("c", State.SUGGESTED, 0.9)]
    assert choose_next(worse, measured).name == "b"
    equal = [done, scan("b", State.SUGGESTED, 0.7), scan("c", State.SUGGESTED, 0.7)]
    assert choose_next(equal, measured).name == "c"


def test_begun_scans_come_first_and_flagged_or_missing_ones_last():
    done = scan("a", State.ACCEPTED)
    assert choose_next([done, scan("b", dice=0.1), scan("c", State.CORRECTED, 0.9)], {}).name == "c"
    assert choose_next([done, scan("b", dice=0.1, flags=("odd",)), scan("c", dice=0.9)], {}).name == "c"
    assert choose_next([done, scan("b", dice=0.1, flags=("odd",))], {}).name == "b"
    assert choose_next([done, scan("b", path="")], {}) is None
    assert choose_next([scan("b"), scan("c")], {}).name == "b"
