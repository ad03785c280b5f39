"""The benchmark of clicks: where they fall, how sessions are scored, and what the tables count."""

from __future__ import annotations

import numpy as np
import pytest

from CoralBayLib.imaging.grid import Grid, Volume
from Testing.benchmarks.tables import summary
from Testing.benchmarks.tables.clicks import COMMON, area, error, falls, mean, shared, write_tables

GRID = Grid((20, 20, 20), np.diag([2.0, 2.0, 2.0, 1.0]))


def line(method: str = "ours", scan: str = "one", structure: str = "liver", seed: int = 0, **other) -> dict:
    """A session."""
    made = {
        "method": method,
        "results_version": 1,
        "protocol": "clicks",
        "scan": scan,
        "structure": structure,
        "seed": seed,
        "jitter_mm": 3.0,
        "region": "chest",
        "millilitres": 5.0,
        "dice": [0.5, 0.8, 0.77],
        "estimate": [0.6, 0.8, 0.7],
        "signs": "++-",
        "refused": 0,
        "seconds": [0.1, 0.4],
        "machine": "Linux, 1 threads",
        "versions": {},
    }
    return made | other


def test_falls_are_those_of_clicks_that_were_made():
    assert falls(line()).tolist() == [-30.0, 3.0]
    assert falls(line(dice=[0.5, 0.9, 0.85, 0.85, 0.85], signs="+-+")).tolist() == [-40.0, 5.0]
    assert falls(line(protocol="box", dice=[0.9, 0.85, 0.88], signs="+-")).tolist() == [5.0, -3.0]
    assert falls(line(dice=[0.82, 0.8], signs="++")).tolist() == [2.0]  # not 1.9999 or 2.0001


def test_area_is_that_of_the_challenge():
    assert area([0.1, 1.0, 1.0, 1.0, 1.0, 1.0]) == 4.0
    assert area([0.0, 0.2, 0.4, 0.6, 0.8, 1.0]) == pytest.approx(2.4)


def test_a_structure_counts_once_however_many_seeds_it_has():
    lines = [line(seed=0, dice=[0.2]), line(seed=1, dice=[0.4]), line(structure="spleen", dice=[0.9])]
    assert mean(lines, lambda each: each["dice"][0]) == pytest.approx(0.6)
    assert np.isnan(mean(lines, lambda each: None))


def test_the_error_of_the_estimate_is_that_after_the_click():
    assert error(line(), 3) == pytest.approx(0.07)
    assert error(line(protocol="box"), 1) == pytest.approx(0.0)
    assert error(line(), 5) is None and error(line(estimate=[None] * 3), 1) is None


def test_only_sessions_that_all_methods_have_are_compared():
    by, count = shared([line(), line(seed=1), line("theirs")], ["theirs", "ours", "missing"])
    assert list(by) == ["theirs", "ours"] and count == 2
    assert [each["seed"] for each in by["ours"]] == [0]
    assert shared([line(), line("theirs", seed=1)], ["ours", "theirs"]) == ({}, 2)


def test_sessions_of_one_method_alone_are_shown_too(tmp_path):
    lines = [line(), line(seed=1, dice=[0.1, 0.2, 0.3]), line("theirs")]
    text = write_tables(lines, {"theirs": 1, "ours": 1}, [], tmp_path / "clicks.md")
    whole, common = text.split(f"## Held out: clicks alone, {COMMON}")
    assert "| ours | 0.300 | 0.500 | 0.535 |" in whole and "theirs" not in whole.split("## Held out")[1]
    assert "| ours | 0.500 | 0.800 | 0.770 |" in common and "1 of 2 sessions are left out" in common
    short = summary.clicks(tmp_path)
    assert "| ours | 0.300 |" in short and f"after so many clicks alone, {COMMON}:" in short and "| theirs | 0.500 |" in short


def test_tables_keep_tuned_scans_apart(tmp_path):
    box = {"protocol": "box", "dice": [0.4, 0.5, 0.6, 0.7, 0.8, 0.9], "nsd": [0.3, 0.4, 0.5, 0.6, 0.7, 0.8], "signs": "+++++"}
    lines = [line(), line(scan="two", dice=[0.6, 0.9, 0.9], region="abdomen"), line(seed=1, results_version=0)]
    lines += [line(scan="two", **box, estimate=[None] * 6)]
    file = tmp_path / "clicks.md"
    text = write_tables(lines, {"ours": 1}, ["one"], file)
    assert text.strip() == file.read_text(encoding="utf-8").strip()
    held, tuned = text.split("## Tuned on: clicks alone")
    assert "| ours | 0.600 | 0.900 | 0.900 |" in held and "| abdomen | 1 | ours | 0.600 " in held
    assert "| ours | 0.400 | 0.500 | 0.600 | 0.700 | 0.800 | 0.900 | 2.800 |" in held
    assert "| ours | 0.300 | 0.400 | 0.500 | 0.600 | 0.700 | 0.800 | 2.400 |" in held
    assert "| ours | 2 | 1 (50.0%) | 0 (0.0%) | 3.0 |" in tuned
    assert "| ours | 0.100 | 0.000 | 0.070 | - |" in tuned
    assert "## Tuned on: a box" not in text
    short = summary.clicks(tmp_path)
    assert "0.600 | 0.900 | 0.900" in short and "2.800" in short and "2.400" in short and "0.500 | 0.800 | 0.770" not in short


def test_without_held_out_scans_the_page_says_so(tmp_path):
    assert summary.clicks(tmp_path) == "Not measured yet."
    write_tables([line()], {"ours": 1}, ["one"], tmp_path / "clicks.md")
    assert summary.clicks(tmp_path) == "Not measured yet on scans that nothing was tuned on."


@pytest.fixture
def sessions():
    pytest.importorskip("sklearn")
    from Testing.benchmarks import click_sessions

    return click_sessions


def ball(center: tuple[int, int, int], radius: float) -> np.ndarray:
    """A mask on the grid."""
    away = np.linalg.norm(np.indices(GRID.shape) - np.reshape(center, (3, 1, 1, 1)), axis=0)
    return away <= radius


def test_a_click_goes_to_the_middle_of_the_largest_error(sessions):
    truth, wrong = ball((6, 6, 6), 4), ball((15, 15, 15), 3)
    first = sessions.largest_error(truth, wrong, GRID)
    assert first.missing and first.middle.tolist() == [6, 6, 6]
    second = sessions.largest_error(truth, truth & ~ball((6, 6, 6), 2) | wrong, GRID)
    assert not second.missing and second.middle.tolist() == [15, 15, 15]
    assert sessions.largest_error(truth, truth, GRID) is None
    near = second.around(GRID, second.middle, 3.0)
    assert len(near) == 19 and wrong[tuple(near.T)].all()  # within 1.5 voxels: the voxel, its 6 sides and its 12 edges


def test_a_box_holds_whole_voxels(sessions):
    truth = np.zeros(GRID.shape, np.uint8)
    truth[3:5, 6:9, 10] = 1
    box = sessions.tight_box(Volume(truth, GRID))
    assert box.size_mm.tolist() == [2.0, 6.0, 4.0] and box.center_ras.tolist() == [20.0, 14.0, 7.0]


def test_surface_dice_knows_its_tolerance(sessions):
    pytest.importorskip("monai")
    truth, moved = np.zeros(GRID.shape, bool), np.zeros(GRID.shape, bool)
    truth[4:14, 4:14, 4:14] = True
    moved[4:14, 4:14, 5:15] = True
    assert sessions.surface_dice(truth, truth, GRID) == 1.0
    assert sessions.surface_dice(truth, moved, GRID) == 1.0
    moved[:] = False
    moved[4:14, 4:14, 7:17] = True
    assert 0.5 < sessions.surface_dice(truth, moved, GRID) < 0.8
    assert sessions.surface_dice(truth, np.zeros_like(truth), GRID) == 0.0


def test_a_session_ends_where_no_error_is_left_and_survives_a_refusal(sessions):
    from types import SimpleNamespace

    from CoralBayLib.core.errors import PromptError

    truth = Volume(ball((8, 8, 8), 5).astype(np.uint8), GRID)
    task = SimpleNamespace(coarse=truth, truth=truth, names=("liver",), scan=SimpleNamespace(names={4: "liver"}))
    asked = []

    def method(given):
        asked.append(given)
        if len(asked) == 1:
            raise PromptError("No.")
        found = truth.array if len(asked) == 3 else 1 - truth.array
        return lambda grid: found, 0.25

    found = sessions.run(task, method, "clicks", 0, 5, 3.0)
    assert found["dice"] == [0.0, 0.0, 1.0, 1.0, 1.0] and found["estimate"] == [None, 0.25, 0.25, 0.25, 0.25]
    assert found["signs"] == "++-" and found["refused"] == 1 and "nsd" not in found
    last = asked[-1]
    assert last.points.labels.tolist() == [1, 1, 0]
    assert truth.nearest_values(last.points.points_ras).tolist() == [1, 1, 0]
    assert (truth.nearest_values(last.balls.points_ras) == last.balls.labels).all() and len(last.balls) > 20
    assert np.linalg.norm(last.points.points_ras[0] - 16.0) <= 3.0


def test_scans_have_regions():
    pytest.importorskip("sklearn")
    from Testing.benchmarks import clicks

    known = {"pt_2": "head and neck", "sample": "chest", "crlm1004": "abdomen", "sts001": "limb and pelvis"}
    assert {name: clicks.region_of(name, {}) for name in known} == known
    assert clicks.region_of("other", {}) is None and clicks.region_of("pt_2", {"pt_2": "chest"}) == "chest"
