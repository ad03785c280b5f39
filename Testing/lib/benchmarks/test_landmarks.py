"""The benchmark of landmarks: points from contours, and tables from lines."""

from __future__ import annotations

import numpy as np

from CoralBayLib.imaging.grid import Grid, Volume
from Testing.benchmarks.landmarks import known, points_of
from Testing.benchmarks.tables.landmarks import write_tables
from Testing.benchmarks.versions import LANDMARKS


def test_points_are_ends_and_centers_in_mm_on_a_flipped_grid():
    grid = Grid((30, 20, 20), np.diag([-2.0, -2.0, 2.0, 1.0]))
    labels = np.zeros(grid.shape, np.uint8)
    labels[5:25, 10, 10] = 2
    labels[8:13, 4:7, 3] = 3
    points = points_of(Volume(labels, grid), {"2": "SpinalCord", "3": "RightParotid", "7": "Mandible"})
    assert set(points) == {"lower end of the cord", "upper end of the cord", "center of RightParotid"}
    assert np.allclose(points["lower end of the cord"], [-20, -20, 12])
    assert np.allclose(points["upper end of the cord"], [-20, -20, 46])
    assert np.allclose(points["center of RightParotid"], [-6, -10, 20])


def line(method: str, shots: int, error: float, version: int = 1) -> dict:
    return {
        "encoder": "coralbay-mini",
        "method": method,
        "draw": 0,
        "shots": shots,
        "patient": "pt_1",
        "errors_mm": {"carina": error},
        "results_version": version,
    }


def test_tables_hold_the_versions_that_count(tmp_path):
    lines = [line("landmarks", 1, 4.0), line("landmarks", 5, 2.0), line("landmarks", 5, 90.0, version=0)]
    text = write_tables(lines, LANDMARKS, tmp_path / "landmarks.md")
    assert "| coralbay-mini | landmarks | 4.0 / 4.0 | 2.0 / 2.0 | 1 | 1 |" in text
    assert "90.0" not in text
    assert "| carina | 4.0 / 4.0 | 2.0 / 2.0 |" in (tmp_path / "landmarks.md").read_text()
    assert known(lines) == {("coralbay-mini", 0, 1, "pt_1"), ("coralbay-mini", 0, 5, "pt_1")}
